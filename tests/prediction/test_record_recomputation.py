"""Probabilities and actions follow from a record and its basis alone, for every kind of request."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from service.core.sequence import flat
from service.prediction.record_layout import places
from service.prediction.record_recomputation import KEPT, NO_DECISION, differences, recomputed
from service.prediction.records import Content
from service.prediction.sessions import Session
from service.record_errors import StoreDamaged
from service.runtime.registry import Registry
from tests.every_task import CASES, Case
from tests.prediction.test_records import read, recorded_case


def basis_of(content: Content) -> Any:
    return orjson.loads(next(one.content for one in content.recording.documents if one.kind == "basis"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_probabilities_and_actions_follow_from_the_record(case: Case, every_task: Registry) -> None:
    _, answer, content = recorded_case(case, every_task)
    recorded = read(content)
    found = recomputed(recorded, basis_of(content))
    lengths = answer.posterior.lengths
    expected = answer.log_probs if lengths is None else flat(answer.log_probs, lengths)
    assert found.log_probs is not None
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-4)
    assert found.reason == (None if case.verb == "decide" else NO_DECISION)
    assert bool(found.actions) == (case.verb == "decide")
    assert differences(recorded, found) == []


def test_other_costs_are_another_action(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    basis = basis_of(content)
    basis["policies"][0]["costs"] = [[-cost for cost in row] for row in basis["policies"][0]["costs"]]
    recorded = read(content)
    assert differences(recorded, recomputed(recorded, basis)) == ["decision.action"]


def test_ties_as_wide_as_they_were_decide_again(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    basis, recorded = basis_of(content), read(content)
    basis["policies"][0]["ties"] = 1e9  # everything is tied: the first action wins
    found = recomputed(recorded, basis).actions["decision.action"]
    assert set(found) <= {basis["policies"][0]["actions"][0], *recorded.texts("decision.action")}
    assert differences(recorded, recomputed(recorded, basis)) == ["decision.action"]


def test_an_alarm_of_a_session_takes_a_row_as_a_flag_does(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide", {"policy": "ponder", "session": Session(50.0)}), every_task)
    recorded = read(content)
    blocks = {block.name: at for block, at in zip(recorded.layout.rows, places(recorded.layout.rows), strict=True)}
    alarmed = recorded.table.rows["flags"].copy()
    (row, *_) = np.flatnonzero(recorded.values("ood.flagged") == 0)
    alarmed[row, blocks["session.alarm"]] = 1
    table = replace(recorded.table, rows={**recorded.table.rows, "flags": alarmed})
    found = [
        recomputed(one, basis_of(content)).actions["decision.action"]
        for one in (recorded, replace(recorded, table=table))
    ]
    assert [index for index, pair in enumerate(zip(*found, strict=True)) if len(set(pair)) > 1] == [row]
    assert found[1][row] == "ask"


@pytest.mark.parametrize("bad", [{}, {"task": "other"}, {"task": "multiclass"}])
def test_a_basis_of_something_else_is_damage(every_task: Registry, bad: Any) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    with pytest.raises(StoreDamaged):
        recomputed(read(content), bad)


def test_nothing_is_computed_from_a_part_of_the_logits(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    recorded = read(content)
    found = recomputed(replace(recorded, layout=replace(recorded.layout, kept=32)), basis_of(content))
    assert (found.actions, found.reason) == ({}, KEPT)
