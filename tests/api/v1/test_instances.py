"""Rows of a request, however they are written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.api.v1.instances import InstanceReader, nearest
from service.core.numerics import Array
from service.errors import MOST_FAULTS, Fault, InvalidInstances, TooManyRows
from service.runtime.inputs import Inputs
from service.runtime.model import Model
from service.runtime.numbers import NumberInputs, Slot

F32 = np.dtype("float32")
COLUMNS = ("age", "dose/day", "weight")


def inputs_of(*widths: int) -> Inputs:
    """Columns of `COLUMNS` shared among graph inputs `in0`, `in1`, … of these widths."""
    ends = np.cumsum(widths).tolist()
    slots = tuple(Slot(f"in{i}", F32, slice(end - w, end)) for i, (w, end) in enumerate(zip(widths, ends, strict=True)))
    wide = np.full(len(COLUMNS), np.inf)
    return NumberInputs(COLUMNS, slots, -wide, wide, -wide, wide, np.zeros(3, dtype=np.bool_), wide * np.nan)


ONE, TWO = inputs_of(3), inputs_of(1, 2)


def parse(*instances: object, inputs: Inputs = ONE) -> Array:
    rows = InstanceReader(inputs, most=100).parse(instances)
    assert isinstance(rows, np.ndarray)
    return rows


def faults_of(*instances: object, inputs: Inputs = ONE) -> list[Fault]:
    with pytest.raises(InvalidInstances) as caught:
        parse(*instances, inputs=inputs)
    return list(caught.value.faults)


WAYS = {
    "a list": [1, 2.5, 3],
    "an object": {"age": 1, "dose/day": 2.5, "weight": 3},
    "an object in another order": {"weight": 3, "age": 1, "dose/day": 2.5},
}


@pytest.mark.parametrize("name", WAYS)
def test_a_row_is_the_same_however_it_is_written(name: str) -> None:
    assert parse(WAYS[name]).tolist() == [[1.0, 2.5, 3.0]]


def test_a_row_may_be_an_object_of_graph_inputs() -> None:
    assert parse({"in1": [2.5, 3], "in0": [1]}, inputs=TWO).tolist() == [[1.0, 2.5, 3.0]]
    assert parse({"in0": [1, 2.5, 3]}).tolist() == [[1.0, 2.5, 3.0]]


def test_one_request_may_mix_the_ways() -> None:
    assert parse(*WAYS.values()).shape == (3, 3)


def test_null_is_a_missing_value() -> None:
    assert np.isnan(parse([1, None, 3])).tolist() == [[False, True, False]]


def test_a_fault_in_a_list_is_pointed_to_by_index_and_in_an_object_by_name() -> None:
    listed, named = faults_of([1, "x", 3], {"age": 1, "dose/day": "x", "weight": 3})
    assert listed.path == ("instances", 0, 1)
    assert "'dose/day'" in listed.detail
    assert named.path == ("instances", 1, "dose/day")


def test_a_fault_in_a_graph_inputs_list_is_pointed_to_by_both() -> None:
    (fault,) = faults_of({"in0": [1], "in1": [2, True]}, inputs=TWO)
    assert fault.path == ("instances", 0, "in1", 1)
    assert "a boolean" in fault.detail


def test_a_later_error_finds_its_way_back_into_the_rows_as_sent() -> None:
    later = InvalidInstances("", [Fault(("instances", i, "weight"), "not-allowed", "must be less") for i in range(3)])
    rows = [[1, 2, 3], {"age": 1, "dose/day": 2, "weight": 3}, {"in0": [1, 2, 3]}]
    paths = [fault.path for fault in InstanceReader(ONE, most=100).located(later, rows).faults]
    assert paths == [("instances", 0, 2), ("instances", 1, "weight"), ("instances", 2, "in0", 2)]


@pytest.mark.parametrize(
    ("value", "named"), [("1", "a string"), (True, "a boolean"), ([1], "a list"), ({"value": 1}, "an object")]
)
def test_an_error_names_the_type_of_a_cell_that_is_no_number(value: object, named: str) -> None:
    (fault,) = faults_of([value, 2, 3])
    assert fault.code == "wrong-type"
    assert named in fault.detail


def test_an_integer_beyond_a_double_is_refused_in_its_place() -> None:
    (fault,) = faults_of([1, 2, 3], [1, 10**400, 3])
    assert (fault.path, fault.code) == (("instances", 1, 1), "number-out-of-range")


def test_missing_and_unknown_names_have_errors_of_their_own_and_the_nearest_is_suggested() -> None:
    faults = faults_of({"age": 1, "doze/day": 2, "weight": 3})
    assert {(fault.path[-1], fault.code) for fault in faults} == {
        ("?", "unknown-feature"),
        ("dose/day", "missing-feature"),
    }
    assert any("did you mean 'dose/day'?" in fault.detail for fault in faults)
    assert not any("doze" in fault.detail for fault in faults)


def test_a_name_too_many_is_refused_though_none_is_missing() -> None:
    (fault,) = faults_of({"age": 1, "dose/day": 2, "weight": 3, "extra": 4})
    assert (fault.path, fault.code) == (("instances", 0, "?"), "unknown-feature")


def test_an_unknown_name_is_answered_first_however_many_are_missing() -> None:
    assert faults_of({"doze/day": 2})[0].code == "unknown-feature"


def test_faults_are_counted_up_to_a_bound() -> None:
    assert len(faults_of(*[["x", "x", "x"]] * 99)) <= MOST_FAULTS + len(COLUMNS)


def test_more_rows_than_allowed_are_refused_unread() -> None:
    with pytest.raises(TooManyRows, match="at most 2"):
        InstanceReader(ONE, most=2).parse([None] * 3)


def test_a_hint_never_repeats_what_was_typed() -> None:
    assert nearest("wieght", COLUMNS) == "; did you mean 'weight'?"
    assert nearest("zq7canary", COLUMNS) == ""
    assert nearest("w" * 10_000_000, COLUMNS) == ""


async def test_lists_and_objects_answer_identically(
    ask: Callable[..., Any], test_rows: list[list[float]], features: list[str]
) -> None:
    listed = await ask("decide", test_rows)
    named = await ask("decide", [dict(reversed(list(zip(features, row, strict=True)))) for row in test_rows])
    for left, right in zip(listed["predictions"], named["predictions"], strict=True):
        assert {**left, "prediction_id": ""} == {**right, "prediction_id": ""}


async def test_a_row_alone_and_in_a_batch_get_the_same_action_and_flag(
    ask: Callable[..., Any], test_rows: list[list[float]], shipped_model: Model
) -> None:
    batch = (await ask("decide", test_rows))["predictions"]
    for row, together in zip(test_rows, batch, strict=True):
        (alone,) = (await ask("decide", [row]))["predictions"]
        assert alone["decision"]["action"] == together["decision"]["action"]
        assert alone["ood"]["flagged"] == together["ood"]["flagged"]
        assert alone["probabilities"] == pytest.approx(together["probabilities"], abs=1e-6)
    assert len(batch) == len(test_rows) > len(shipped_model.classes)
