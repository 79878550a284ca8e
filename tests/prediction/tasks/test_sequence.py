"""Stages D and E of sequence models."""

import numpy as np
import pytest

from service.core.sequence import lengths_of
from service.errors import InvalidParameters, PrevalenceUnavailable
from service.runtime.registry import Registry
from tests.every_task import Case, answer_of, rows_of


def test_every_position_is_decided_and_a_path_has_a_price(every_task: Registry) -> None:
    query = Case("motion", "decide", {"policy": "path"}).query(every_task)
    answer = answer_of(query, rows_of(query.model))
    (decided,) = answer.decided
    lengths = lengths_of(answer.posterior)
    assert len(decided.decisions.action) == lengths.sum()
    assert decided.plan is not None
    actions = decided.decisions.action.reshape(len(lengths), -1)
    np.testing.assert_array_equal(decided.plan.switches, (np.diff(actions, axis=1) != 0).sum(axis=1))


def test_the_request_may_set_the_price_of_a_switch(every_task: Registry) -> None:
    query = Case("motion", "decide", {"switch": 2.5}).query(every_task)
    assert [policy.switch for policy in query.stages.chosen] == [2.5]
    assert [policy.switch for policy in Case("motion", "decide").query(every_task).stages.chosen] == [None]


@pytest.mark.parametrize("prevalence", [{"rest": 0.5, "move": 0.5}])
def test_a_smoother_and_a_prevalence_exclude_each_other(every_task: Registry, prevalence: dict[str, float]) -> None:
    with pytest.raises(PrevalenceUnavailable, match="smoother = 'none'"):
        Case("motion", "predict", {"prevalence": prevalence, "smoother": "jsd"}).query(every_task)


def test_smoothing_changes_what_neighbours_contradict(every_task: Registry) -> None:
    rows = rows_of(every_task.model("motion"))
    alone, smoothed = (
        answer_of(Case("motion", "predict", {"smoother": smoother}).query(every_task), rows).log_probs
        for smoother in ("none", "jsd")
    )
    assert alone.shape == smoothed.shape
    assert np.abs(np.exp(alone) - np.exp(smoothed)).max() > 0.1


def test_an_unknown_policy_is_refused(every_task: Registry) -> None:
    with pytest.raises(InvalidParameters, match="there are: alone, path"):
        Case("motion", "decide", {"policy": "run"}).query(every_task)
