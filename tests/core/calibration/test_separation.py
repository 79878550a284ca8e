"""Separable rows: who says so, checked with a linear programme; what is mixed in, and what it costs."""

from functools import cache

import numpy as np
import pytest
from scipy.optimize import linprog

from service.core.calibration import CALIBRATORS
from service.core.calibration.auto import out_of_fold
from service.core.calibration.mixture import Mixed, fit_mixed, mixed, support
from service.core.numerics import Array, Indices, log_softmax

SEPARATING = ("temperature", "bcts", "vector", "matrix", "platt", "beta")
separating = pytest.mark.parametrize("name", SEPARATING)
everyone = pytest.mark.parametrize("name", CALIBRATORS)


def drawn(n: int, k: int, *, sharpness: float, seed: int, shift: float = 0.0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k))
    return logits, (sharpness * logits + shift * rng.normal(size=k) + rng.gumbel(size=(n, k))).argmax(axis=1)


def constraints(name: str, logits: Array, labels: Indices) -> Array:
    """What every margin between classes that occur is of the parameters: slopes, then biases."""
    x, k = (logits if name == "bcts" else log_softmax(logits)), logits.shape[1]
    eye, rows = np.eye(k), []
    for i, y in enumerate(labels):
        for other in np.setdiff1d(np.unique(labels), y):
            slopes = {
                "bcts": np.array([x[i, y] - x[i, other]]),
                "vector": x[i] * (eye[y] - eye[other]),
                "matrix": np.outer(eye[y] - eye[other], x[i]).ravel(),
            }[name]
            rows.append(np.concatenate([slopes, eye[y] - eye[other]]))
    return np.array(rows)


def separable_by_linear_programme(name: str, logits: Array, labels: Indices) -> bool:
    """Whether some direction lowers no margin and raises one (Konis 2007)."""
    if len(np.unique(labels)) < 2:
        return False
    margins = constraints(name, logits, labels)
    bounds = [(0.0 if name == "bcts" else -1.0, 1.0), *[(-1.0, 1.0)] * (margins.shape[1] - 1)]
    found = linprog(-margins.sum(axis=0), A_ub=-margins, b_ub=np.zeros(len(margins)), bounds=bounds)
    return bool(-found.fun > 1e-6)


@pytest.mark.parametrize(
    ("name", "k"), [("bcts", 2), ("bcts", 3), ("bcts", 4), ("vector", 2), ("vector", 3), ("matrix", 2), ("matrix", 3)]
)
def test_who_is_separable_agrees_with_a_linear_programme(name: str, k: int) -> None:
    found = []
    for seed in range(16 if name != "matrix" else 10):
        n, sharpness, shift = (6, 12, 25, 60)[seed % 4], (0.5, 1.0, 3.0, 8.0)[seed // 4], (0.0, 3.0)[seed % 2]
        logits, labels = drawn(n, k, sharpness=sharpness, seed=seed, shift=shift)
        labels = np.where(labels == k - 1, 0, labels) if seed % 5 == 0 and k > 2 else labels
        expected = separable_by_linear_programme(name, logits, labels)
        assert CALIBRATORS[name].fit(logits, labels).separable(logits, labels) == expected, seed
        found.append(expected)
    assert {True, False} == set(found)


def all_right(n: int = 300, *, seed: int = 0) -> tuple[Array, Indices]:
    """Rows that are classified right, the logits .05 to .5 apart."""
    rng = np.random.default_rng(seed)
    labels, gaps = rng.integers(0, 2, n), rng.uniform(0.05, 0.5, n)
    return np.eye(2)[labels] * gaps[:, None], labels


@separating
def test_three_hundred_right_rows_speak_for_no_error_below_their_support(name: str) -> None:
    fitted = fit_mixed(CALIBRATORS[name], *all_right())
    error = np.exp(fitted.served.apply(np.array([[0.0, 1.0], [1.0, 0.0]]))).min(axis=1)
    assert fitted.separable
    assert isinstance(fitted.served, Mixed)
    assert (error >= 1.0 / (2 * 301)).all()
    assert (error <= 2.0 / 301).all()
    assert np.exp(fitted.calibrator.apply(np.array([[0.0, 1.0]]))).min() < 1e-6  # what the fit alone would answer


@pytest.mark.parametrize("name", ["identity", "isotonic", "histogram"])
def test_what_is_not_fitted_or_mixed_already_is_never_separable(name: str) -> None:
    fitted = fit_mixed(CALIBRATORS[name], *all_right())
    assert not fitted.separable
    assert fitted.served is fitted.calibrator


@separating
def test_one_contradiction_is_enough_not_to_be_separable(name: str) -> None:
    logits, labels = all_right()
    logits, labels = np.vstack([logits, [[0.5, 0.0], [0.0, 0.5]]]), np.append(labels, [1, 0])
    assert not CALIBRATORS[name].fit(logits, labels).separable(logits, labels)


@separating
def test_rows_without_weight_contradict_nothing(name: str) -> None:
    logits, labels = all_right()
    weights = np.append(np.ones(300), [0.0, 0.0])
    logits, labels = np.vstack([logits, [[0.5, 0.0], [0.0, 0.5]]]), np.append(labels, [1, 0])
    assert CALIBRATORS[name].fit(logits, labels, weights=weights).separable(logits, labels, weights=weights)


@pytest.mark.parametrize("name", ["platt", "beta", "bcts", "vector", "matrix"])
def test_a_boundary_that_both_classes_share_is_separable_too(name: str) -> None:
    logits = np.array([[0.0, -1.0], [0.0, 0.5], [0.0, 0.5], [0.0, 2.0]])
    labels = np.array([0, 0, 1, 1])
    assert CALIBRATORS[name].fit(logits, labels).separable(logits, labels)


@pytest.mark.parametrize("name", ["vector", "matrix"])
def test_one_class_apart_from_others_that_overlap_is_separable(name: str) -> None:
    logits, labels = drawn(200, 3, sharpness=1.0, seed=1)
    logits[labels == 2] += [0.0, 0.0, 20.0]
    logits[labels != 2] -= [0.0, 0.0, 20.0]
    fitted = fit_mixed(CALIBRATORS[name], logits, labels)
    assert fitted.separable
    assert not CALIBRATORS["temperature"].fit(logits, labels).separable(logits, labels)


@everyone
def test_a_class_that_never_occurs_does_not_make_rows_separable(name: str) -> None:
    k = 2 if CALIBRATORS[name].needs == "binary" else 3
    logits, labels = drawn(300, k, sharpness=1.0, seed=2)
    kept = labels != k - 1
    assert not CALIBRATORS[name].fit(logits[kept], labels[kept]).separable(logits[kept], labels[kept])


def test_a_class_that_cannot_occur_neither_makes_nor_hides_a_temperature() -> None:
    # A declared prevalence, and no row of the third class: its offset is minus infinity, and it holds no row back.
    logits = np.array([[1.0, 0.0, 9.0], [0.0, 2.0, 9.0], [3.0, 1.0, 0.0]])
    offset = np.array([0.0, 0.1, -np.inf])
    right, wrong = np.array([0, 1, 0]), np.array([0, 1, 1])
    for labels, separable in ((right, True), (wrong, False)):
        fitted = CALIBRATORS["temperature"].fit(logits, labels, offset=offset)
        assert fitted.separable(logits, labels, offset=offset) == separable
        assert 0.01 < fitted.temperature < 100.0  # type: ignore[attr-defined]  # it is a temperature


@separating
def test_folds_are_mixed_by_the_share_of_all_rows(name: str) -> None:
    logits, labels = all_right(60)
    far = np.vstack([logits, [[0.0, 60.0]]])
    held = out_of_fold(CALIBRATORS[name], far, np.append(labels, 1), folds=np.arange(61) % 5, units=40)
    # A certain row comes as near to certainty as 1 / (units + 1) of the uniform distribution lets it.
    assert np.exp(held[-1]).min() == pytest.approx(support(40) / 2.0, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mixture_keeps_its_width_and_sums_to_one(dtype: type) -> None:
    log_probs: Array = log_softmax(np.random.default_rng(0).normal(scale=30.0, size=(50, 7))).astype(dtype)
    found = mixed(log_probs, 0.01)
    assert found.dtype == dtype
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5 if dtype is np.float32 else 1e-12)
    np.testing.assert_allclose(np.exp(found), 0.99 * np.exp(log_probs) + 0.01 / 7, rtol=1e-5, atol=1e-12)


@cache
def calibrated_and_separable(name: str) -> tuple[float, int]:
    """What the mixture costs a calibrated model whose 300 rows came out separable, in nats, and in how many samples."""
    costs = []
    for seed in range(40):
        rng = np.random.default_rng([seed, 7])
        gap, new = rng.normal(scale=100.0, size=300), rng.normal(scale=100.0, size=4000)
        logits, far = np.stack([np.zeros(300), gap], axis=1), np.stack([np.zeros(4000), new], axis=1)
        labels = (rng.random(300) < 1.0 / (1.0 + np.exp(-gap))).astype(np.intp)
        fitted = fit_mixed(CALIBRATORS[name], logits, labels)
        truth = log_softmax(far)
        if fitted.separable:
            costs.append(float(np.mean(np.sum(np.exp(truth) * (truth - mixed(truth, fitted.share)), axis=1))))
    return float(np.mean(costs)), len(costs)


@pytest.mark.parametrize("name", ["temperature", "platt"])
def test_what_the_mixture_costs_a_calibrated_model(name: str) -> None:
    cost, samples = calibrated_and_separable(name)
    assert samples >= 3
    assert 0.0 < cost <= 0.002
