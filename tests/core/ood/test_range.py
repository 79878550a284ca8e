import numpy as np

from service.core.ood.range import outside

LOW, HIGH = np.array([0.0, -np.inf, 5.0]), np.array([1.0, 3.0, np.inf])


def test_a_bound_itself_is_inside() -> None:
    assert not outside(np.array([[0.0, 3.0, 5.0], [1.0, -1e300, 1e300]]), low=LOW, high=HIGH).any()


def test_each_cell_answers_for_its_own_feature() -> None:
    cells = outside(np.array([[-0.1, 3.1, 4.9], [1.1, 0.0, 9.0]]), low=LOW, high=HIGH)
    np.testing.assert_array_equal(cells, [[True, True, True], [True, False, False]])


def test_a_missing_value_is_not_outside() -> None:
    assert not outside(np.full((1, 3), np.nan), low=LOW, high=HIGH).any()


def test_an_infinite_value_is_outside_a_finite_bound() -> None:
    np.testing.assert_array_equal(outside(np.full((1, 3), np.inf), low=LOW, high=HIGH), [[True, True, False]])


def test_no_features_are_never_outside() -> None:
    assert outside(np.empty((4, 0)), low=np.empty(0), high=np.empty(0)).shape == (4, 0)
