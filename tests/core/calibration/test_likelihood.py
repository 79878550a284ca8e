"""The interval of T."""

import math

import numpy as np
import pytest

from service.core.calibration.likelihood import likelihood_interval
from service.core.calibration.temperature import fit_temperature
from service.core.numerics import Array, Indices, log_softmax


def drawn(n: int, k: int, *, temperature: float, seed: int, sharp: float = 2.0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    calibrated = sharp * rng.normal(size=(n, k))
    labels = (np.exp(log_softmax(calibrated)).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return temperature * calibrated, labels


def interval(
    logits: Array, labels: Indices, *, weights: Array | None = None, groups: Indices | None = None
) -> tuple[float, float]:
    fit = fit_temperature(logits, labels, weights=weights)
    return likelihood_interval(fit, logits, labels, weights=weights, groups=groups)


@pytest.mark.parametrize("sharp", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("n", [30, 50])
@pytest.mark.parametrize("k", [2, 10])
def test_nineteen_in_twenty_hold_the_truth_where_rows_and_errors_are_few(k: int, n: int, sharp: float) -> None:
    held = []
    for seed in range(200):
        logits, labels = drawn(n, k, temperature=1.7, seed=seed, sharp=sharp)
        low, high = interval(logits, labels)
        held.append(low <= 1.7 <= high)
    assert np.mean(held) >= 0.95 - 3.0 * math.sqrt(0.95 * 0.05 / 200)


def test_it_is_not_wider_than_the_truth_needs_where_rows_are_many() -> None:
    held = []
    for seed in range(100):
        logits, labels = drawn(1000, 3, temperature=0.5, seed=seed)
        low, high = interval(logits, labels)
        held.append(low <= 0.5 <= high)
    assert 0.95 - 0.065 <= np.mean(held) <= 0.99


def test_the_ends_surround_the_fit_and_scale_with_the_logits() -> None:
    logits, labels = drawn(300, 3, temperature=1.7, seed=14)
    low, high = interval(logits, labels)
    assert low < fit_temperature(logits, labels).calibrator.temperature < high
    np.testing.assert_allclose(interval(5.0 * logits, labels), (5.0 * low, 5.0 * high), rtol=1e-6)


def test_weights_and_groups_count_as_repeated_rows_do() -> None:
    logits, labels = drawn(300, 3, temperature=1.7, seed=15)
    plain, patients = interval(logits, labels), np.repeat(np.arange(300), 9)
    copied = interval(np.repeat(logits, 9, axis=0), np.repeat(labels, 9), groups=patients)
    np.testing.assert_allclose(copied, plain, rtol=1e-6)
    np.testing.assert_allclose(interval(logits, labels, weights=np.full(300, 2.0)), plain, rtol=1e-6)
    heavy = np.where(np.arange(300) < 100, 2, 1)
    rows = np.repeat(np.arange(300), heavy)
    repeated = interval(logits[rows], labels[rows], groups=rows)
    np.testing.assert_allclose(interval(logits, labels, weights=heavy.astype(float)), repeated, rtol=1e-6)
    independent = interval(np.repeat(logits, 9, axis=0), np.repeat(labels, 9))
    assert np.subtract(*independent) == pytest.approx(np.subtract(*plain) / 3.0, rel=0.2)


def test_separable_rows_bound_t_from_above_alone_and_rows_without_signal_from_below() -> None:
    gaps = np.random.default_rng(18).uniform(1.0, 6.0, size=60)
    logits, labels = np.stack([gaps, np.zeros(60)], axis=1), np.zeros(60, dtype=np.intp)
    low, high = interval(logits, labels)
    assert low == 0.0
    assert 0.0 < high < np.inf
    noise = np.random.default_rng(19).normal(size=(30, 2))
    low, high = interval(noise, (noise[:, 1] < noise[:, 0]).astype(np.intp))
    assert low > 0.0
    assert high == np.inf
