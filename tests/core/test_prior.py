import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.numerics import Array, log_softmax
from service.core.prior import mean_agrees, shift

log_probs = arrays(np.float64, (4, 3), elements=st.floats(-20.0, 20.0)).map(log_softmax)
prevalences = arrays(np.float64, 3, elements=st.floats(0.01, 1.0)).map(lambda weights: weights / weights.sum())


@given(log_probs, prevalences)
def test_equal_prevalences_change_not_one_bit(log_p: Array, prevalence: Array) -> None:
    assert shift(log_p, source=prevalence, target=prevalence.copy()).tobytes() == log_p.tobytes()


@given(log_probs, prevalences, prevalences, prevalences)
def test_two_shifts_in_a_row_are_one(log_p: Array, first: Array, second: Array, third: Array) -> None:
    through = shift(shift(log_p, source=first, target=second), source=second, target=third)
    np.testing.assert_allclose(through, shift(log_p, source=first, target=third), rtol=0, atol=1e-11)


@given(log_probs, prevalences, prevalences)
def test_there_and_back_is_where_one_was(log_p: Array, first: Array, second: Array) -> None:
    back = shift(shift(log_p, source=first, target=second), source=second, target=first)
    np.testing.assert_allclose(back, log_p, rtol=0, atol=1e-11)


@given(log_probs, prevalences, prevalences)
def test_shifted_probabilities_sum_to_one(log_p: Array, first: Array, second: Array) -> None:
    assert np.abs(np.exp(shift(log_p, source=first, target=second)).sum(axis=1) - 1.0).max() <= 1e-12


def test_elkans_two_class_formula_is_reproduced() -> None:
    p, b, b_new = 0.8, 0.5, 0.1
    shifted = shift(np.log([[1 - p, p]]), source=np.array([1 - b, b]), target=np.array([1 - b_new, b_new]))
    assert np.exp(shifted[0, 1]) == pytest.approx(b_new * (p - p * b) / (b - p * b + b_new * p - b * b_new), rel=1e-13)
    assert np.exp(shifted[0, 1]) == pytest.approx(0.3076923076923077, rel=1e-13)


def test_a_shifted_posterior_is_that_of_the_other_population() -> None:
    x = np.linspace(-4.0, 4.0, 9)
    likelihood = np.stack([-0.5 * (x + 1.0) ** 2, -0.5 * (x - 1.0) ** 2], axis=1)
    source, target = np.array([0.9, 0.1]), np.array([0.3, 0.7])
    here, there = log_softmax(likelihood + np.log(source)), log_softmax(likelihood + np.log(target))
    np.testing.assert_allclose(shift(here, source=source, target=target), there, rtol=0, atol=1e-13)


def test_a_class_ruled_out_stays_ruled_out() -> None:
    shifted = shift(np.array([[0.0, -np.inf]]), source=np.array([0.5, 0.5]), target=np.array([0.1, 0.9]))
    np.testing.assert_array_equal(np.exp(shifted), [[1.0, 0.0]])


def test_a_calibrated_posterior_agrees_with_the_labels_drawn_from_it() -> None:
    rng = np.random.default_rng(0)
    log_p = log_softmax(2.0 * rng.normal(size=(500, 4)))
    labels = (np.exp(log_p).cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    assert mean_agrees(log_p, np.bincount(labels, minlength=4) / 500)


def test_a_posterior_trained_on_balanced_classes_does_not_agree_with_rare_ones() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(500) < 0.1).astype(np.intp)
    half = rng.normal(size=500) + 2.0 * labels - 1.0  # its slope and prevalence are those of equal classes
    log_p = log_softmax(np.stack([-half, half], axis=1))
    assert not mean_agrees(log_p, np.bincount(labels, minlength=2) / 500)


def test_a_certain_posterior_agrees_only_with_its_own_counts() -> None:
    log_p = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert mean_agrees(log_p, np.array([0.5, 0.5]))
    assert not mean_agrees(log_p, np.array([0.6, 0.4]))
