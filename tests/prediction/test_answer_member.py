"""What descriptions of members come to for one query."""

import numpy as np
import pytest

from service.prediction.answer_member import ABSENT, AnswerScope, Group, Member, Plan, picked, plan
from service.prediction.query import scope_of
from service.runtime.registry import Registry
from tests.every_task import ROWS, Case, answer_of, rows_of

LISTS = {"label", "probabilities", "decision.action"}
DECIDED = ("probabilities", "ood", "decision")


def planned(registry: Registry, name: str) -> Plan:
    return Case(name, "decide").query(registry).plan(DECIDED)


def scope(registry: Registry) -> AnswerScope:
    return scope_of(Case("letters", "decide").query(registry))


def test_names_of_axes_are_filled_in_and_the_last_stays_an_axis(every_task: Registry) -> None:
    letters = {column.name: column for column in planned(every_task, "letters").columns}
    assert {"ood.scores.nll.p_value", "ood.scores.energy.flagged", "decision.risks"} <= set(letters)
    assert letters["probabilities"].axis == ("a", "b.c", "d")
    assert letters["decision.risks"].axis == ("go", "ask")
    assert letters["label"].names == ("a", "b.c", "d")


def test_every_label_with_costs_has_decisions_with_its_own_actions(every_task: Registry) -> None:
    columns = {column.name: column for column in planned(every_task, "complaints").columns}
    assert columns["decisions.ache.risks"].axis == ("wait", "treat", "ask")
    assert columns["decisions.burn.risks"].axis == ("wait", "treat")
    assert not any(name.startswith("decisions.chill") for name in columns)
    assert (columns["decisions.ache.risks"].within, columns["decisions.ache.risks"].listed) == (2, False)


def test_positions_are_lists(every_task: Registry) -> None:
    columns = {column.name: column for column in planned(every_task, "motion").columns}
    assert {name for name, column in columns.items() if column.positions} >= {
        "label",
        "probabilities",
        "decision.action",
    }
    assert not columns["ood.flagged"].positions


def test_a_group_is_left_out_of_answers_that_lack_it(every_task: Registry) -> None:
    group = Group(
        "none",
        (Member("of", "number", "A number."),),
        lambda *_: None,
        when=lambda scope: "b.c" not in scope.model.classes,
    )
    assert plan([group], scope(every_task)).columns == ()


@pytest.mark.parametrize("name", ["letters", "complaints", "motion"])
def test_values_have_one_entry_per_row_or_position(every_task: Registry, name: str) -> None:
    query = Case(name, "decide").query(every_task)
    own, answer = query.plan(DECIDED), answer_of(query, rows_of(query.model))
    positions = 0 if answer.posterior.lengths is None else int(answer.posterior.lengths.sum())
    for column, values in zip(own.columns, own.all_values(answer, ()), strict=True):
        if isinstance(values, np.ndarray | list):
            assert len(values) == (positions if column.positions else ROWS), column.name


def test_a_pick_is_the_number_of_the_chosen_name(every_task: Registry) -> None:
    query = Case("letters", "decide", {"policy": "ponder"}).query(every_task)
    own, answer = query.plan(DECIDED), answer_of(query, rows_of(query.model))
    found = {column.name: values for column, values in zip(own.columns, own.all_values(answer, ()), strict=True)}
    risks, taken = found["decision.risks"], found["decision.action"]
    np.testing.assert_array_equal(found["decision.risk"], risks[np.arange(ROWS), taken])
    missing = found["decision.overridden.action"] == ABSENT
    np.testing.assert_array_equal(np.isnan(found["decision.overridden.risk"]), missing)
    assert 0 < missing.sum() < ROWS


def test_what_is_picked_of_no_name_is_no_number() -> None:
    np.testing.assert_array_equal(picked(np.array([[1.0], [2.0]]), np.array([ABSENT, 0])), [np.nan, 2.0])
