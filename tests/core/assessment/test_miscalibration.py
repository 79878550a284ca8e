import itertools
from collections.abc import Callable

import numpy as np
import pytest

from service.core.assessment.metrics import METRICS
from service.core.assessment.miscalibration import (
    adaptive_calibration_error,
    binned_gap,
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    debiased_squared_gap,
    equal_mass,
    equal_mass_calibration_error,
    favourite,
    gap_in,
    ks_calibration_error,
    maximum_calibration_error,
    smooth_gap,
    top_label_calibration_error,
)
from service.core.numerics import Array, Indices, log_softmax

ERRORS = [name for name in METRICS if name.endswith("calibration_error")]
every_error = pytest.mark.parametrize("name", ERRORS)


def drawn(n: int, k: int, *, seed: int, spread: float = 2.0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    log_p = log_softmax(spread * rng.normal(size=(n, k)))
    cumulative = np.exp(log_p).cumsum(axis=1)
    return log_p, (cumulative > rng.random((n, 1)) * cumulative[:, -1:]).argmax(axis=1)


@every_error
def test_an_error_lies_between_nothing_and_one(name: str) -> None:
    for n in (1, 2, 14, 15, 16, 300):
        assert 0.0 <= METRICS[name](*drawn(n, 3, seed=n)) <= 1.0


@every_error
def test_certainty_that_never_fails_has_no_error_and_one_that_always_fails_the_whole(name: str) -> None:
    labels = np.arange(40) % 2
    sure = np.log(np.maximum(np.eye(2)[labels], 1e-300))
    assert METRICS[name](sure, labels) == pytest.approx(0.0, abs=1e-12)
    assert METRICS[name](sure[:, ::-1], labels) == pytest.approx(1.0, rel=1e-12)


@every_error
def test_a_posterior_sharpened_too_far_has_more_error_than_the_truth(name: str) -> None:
    log_p, labels = drawn(5000, 4, seed=5)
    assert METRICS[name](log_softmax(3.0 * log_p), labels) > METRICS[name](log_p, labels) + 0.02


def test_bins_are_closed_on_the_right() -> None:
    predicted, outcomes = np.array([0.5, 0.4, 0.7, 0.75]), np.array([1, 0, 0, 1])
    assert binned_gap(predicted, outcomes, bins=4) == pytest.approx(0.1375, rel=1e-12)
    assert binned_gap(predicted, outcomes, bins=4) != pytest.approx(0.2125, abs=0.01)  # closed on the left


def test_zero_and_one_fall_into_the_outer_bins() -> None:
    assert binned_gap(np.array([0.0, 1.0]), np.array([0, 1])) == 0.0
    assert binned_gap(np.array([0.0, 1.0]), np.array([1, 0])) == 1.0


def test_calibration_error_is_that_of_the_favourite() -> None:
    log_p, labels = drawn(2000, 5, seed=4)
    confidence, right = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, 16)
    by_hand = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            by_hand += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error(log_p, labels) == pytest.approx(by_hand, rel=1e-10)


@pytest.mark.parametrize(("n", "mean", "rare"), [(200, 0.0736, 0.1052), (1000, 0.0336, 0.0486)])
def test_even_a_perfect_predictor_shows_some_calibration_error(n: int, mean: float, rare: float) -> None:
    measured = [calibration_error(*drawn(n, 3, seed=seed, spread=1.5)) for seed in range(400)]
    assert np.mean(measured) == pytest.approx(mean, rel=0.05)
    assert np.quantile(measured, 0.95) == pytest.approx(rare, rel=0.08)


def test_classwise_error_sees_two_classes_mixed_up_below_the_favourite() -> None:
    n = 1000
    log_p = np.log(np.tile([0.6, 0.3, 0.1], (n, 1)))
    labels = np.repeat([0, 1, 2], [600, 100, 300])
    assert calibration_error(log_p, labels) == pytest.approx(0.0, abs=1e-12)
    assert classwise_calibration_error(log_p, labels) == pytest.approx(0.4 / 3, rel=1e-12)


def test_bins_of_equal_mass_are_those_of_array_split_when_nothing_ties() -> None:
    predicted = np.random.default_rng(0).random(47)
    index = equal_mass(predicted, bins=15)
    for b, rows in enumerate(np.array_split(np.sort(predicted), 15)):
        np.testing.assert_array_equal(np.sort(predicted[index == b]), rows)


def test_bins_of_equal_mass_never_part_equal_values_and_need_no_more_rows_than_there_are() -> None:
    predicted = np.repeat([0.2, 0.3, 0.9], [10, 1, 30])
    index = equal_mass(predicted, bins=15)
    assert all(np.ptp(index[predicted == value]) == 0 for value in predicted)
    assert equal_mass(np.array([0.7]), bins=15).tolist() == [0]


def test_equal_mass_error_is_that_of_array_split() -> None:
    log_p, labels = drawn(1001, 4, seed=1)
    confidence, right = favourite(log_p, labels)
    order = np.argsort(confidence)
    parts = [abs(np.sum(confidence[rows] - right[rows])) for rows in np.array_split(order, 15)]
    assert equal_mass_calibration_error(log_p, labels) == pytest.approx(sum(parts) / 1001, rel=1e-10)


def test_adaptive_error_averages_classes_in_bins_of_equal_mass() -> None:
    log_p, labels = drawn(999, 3, seed=2)
    p = np.exp(log_p)
    parts = [gap_in(equal_mass(p[:, k]), p[:, k], labels == k) for k in range(3)]
    assert adaptive_calibration_error(log_p, labels) == pytest.approx(np.mean(parts), rel=1e-14)


def test_the_worst_bin_is_never_better_than_the_average_one() -> None:
    for seed in range(20):
        log_p, labels = drawn(200, 3, seed=seed)
        assert maximum_calibration_error(log_p, labels) >= calibration_error(log_p, labels)


def test_conditioning_on_the_predicted_class_only_adds_error() -> None:
    for seed in range(20):
        log_p, labels = drawn(200, 3, seed=seed)
        assert top_label_calibration_error(log_p, labels) >= calibration_error(log_p, labels) - 1e-15


def test_top_label_error_is_the_weighted_mean_over_predicted_classes() -> None:
    log_p, labels = drawn(800, 3, seed=3)
    predicted = log_p.argmax(axis=1)
    parts = [
        np.mean(predicted == k) * calibration_error(log_p[predicted == k], labels[predicted == k]) for k in range(3)
    ]
    assert top_label_calibration_error(log_p, labels) == pytest.approx(sum(parts), rel=1e-10)


def test_ks_error_is_the_largest_cumulated_gap_and_never_above_the_binned_one_by_chance() -> None:
    log_p, labels = drawn(500, 3, seed=4)
    confidence, right = favourite(log_p, labels)
    order = np.argsort(confidence)
    by_hand = np.abs(np.cumsum(confidence[order] - right[order])).max() / 500
    assert ks_calibration_error(log_p, labels) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("metric", [ks_calibration_error, calibration_error])
def test_without_bias_of_bins_one_constant_gap_is_read_off_exactly(metric: Callable[[Array, Indices], float]) -> None:
    log_p = np.log(np.tile([0.9, 0.1], (100, 1)))
    assert metric(log_p, np.repeat([0, 1], [70, 30])) == pytest.approx(0.2, rel=1e-12)


def test_the_debiased_squared_gap_is_right_on_average() -> None:
    rng = np.random.default_rng(5)
    predicted = np.repeat([0.1, 0.4, 0.8], [10, 20, 30])
    true = np.repeat([0.1, 0.6, 0.7], [10, 20, 30])
    index = np.repeat([0, 1, 2], [10, 20, 30])
    truth = np.mean((predicted - true) ** 2)
    drawn_gaps = [debiased_squared_gap(index, predicted, rng.random(60) < true) for _ in range(4000)]
    assert np.mean(drawn_gaps) == pytest.approx(truth, abs=4 * np.std(drawn_gaps) / np.sqrt(4000))
    biased = [
        sum(np.bincount(index, predicted - (rng.random(60) < true)) ** 2 / [10, 20, 30]) / 60 for _ in range(1000)
    ]
    assert np.mean(biased) > 1.3 * truth


def test_the_debiased_error_of_a_perfect_predictor_is_far_below_the_plain_one() -> None:
    pairs = [drawn(500, 3, seed=seed) for seed in range(60)]
    plain = np.mean([equal_mass_calibration_error(*pair) for pair in pairs])
    assert np.mean([debiased_calibration_error(*pair) for pair in pairs]) < 0.6 * plain


def test_a_bin_of_one_row_adds_nothing() -> None:
    assert debiased_squared_gap(np.array([0]), np.array([0.3]), np.array([1])) == 0.0


# ------------------------------------------------------------------------------------------------------- without bins


def test_the_smooth_error_is_the_fixed_point_of_its_bandwidth() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.beta(2.0, 1.0, size=500)
    outcomes = rng.random(500) < predicted**1.5
    error = smooth_gap(predicted, outcomes)
    assert smooth_gap(predicted, outcomes, bandwidth=error) == pytest.approx(error, abs=1e-8)


def test_the_smooth_error_falls_as_the_bandwidth_grows_and_is_at_last_the_gap_in_the_large() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.random(300)
    outcomes = rng.random(300) < predicted
    errors = [smooth_gap(predicted, outcomes, bandwidth=b) for b in (0.001, 0.01, 0.1, 1.0, 10.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(abs(np.mean(predicted - outcomes)), rel=1e-9)


def test_the_smooth_error_is_the_integral_that_defines_it() -> None:
    rng = np.random.default_rng(2)
    predicted, bandwidth = rng.beta(0.7, 0.7, size=60), 0.07
    outcomes = rng.random(60) < 0.4
    t = (np.arange(4000) + 0.5) / 4000
    images = [side * predicted + shift for shift in (-2.0, 0.0, 2.0) for side in (1.0, -1.0)]  # reflections at 0 and 1
    kernel = sum(np.exp(-0.5 * ((t[:, None] - image) / bandwidth) ** 2) for image in images)
    smoothed = kernel @ (predicted - outcomes) / (60 * bandwidth * np.sqrt(2.0 * np.pi))
    assert smooth_gap(predicted, outcomes, bandwidth=bandwidth) == pytest.approx(np.abs(smoothed).mean(), rel=2e-3)


@pytest.mark.parametrize("gap", [-0.2, 0.1])
def test_one_constant_gap_is_read_off_without_bins(gap: float) -> None:
    predicted = np.random.default_rng(3).uniform(0.3, 0.7, size=100_000)
    outcomes = np.random.default_rng(4).random(100_000) < predicted + gap
    assert smooth_gap(predicted, outcomes) == pytest.approx(abs(gap), abs=0.01)


def test_a_weight_of_two_is_the_row_twice_for_the_smooth_error() -> None:
    rng = np.random.default_rng(5)
    predicted, copies = rng.random(200), rng.integers(1, 4, size=200)
    outcomes, rows = rng.random(200) < predicted**2, np.repeat(np.arange(200), copies)
    weighted = smooth_gap(predicted, outcomes, weights=copies.astype(np.float64))
    assert weighted == pytest.approx(smooth_gap(predicted[rows], outcomes[rows]), rel=1e-9)
