"""What is known of a request before it has rows."""

from typing import Any

import numpy as np
import pytest

from service.errors import CoverageUnavailable, InvalidParameters
from service.prediction.query import groups_of
from service.runtime.registry import Registry
from tests.every_task import ROWS, SESSION, Case, own_costs


@pytest.mark.parametrize(
    ("options", "joins"),
    [
        ({}, True),
        ({"site": "north", "coverage": 0.8, "top_k": 1, "policy": "fly"}, True),
        ({"policy": own_costs()}, True),
        ({"policy": own_costs(ROWS)}, False),
        ({"policy": ("walk", "fly") * 6}, False),
        ({"site": ("north", "south") * 6}, False),
        ({"fdr": 0.1}, False),
        ({"session": SESSION}, False),
    ],
)
def test_requests_are_answered_together_unless_an_answer_is_of_all_rows_or_options_are_by_row(
    every_task: Registry, options: dict[str, Any], *, joins: bool
) -> None:
    assert Case("letters", "decide", options).query(every_task).joins is joins


def test_answers_speak_of_the_source_prevalence_unless_another_is_requested(every_task: Registry) -> None:
    model = every_task.model("letters")
    assert Case("letters", "predict").query(every_task).target is model.source
    target = Case("letters", "predict", {"site": "north"}).query(every_task).target
    assert target is not None
    np.testing.assert_allclose(target, [0.8, 0.1, 0.1])


def test_a_policy_per_row_is_a_query_for_each_policy(every_task: Registry) -> None:
    query = Case("letters", "decide", {"policy": ("fly", "walk", "fly")}).query(every_task)
    assert [own.options.policy for own in query.by_policy()] == ["fly", "walk"]
    shared = Case("letters", "decide", {"policy": "fly"}).query(every_task)
    assert shared.by_policy() == [shared]


def test_options_are_checked_against_the_model(every_task: Registry) -> None:
    with pytest.raises(InvalidParameters, match="there are: walk, fly, ponder"):
        Case("letters", "decide", {"policy": "run"}).query(every_task)
    with pytest.raises(CoverageUnavailable, match="uncalibrated"):
        Case("raw", "predict", {"coverage": 0.9}).query(every_task)


def test_topics_name_groups_of_all_tasks_and_of_one() -> None:
    paths = [group.path for group in groups_of("multilabel", ("identity", "ood", "decision"))]
    assert paths == ["", "ood", "ood.scores.{score}", "decisions.{label}"]
