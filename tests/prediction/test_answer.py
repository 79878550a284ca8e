"""Parts of answers: the same as an answer to these rows alone."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from service.prediction.answer import Answer, Part, parted
from service.runtime.registry import Registry
from tests.every_task import ROWS, SESSION, Case, answer_of, rows_of

MODELS = ("letters", "complaints", "motion")


def decided(registry: Registry, name: str, **options: Any) -> Answer:
    """A decided answer to all rows."""
    query = Case(name, "decide", options).query(registry)
    return answer_of(query, rows_of(query.model))


def arrays(answer: Answer) -> dict[str, Any]:
    """Every array of an answer."""
    found = {field.name: getattr(answer.posterior, field.name) for field in fields(answer.posterior)}
    found |= {"shifted": answer.log_probs, "sets": None if answer.sets is None else answer.sets.members}
    for place, one in enumerate(answer.decided):
        found |= {f"{place}.{field.name}": getattr(one.decisions, field.name) for field in fields(one.decisions)}
        found |= {f"{place}.total": None if one.plan is None else one.plan.total, f"{place}.rows": one.rows}
    return found


@pytest.mark.parametrize("rows", [slice(0, 1), slice(3, 7), slice(0, ROWS), slice(ROWS - 1, ROWS)])
@pytest.mark.parametrize("name", MODELS)
def test_a_part_of_an_answer_is_the_answer_to_these_rows(every_task: Registry, name: str, rows: slice) -> None:
    query = Case(name, "decide").query(every_task)
    alone = arrays(answer_of(query, rows_of(query.model)[rows]))
    part = arrays(answer_of(query, rows_of(query.model))[rows])
    for member, values in alone.items():
        if values is not None:
            np.testing.assert_allclose(part[member], values, rtol=1e-6, atol=1e-9, err_msg=member)
    assert {member for member, values in part.items() if values is None} == {
        member for member, values in alone.items() if values is None
    }


def test_parts_follow_each_other(every_task: Registry) -> None:
    answer = decided(every_task, "letters")
    parts = [Part("a", 2), Part("b", ROWS - 2)]
    found = list(parted(answer, parts))
    assert [part for _, part in found] == parts
    assert [len(own) for own, _ in found] == [2, ROWS - 2]
    np.testing.assert_array_equal(found[1][0].posterior.scores, answer.posterior.scores[2:])
    assert next(parted(answer, parts[:1]))[0] is answer


@pytest.mark.parametrize("options", [{"session": SESSION}, {"fdr": 0.2}])
def test_what_is_of_all_rows_has_no_parts(every_task: Registry, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of all rows of a request"):
        decided(every_task, "letters", **options)[0:2]


def test_rows_with_a_policy_each_are_an_answer_for_every_policy(every_task: Registry) -> None:
    answer = decided(every_task, "letters", policy=("walk", "fly", "fly") * 4, coverage=0.8, fdr=0.3, session=SESSION)
    walk, fly = answer.by_policy()
    assert (len(walk), len(fly)) == (4, 8)
    assert [own.decided[0].policy.name for own in (walk, fly)] == ["walk", "fly"]
    for own in (walk, fly):
        rows = own.decided[0].rows
        np.testing.assert_array_equal(own.probabilities, answer.probabilities[rows])
        assert own.sets is not None
        assert answer.sets is not None
        np.testing.assert_array_equal(own.sets.members, answer.sets.members[rows])
        assert own.monitored is not None
        assert answer.monitored is not None
        np.testing.assert_array_equal(own.monitored.alarm, answer.monitored.alarm[rows])


def test_some_rows_of_a_part_keep_their_places_and_ids() -> None:
    part = Part("a", 3, ["x", "y", "z"]).of([2, 0])
    assert (part.rows, part.ids, part.places) == (2, ["z", "x"], [2, 0])
    assert Part("a", 3).of([1]).ids is None
