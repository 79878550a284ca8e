from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.core.numerics import (
    Array,
    floored_log,
    largest,
    log_softmax,
    logsumexp,
    predicted_nll,
    top_and_rest,
    two_column,
)

FLOAT32_MAX = 3.4e38

logits = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7), elements=st.floats(-60.0, 60.0)
)


@given(logits)
def test_probabilities_sum_to_one(z: Array) -> None:
    assert np.abs(np.exp(log_softmax(z)).sum(axis=1) - 1.0).max() <= 1e-12


@given(logits, st.floats(-1000.0, 1000.0))
def test_a_constant_added_to_a_row_changes_no_probability(z: Array, constant: float) -> None:
    np.testing.assert_allclose(log_softmax(z + constant), log_softmax(z), rtol=0, atol=1e-11)


@given(logits, st.randoms(use_true_random=False))
def test_renaming_the_classes_renames_the_probabilities(z: Array, random: Random) -> None:
    order = list(range(z.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(log_softmax(z[:, order]), log_softmax(z)[:, order], rtol=1e-12, atol=1e-300)


@given(logits)
def test_log_softmax_and_logsumexp_agree_with_scipy(z: Array) -> None:
    np.testing.assert_allclose(log_softmax(z), scipy.special.log_softmax(z, axis=1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(logsumexp(z), scipy.special.logsumexp(z, axis=1), rtol=1e-13, atol=1e-14)


@given(logits)
def test_predicted_nll_is_the_least_surprise_of_the_row(z: Array) -> None:
    np.testing.assert_array_equal(predicted_nll(z), -log_softmax(z).max(axis=1))


def test_a_confident_row_keeps_the_digits_that_a_sum_would_lose() -> None:
    row = np.array([[40.0, 0.0, 0.0]])
    assert np.log(np.exp(row).sum()) - 40.0 == 0.0
    assert predicted_nll(row)[0] == pytest.approx(2 * np.exp(-40.0), rel=1e-14)
    assert f"{predicted_nll(row)[0]:.4e}" == "8.4967e-18"


def test_float32_saturates_where_predicted_nll_does_not() -> None:
    row = np.array([[17.5, 0.0]])
    single = row.astype(np.float32)
    assert np.exp(single[0, 0]) / np.exp(single).sum() == 1.0
    assert predicted_nll(row)[0] == pytest.approx(np.exp(-17.5), rel=1e-6)


@pytest.mark.parametrize(
    "row",
    [
        [FLOAT32_MAX, -FLOAT32_MAX],
        [FLOAT32_MAX, FLOAT32_MAX, 0.0],
        [-FLOAT32_MAX, -FLOAT32_MAX],
        [0.0, FLOAT32_MAX, 1.0],
        [1e-45, -1e-45],
    ],
)
def test_the_largest_float32_logits_give_finite_answers(row: list[float]) -> None:
    z = np.array([row])
    for answer in (log_softmax(z), logsumexp(z), predicted_nll(z)):
        assert np.isfinite(answer).all()
    assert np.exp(log_softmax(z)).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_masked_class_gets_probability_zero() -> None:
    np.testing.assert_array_equal(np.exp(log_softmax(np.array([[0.0, -np.inf, 0.0]]))), [[0.5, 0.0, 0.5]])


@given(arrays(np.float64, (4, 5), elements=st.floats(-10.0, 10.0)))
def test_float32_logits_move_no_probability_by_more_than_a_millionth(z: Array) -> None:
    exact = np.exp(log_softmax(z))
    narrowed: Any = z.astype(np.float32)
    assert np.abs(np.exp(log_softmax(narrowed.astype(np.float64))) - exact).max() <= 1e-6
    assert np.abs(np.exp(log_softmax(narrowed)) - exact).max() <= 1e-6


@given(logits)
def test_one_row_is_answered_as_in_its_batch(z: Array) -> None:
    alone = np.concatenate([log_softmax(z[i : i + 1]) for i in range(len(z))])
    np.testing.assert_allclose(log_softmax(z), alone, rtol=1e-14, atol=1e-300)


def test_arguments_are_left_as_they_were() -> None:
    z = np.array([[3.0, 1.0], [0.0, 2.0]])
    before = z.copy()
    log_softmax(z), logsumexp(z), predicted_nll(z), floored_log(np.abs(z), floor=1e-7)
    np.testing.assert_array_equal(z, before)


def test_the_lowest_index_is_the_top_of_equal_logits() -> None:
    top, shifted, rest = top_and_rest(np.array([[2.0, 2.0, 1.0]]))
    assert top[0] == 0
    np.testing.assert_array_equal(shifted, [[0.0, 0.0, -1.0]])
    assert rest[0] == pytest.approx(1.0 + np.exp(-1.0))


def test_one_logit_becomes_zero_and_itself() -> None:
    z = np.array([-3.0, 0.0, 800.0])
    np.testing.assert_array_equal(two_column(z)[:, 0], 0.0)
    np.testing.assert_allclose(np.exp(log_softmax(two_column(z)))[:, 1], scipy.special.expit(z), rtol=1e-14)


def test_exact_zeros_are_lifted_to_the_floor_and_renormalised() -> None:
    log_probs = floored_log(np.array([[0.0, 0.0, 1.0], [0.2, 0.3, 0.5]]), floor=1e-7)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.exp(log_probs[0]), np.array([1e-7, 1e-7, 1.0]) / (1.0 + 2e-7), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_probs[1]), [0.2, 0.3, 0.5], rtol=1e-14)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 30)), elements=st.integers(0, 4).map(float)),
    st.integers(1, 30),
)
def test_the_largest_are_those_of_a_stable_sort(values: Array, count: int) -> None:
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(largest(values, count), expected)
