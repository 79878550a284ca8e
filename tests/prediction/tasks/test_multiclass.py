"""Stages D and E of multiclass models."""

import numpy as np

from service.core.decision import expected_cost
from service.runtime.registry import Registry
from tests.every_task import ROWS, Case, answer_of, own_costs, rows_of


def test_every_row_is_decided_by_its_own_policy(every_task: Registry) -> None:
    query = Case("letters", "decide", {"policy": ("walk", "fly", "fly") * 4}).query(every_task)
    answer = answer_of(query, rows_of(query.model))
    walk, fly = answer.decided
    np.testing.assert_array_equal(walk.rows, np.arange(0, ROWS, 3))
    np.testing.assert_array_equal(np.sort(np.concatenate([walk.rows, fly.rows])), np.arange(ROWS))
    risks = expected_cost(answer.log_probs[fly.rows], fly.policy.cost)
    np.testing.assert_allclose(fly.decisions.risks, risks, rtol=1e-12, atol=1e-12)


def test_costs_may_differ_by_row(every_task: Registry) -> None:
    policy = own_costs(ROWS)
    query = Case("letters", "decide", {"policy": policy}).query(every_task)
    answer = answer_of(query, rows_of(query.model))
    risks = expected_cost(answer.log_probs, policy.cost)
    np.testing.assert_allclose(answer.decided[0].decisions.risks, risks, rtol=1e-12, atol=1e-12)


def test_a_prevalence_moves_probabilities_row_by_row(every_task: Registry) -> None:
    query = Case("letters", "predict", {"site": ("north", "south") * 6}).query(every_task)
    rows = rows_of(query.model)
    both = answer_of(query, rows).probabilities
    for first, site in enumerate(("north", "south")):
        alone = answer_of(Case("letters", "predict", {"site": site}).query(every_task), rows).probabilities
        np.testing.assert_allclose(both[first::2], alone[first::2], rtol=1e-12)


def test_without_a_request_for_decisions_there_are_none(every_task: Registry) -> None:
    query = Case("letters", "predict").query(every_task)
    assert query.stages.chosen == ()
    assert answer_of(query, rows_of(query.model)).decided == ()
