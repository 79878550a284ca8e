import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.v1.instances import InstanceReader
from service.api.v1.uniform_rows import UniformRows
from service.core.numerics import Array
from service.errors import InvalidInstances
from service.runtime.integers import Wide
from service.runtime.model import Model

NAMES = ("a", "b", "c")
NUMBERS = st.lists(st.one_of(st.integers(-5, 5), st.floats(-1e3, 1e3), st.none()), min_size=3, max_size=3)


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_lists_and_objects_of_the_same_numbers_are_the_same_rows(rows: list[list[float]]) -> None:
    table = UniformRows(NAMES, ())
    expected = np.array(rows, dtype=np.float64)
    named = [dict(reversed(list(zip(NAMES, row, strict=True)))) for row in rows]
    for found in (table.rows(rows), table.rows(named)):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "instances",
    [
        [[1, 2]],
        [[1, 2, 3], [1, 2]],
        [[1, 2, True]],
        [[1, 2, "3"]],
        [[1, 2, [3]]],
        [[1, 2, 10**400]],
        [{"a": 1, "b": 2}],
        [{"a": 1, "b": 2, "d": 3}],
        [{"a": 1, "b": 2, "c": 3, "d": 4}],
        [[1, 2, 3], {"a": 1, "b": 2, "c": 3}],
        [1, 2, 3],
        ["abc"],
        [None],
        [[]],
    ],
)
def test_all_other_instances_are_left_to_the_careful_reading(instances: list[object]) -> None:
    assert UniformRows(NAMES, ()).rows(instances) is None


def test_integers_that_doubles_cannot_hold_stay_whole() -> None:
    wide = Wide("b", 1, np.dtype(np.int64), (None, None), (None, None))
    rows = UniformRows(NAMES, (wide,)).rows([[1, 2**53 + 1, 3]])
    assert rows is not None
    assert not isinstance(rows, np.ndarray)
    assert rows.others["b"].tolist() == [2**53 + 1]


def test_the_quick_reading_refuses_nothing_that_the_careful_one_takes(
    shipped_model: Model, test_rows: list[list[float]], features: list[str]
) -> None:
    reader = InstanceReader(shipped_model.inputs, most=10)
    rows: Array = np.asarray(reader._checked(test_rows[:3]))
    np.testing.assert_array_equal(np.asarray(reader.parse(test_rows[:3])), rows)
    with pytest.raises(InvalidInstances):
        reader.parse([dict.fromkeys(features, True)])
