"""Stages D and E of multilabel models."""

import numpy as np

from service.core.decision import expected_cost
from service.runtime.registry import Registry
from tests.every_task import Case, answer_of, rows_of


def test_every_label_with_costs_is_decided_by_its_own(every_task: Registry) -> None:
    query = Case("complaints", "decide").query(every_task)
    answer = answer_of(query, rows_of(query.model))
    assert query.stages.labels == ("ache", "burn")
    assert [decided.label for decided in answer.decided] == ["ache", "burn"]
    for m, decided in enumerate(answer.decided):
        risks = expected_cost(answer.log_probs[:, m], decided.policy.cost)
        np.testing.assert_allclose(decided.decisions.risks, risks, rtol=1e-12, atol=1e-12)


def test_a_site_moves_the_odds_of_every_label(every_task: Registry) -> None:
    rows = rows_of(every_task.model("complaints"))
    before, after = (
        answer_of(Case("complaints", "predict", options).query(every_task), rows).log_probs
        for options in ({}, {"site": "ward"})
    )
    moved = (after[..., 1] - after[..., 0]) - (before[..., 1] - before[..., 0])
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-9)
    source = every_task.model("complaints").source
    assert source is not None
    shares = np.array([0.9, 0.1, 0.5])
    expected = np.log(shares / (1 - shares)) - np.log(source[:, 1] / source[:, 0])
    np.testing.assert_allclose(moved[0], expected, atol=1e-9)
