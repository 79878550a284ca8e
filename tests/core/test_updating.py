"""Updates of a calibration: fits, composition, the size and power of the closed test."""

import math

import numpy as np
import pytest

from service.core.calibration import CALIBRATORS, Calibrator
from service.core.numerics import Array, Indices, log_softmax
from service.core.updating import (
    IDENTIFIED,
    Rung,
    Step,
    Update,
    chi_square_tail,
    closed_test,
    composed,
    fit_update,
    log_likelihood,
    unchanged,
)

FITTED = ("none", "intercept", "slope")


def drawn(log_probs: Array, rng: np.random.Generator) -> Indices:
    """A class of every row, by its probabilities."""
    return np.asarray((np.exp(log_probs).cumsum(axis=1) < rng.random((len(log_probs), 1))).sum(axis=1))


def made(n: int, k: int, rng: np.random.Generator, *, spread: float = 1.5) -> Array:
    """Log-probabilities of rows."""
    return log_softmax(spread * rng.normal(size=(n, k)))


def ladder(
    log_probs: Array, labels: Indices, *, weights: Array | None = None, units: float | None = None
) -> list[Rung]:
    """Nothing, intercepts, intercepts and slope."""
    k, n = log_probs.shape[1], units or len(labels)
    fits: dict[Step, Update] = {"none": unchanged(k)}
    for step in ("intercept", "slope"):
        fits[step] = fit_update(log_probs, labels, step=step, weights=weights, units=n)
    free = {"none": 0, "intercept": k - 1, "slope": k}
    return [
        Rung(step, log_likelihood(fit.apply(log_probs), labels, weights=weights, units=n), free[step])
        for step, fit in fits.items()
    ]


def rate(
    repeats: int, n: int, k: int, *, slope: float = 1.0, bias: float = 0.0, level: float = 0.05
) -> dict[str, float]:
    """How often every step is chosen, where the truth is this far from the probabilities in force."""
    rng, found = np.random.default_rng(15), dict.fromkeys(FITTED, 0)
    truth = Update(slope, np.where(np.arange(k) == 0, bias, 0.0) - bias / k)
    for _ in range(repeats):
        log_probs = made(n, k, rng)
        labels = drawn(truth.apply(log_probs), rng)
        found[closed_test(ladder(log_probs, labels), level=level).step] += 1
    return {step: count / repeats for step, count in found.items()}


def most(level: float, repeats: int) -> float:
    """What a rate of this level exceeds by chance in one of a thousand simulations."""
    return level + 3.1 * math.sqrt(level * (1.0 - level) / repeats)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_the_fit_finds_the_update_that_the_labels_were_drawn_by(k: int) -> None:
    rng = np.random.default_rng(0)
    truth = Update(0.6, np.linspace(-0.5, 0.5, k))
    log_probs = made(200_000, k, rng)
    found = fit_update(log_probs, drawn(truth.apply(log_probs), rng), step="slope")
    assert found.slope == pytest.approx(truth.slope, abs=0.02)
    np.testing.assert_allclose(found.bias, truth.bias, atol=0.03)


def test_intercepts_alone_leave_the_slope_and_match_the_frequencies() -> None:
    rng = np.random.default_rng(1)
    log_probs, labels = made(5000, 3, rng), rng.choice(3, size=5000, p=[0.6, 0.3, 0.1])
    found = fit_update(log_probs, labels, step="intercept")
    assert found.slope == 1.0
    np.testing.assert_allclose(np.exp(found.apply(log_probs)).mean(axis=0), np.bincount(labels) / 5000, atol=1e-3)


def test_a_class_without_rows_has_no_bias_that_could_be_fitted() -> None:
    with pytest.raises(ValueError, match="every class needs a row"):
        fit_update(np.log(np.full((4, 3), 1.0 / 3.0)), np.array([0, 1, 0, 1]), step="intercept")


def test_separable_rows_have_a_finite_update() -> None:
    log_probs = np.log([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    found = fit_update(log_probs, np.array([0, 0, 1, 1]), step="slope")
    assert 1.0 < found.slope < 100.0


@pytest.mark.parametrize("method", sorted(CALIBRATORS))
def test_a_composed_calibrator_answers_what_the_update_makes_of_the_answers(method: str) -> None:
    rng = np.random.default_rng(2)
    k = 2 if CALIBRATORS[method].needs == "binary" else 3
    logits = 2.0 * rng.normal(size=(400, k))
    labels = drawn(log_softmax(0.7 * logits), rng)
    calibrator: Calibrator = CALIBRATORS[method].fit(logits, labels)
    update = Update(0.8, np.linspace(-0.3, 0.3, k))
    if method not in IDENTIFIED:
        with pytest.raises(ValueError, match="leave the family"):
            composed(calibrator, update)
        return
    expected = update.apply(calibrator.apply(logits))
    np.testing.assert_allclose(composed(calibrator, update).apply(logits), expected, atol=1e-12)


def test_updates_one_after_the_other_are_one_update() -> None:
    log_probs = made(20, 3, np.random.default_rng(3))
    first, second = Update(0.5, np.array([0.1, 0.2, -0.3])), Update(2.0, np.array([-0.4, 0.3, 0.1]))
    expected = second.apply(first.apply(log_probs))
    np.testing.assert_allclose(second.after(first).apply(log_probs), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 6.634897), (2, 9.210340), (3, 11.344867), (10, 23.209251), (99, 134.641617)]
)
def test_the_tail_of_chi_square_is_that_of_the_tables(degrees: int, value: float) -> None:
    assert chi_square_tail(value, degrees) == pytest.approx(0.01, rel=1e-5)
    assert chi_square_tail(0.0, degrees) == 1.0


def test_rows_that_are_there_twice_for_a_subject_change_no_test() -> None:
    rng = np.random.default_rng(4)
    log_probs = made(300, 2, rng)
    labels = drawn(Update(0.7, np.zeros(2)).apply(log_probs), rng)
    twice = np.repeat(np.arange(300), 2)
    once = ladder(log_probs, labels)
    again = ladder(log_probs[twice], labels[twice], weights=np.full(600, 0.5), units=300)
    for one, other in zip(once, again, strict=True):
        assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-6)


@pytest.mark.parametrize("k", [2, 4])
def test_where_nothing_is_wrong_something_changes_at_most_as_often_as_the_level(k: int) -> None:
    found = rate(400, 400, k)
    assert 1.0 - found["none"] <= most(0.05, 400)


def test_where_the_intercept_is_off_the_intercept_alone_is_changed() -> None:
    found = rate(100, 600, 2, bias=1.0)
    assert found["none"] <= 0.01
    assert found["intercept"] >= 0.85


def test_where_the_slope_is_off_the_slope_is_changed() -> None:
    assert rate(100, 800, 2, slope=0.6)["slope"] >= 0.95


@pytest.mark.simulation
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("n", [250, 1000])
def test_size_of_the_closed_test(k: int, n: int) -> None:
    found = rate(4000, n, k)
    assert 1.0 - found["none"] <= most(0.05, 4000)


@pytest.mark.simulation
@pytest.mark.parametrize("k", [2, 3])
def test_an_intercept_that_is_off_adds_a_slope_at_most_as_often_as_the_level(k: int) -> None:
    found = rate(2000, 1500, k, bias=1.0)
    assert found["none"] == 0.0
    assert found["slope"] <= most(0.05, 2000)
