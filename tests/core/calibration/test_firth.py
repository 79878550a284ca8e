"""Platt scaling of rare labels: the penalised slope, and a mean probability that is the observed frequency."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from service.core.calibration.firth import FirthPlatt
from service.core.calibration.platt import Platt
from service.core.numerics import Array, Indices


def rare(n: int, *, seed: int) -> tuple[Array, Indices]:
    """Log-odds that are too sharp and shifted by two, with the labels of about 3 % of the rows."""
    rng = np.random.default_rng(seed)
    truth = -5.0 + 1.5 * rng.normal(size=n)
    labels = (rng.random(n) < expit(truth)).astype(np.intp)
    labels[int(truth.argmax())] = 1
    return np.stack([np.zeros(n), 1.3 * truth + 2.0], axis=1), labels


def slope_by_formula(logits: Array, labels: Indices, weights: Array) -> float:
    design = np.stack([logits[:, 1], np.ones(len(labels))], axis=1)

    def loss(point: Array) -> float:
        p = expit(design @ point)
        information = (design.T * (weights * p * (1.0 - p))) @ design
        own = weights @ (labels * np.log(p) + (1 - labels) * np.log1p(-p))
        return float(-own - 0.5 * np.linalg.slogdet(information)[1])

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    return float(minimize(loss, [0.5, -3.0], method="Nelder-Mead", options=options).x[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_slope_is_that_of_largest_penalised_likelihood(seed: int) -> None:
    logits, labels = rare(400, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, size=400)
    weights /= weights.mean()
    fitted = FirthPlatt.fit(logits, labels, weights=weights)
    assert fitted.slope == pytest.approx(slope_by_formula(logits, labels, weights), rel=1e-5)


@pytest.mark.parametrize("n", [20, 200, 5000])
def test_the_mean_probability_is_the_frequency_however_few_events_there_are(n: int) -> None:
    logits, labels = rare(n, seed=n)
    weights = np.random.default_rng(n).uniform(size=n)
    for w in (None, weights):
        p = np.exp(FirthPlatt.fit(logits, labels, weights=w).apply(logits)[:, 1])
        assert np.average(p, weights=w) == pytest.approx(np.average(labels, weights=w), rel=1e-9)


def test_a_single_positive_at_the_top_leaves_a_finite_slope() -> None:
    logits = np.stack([np.zeros(50), np.arange(50.0)], axis=1)
    fitted = FirthPlatt.fit(logits, (np.arange(50) == 49).astype(np.intp))
    assert 0.0 < fitted.slope < 1.0
    assert fitted.separable(logits, (np.arange(50) == 49).astype(np.intp))


def test_rows_of_one_state_or_of_one_score_are_fitted_as_platt_fits_them() -> None:
    logits, labels = rare(30, seed=0)
    for x, y in ((logits, np.zeros(30, dtype=np.intp)), (0.0 * logits, labels)):
        np.testing.assert_allclose(FirthPlatt.fit(x, y).apply(logits), Platt.fit(x, y).apply(logits))


@pytest.mark.simulation
@pytest.mark.parametrize("expected", [1, 2, 3, 5, 10, 18])
@pytest.mark.parametrize("n", [500, 1000, 5000])
def test_rare_labels_keep_their_frequency_and_lose_little(n: int, expected: int) -> None:
    rng = np.random.default_rng([n, expected])
    far = 1.5 * rng.normal(size=30_000)
    grid = np.linspace(-20.0, 2.0, 2201)
    shift = grid[int(np.abs([expit(far + b).mean() - expected / n for b in grid]).argmin())]
    q, lost, ratio = expit(far + shift), dict[str, list[float]](), dict[str, list[float]]()
    for _ in range(150):
        truth = 1.5 * rng.normal(size=n) + shift
        labels = (rng.random(n) < expit(truth)).astype(np.intp)
        if not labels.any():
            continue
        for kind in (Platt, FirthPlatt):
            fitted = kind.fit(np.stack([0.0 * truth, 1.3 * truth + 2.0], axis=1), labels)
            answered = fitted.apply(np.stack([0.0 * far, 1.3 * (far + shift) + 2.0], axis=1))
            excess = q * (np.log(q) - answered[:, 1]) + (1.0 - q) * (np.log1p(-q) - answered[:, 0])
            lost.setdefault(kind.__name__, []).append(float(excess.mean()))
            ratio.setdefault(kind.__name__, []).append(float(np.exp(answered[:, 1]).mean() / labels.mean()))
    means = {name: (float(np.mean(lost[name])), float(np.mean(ratio[name]))) for name in lost}
    print(n, expected, {name: (f"{loss:.5f}", f"{times:.2f}") for name, (loss, times) in means.items()})  # noqa: T201  # for the guide
    assert means["FirthPlatt"][0] <= min(0.004, 1.5 * means["Platt"][0])
    assert 0.9 <= means["FirthPlatt"][1] <= 1.1
