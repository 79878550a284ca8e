import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.costs import base_of, class_ranges, priced
from service.core.numerics import Array

tables = arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6))


@given(tables)
def test_the_base_of_an_action_is_one_of_its_costs_and_none_is_nearer_to_nothing(cost: Array) -> None:
    base = base_of(cost)
    assert base.shape == (4, 1)
    assert (np.abs(base) <= np.abs(cost)).all()
    assert (cost == base).any(axis=1).all()


@given(tables)
def test_ranges_are_the_dearest_less_the_cheapest_action_of_every_class(cost: Array) -> None:
    np.testing.assert_array_equal(class_ranges(cost), cost.max(axis=0) - cost.min(axis=0))
    np.testing.assert_array_equal(class_ranges(np.stack([cost, 2.0 * cost]))[0], class_ranges(cost))


def test_costs_with_one_class_apart_need_a_product_where_actions_hardly_differ_in_some_class() -> None:
    apart = np.vstack([1.0 - np.eye(150), np.full(150, 0.3)])
    assert priced(apart).apart is not None
    assert priced(apart + 1e6).apart is None  # their last digits would decide
    assert priced(apart[:3]).apart is None  # in most classes these three cost the same


@pytest.mark.parametrize("classes", [3, 150])
def test_prices_of_every_row_s_own_table_are_those_of_each(classes: int) -> None:
    tables = np.random.default_rng(0).normal(size=(4, 3, classes))
    together = priced(tables)
    for i, table in enumerate(tables):
        np.testing.assert_array_equal(together.scale[i], priced(table).scale)
        np.testing.assert_array_equal(together.base[i], priced(table).base)
        np.testing.assert_array_equal(together.floor[i], priced(table).floor)
