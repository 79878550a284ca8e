"""Fits with priors: what they find, and what their priors count."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from service.core.calibration.shrinkage import SHRUNK, ShrunkBcts, ShrunkTemperature, effective_units, prior_loss
from service.core.calibration.temperature import fit_temperature
from service.core.numerics import Array, Indices, log_softmax


def drawn(n: int, k: int, *, temperature: float, shift: float = 0.0, seed: int = 0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    rows = 2.0 * rng.normal(size=(n, k))
    return temperature * (rows - shift * np.eye(k)[0]), (rows + rng.gumbel(size=(n, k))).argmax(axis=1)


def classes_for(name: str) -> int:
    return 2 if SHRUNK[name].needs == "binary" else 3


def posterior(point: Array, logits: Array, labels: Indices) -> float:
    """Negative log-posterior by its formula: log(1/T), then biases."""
    log_probs = log_softmax(logits * np.exp(point[0]) + point[1:])
    t = 2.0 * np.log1p(point[0] ** 2 / 0.75) + 2.0 * np.log1p(point[1:] ** 2 / 0.75).sum()
    return float(-log_probs[np.arange(len(labels)), labels].sum() + t)


@pytest.mark.parametrize(("n", "k", "temperature"), [(30, 2, 2.0), (50, 3, 0.5), (300, 10, 1.0), (50, 3, 20.0)])
def test_the_temperature_is_that_of_largest_posterior_density(n: int, k: int, temperature: float) -> None:
    logits, labels = drawn(n, k, temperature=temperature)
    best = minimize_scalar(
        lambda u: posterior(np.append(u, np.zeros(k)), logits, labels),
        bounds=(-5.0, 2.0),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    assert -np.log(ShrunkTemperature.fit(logits, labels).temperature) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("n", "k", "shift"), [(30, 2, 0.0), (50, 3, 1.0), (300, 10, 0.5), (300, 2, 2.0)])
def test_temperature_and_biases_are_those_of_largest_posterior_density(n: int, k: int, shift: float) -> None:
    logits, labels = drawn(n, k, temperature=1.5, shift=shift)
    start = np.append(-np.log(ShrunkTemperature.fit(logits, labels).temperature), np.zeros(k))
    best = minimize(posterior, start, args=(logits, labels), options={"gtol": 1e-7}).x
    found = ShrunkBcts.fit(logits, labels)
    assert -np.log(found.temperature) == pytest.approx(best[0], abs=1e-4)
    np.testing.assert_allclose(found.bias, best[1:] - best[1:].mean(), atol=1e-4)


def test_the_prior_pulls_towards_one_and_weighs_nothing_against_many_rows() -> None:
    for temperature in (0.5, 2.0):
        few, many = (drawn(n, 3, temperature=temperature) for n in (40, 20_000))
        own = fit_temperature(*few).calibrator.temperature
        assert abs(np.log(ShrunkTemperature.fit(*few).temperature)) < abs(np.log(own))
        exact = fit_temperature(*many).calibrator.temperature
        assert ShrunkTemperature.fit(*many).temperature == pytest.approx(exact, rel=1e-3)


def test_the_pull_of_a_far_temperature_fades() -> None:
    _, slopes, _ = prior_loss(np.array([0.5, 1.0, 3.0, 6.0]), 0.5)
    assert slopes.argmax() < 2
    assert slopes[3] < slopes[2] < slopes[1]


@pytest.mark.parametrize("name", SHRUNK)
def test_separable_constant_and_backward_rows_give_finite_numbers(name: str) -> None:
    logits, labels = drawn(60, classes_for(name), temperature=1.0)
    cases = [(logits, logits.argmax(axis=1)), (0.0 * logits, labels), (-logits, labels), (logits[:1], labels[:1])]
    cases += [(logits, np.zeros(60, dtype=np.intp)), (1e30 * logits, labels)]
    for rows, truth in cases:
        assert np.isfinite(SHRUNK[name].fit(rows, truth).apply(logits)).all()


@pytest.mark.parametrize("name", SHRUNK)
def test_a_prior_counts_units_and_not_rows(name: str) -> None:
    logits, labels = drawn(40, classes_for(name), temperature=2.0, shift=0.5)
    copies = np.repeat(logits, 5, axis=0), np.repeat(labels, 5)
    once, counted = SHRUNK[name].fit(logits, labels), SHRUNK[name].fit(*copies, units=40)
    np.testing.assert_allclose(counted.apply(logits), once.apply(logits), atol=1e-6)
    assert np.abs(SHRUNK[name].fit(*copies).apply(logits) - once.apply(logits)).max() > 0.01


def test_copies_tell_no_more_and_independent_rows_of_a_group_as_much_as_others() -> None:
    logits, labels = drawn(2000, 3, temperature=1.5)
    copied = np.repeat(np.arange(500), 4)
    assert (
        effective_units(np.repeat(logits[:500], 4, axis=0), np.repeat(labels[:500], 4), groups=copied, units=500) == 500
    )
    together = effective_units(logits, labels, groups=copied, units=500)
    assert 1600 <= together <= 2000
