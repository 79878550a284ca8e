"""Recorded rows as plain values are what was answered."""

import numpy as np
import pytest

from service.prediction.record_rows import flat_columns, rows_of
from service.runtime.registry import Registry
from tests.every_task import CASES, ROWS, Case
from tests.prediction.test_records import read, recorded_case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_row_has_every_member(case: Case, every_task: Registry) -> None:
    _, _, content = recorded_case(case, every_task)
    recorded = read(content)
    rows = rows_of(recorded)
    assert len(rows) == ROWS
    assert all(list(row) == recorded.names for row in rows)


def test_values_are_those_of_the_columns(every_task: Registry) -> None:
    _, answer, content = recorded_case(Case("letters", "decide"), every_task)
    rows = rows_of(read(content))
    for row, probabilities, action in zip(rows, answer.probabilities, answer.decided[0].decisions.action, strict=True):
        np.testing.assert_array_equal(list(row["probabilities"].values()), probabilities)
        assert row["decision.action"] == answer.decided[0].policy.actions[action]
        assert dict(flat_columns(row))["probabilities.b.c"] == probabilities[1]


def test_members_of_a_sequence_are_lists_over_its_positions(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("motion", "decide"), every_task)
    for row in rows_of(read(content)):
        assert len(row["label"]) == len(row["decision.risk"]) == row["lengths"]
        assert len(dict(flat_columns(row))["probabilities.move"]) == row["lengths"]
