from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest

from service.core.assessment.miscalibration import (
    binned_gap,
    calibration_error,
    debiased_squared_gap,
    equal_mass,
    equal_width,
    favourite,
)
from service.core.assessment.reliability import (
    class_event,
    debiased_interval,
    null_errors,
    null_test,
    reliability_curve,
)
from service.core.numerics import Array, Flags, Indices, log_softmax
from tests.core.draws import distorted, perfect

# ------------------------------------------------------------------------------------------------------------- curve


@pytest.mark.parametrize("bins", [equal_width, equal_mass])
def test_the_gaps_of_the_curve_make_up_the_calibration_error(bins) -> None:
    predicted, outcomes = distorted(700, seed=0)
    index = bins(predicted)
    curve = reliability_curve(predicted, outcomes, index=index, draws=20)
    gap = np.sum(curve.count * np.abs(curve.predicted - curve.observed)) / 700
    assert curve.count.sum() == 700
    assert gap == pytest.approx(np.abs(np.bincount(index, predicted - outcomes)).sum() / 700, rel=1e-12)


def test_only_bins_with_rows_are_on_the_curve() -> None:
    curve = reliability_curve(np.array([0.01, 0.99]), np.array([0, 1]), draws=20)
    np.testing.assert_array_equal(curve.count, [1, 1])
    np.testing.assert_allclose(curve.predicted, [0.01, 0.99])


def test_a_perfect_predictor_stays_in_its_band_at_the_stated_rate_and_a_distorted_one_leaves_it() -> None:
    inside, bins = 0, 0
    for seed in range(60):
        curve = reliability_curve(*perfect(900, seed=seed), level=0.9, draws=200, seed=seed)
        inside += int(np.sum((curve.low <= curve.observed) & (curve.observed <= curve.high)))
        bins += len(curve.count)
    assert inside / bins == pytest.approx(0.92, abs=0.03)  # counts are whole numbers, so a little above 0.9
    curve = reliability_curve(*distorted(3000, seed=1))
    assert np.mean((curve.low <= curve.observed) & (curve.observed <= curve.high)) < 0.6


# --------------------------------------------------------------------------------------------- is it more than chance


def test_a_perfect_predictor_is_accused_as_often_as_stated() -> None:
    tests = [null_test(*perfect(200, seed=seed), draws=99, seed=seed) for seed in range(400)]
    p_values = np.array([t.p_value for t in tests])
    for rate in (0.05, 0.25, 0.5):
        assert np.mean(p_values <= rate) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 400))
    assert [t.error > t.quantile for t in tests] == [t.p_value <= 0.05 for t in tests]


@pytest.mark.parametrize(("n", "quantile"), [(200, 0.1052), (1000, 0.0486)])
def test_the_null_of_three_classes_reproduces_the_reference(n: int, quantile: float) -> None:
    log_p = log_softmax(1.5 * np.random.default_rng(n).normal(size=(n, 3)))
    null = null_errors(np.exp(log_p.max(axis=1)), draws=2000)
    assert np.quantile(null, 0.95) == pytest.approx(quantile, rel=0.06)


def test_the_test_speaks_of_the_calibration_error() -> None:
    rng = np.random.default_rng(2)
    log_p, labels = log_softmax(3.0 * rng.normal(size=(400, 4))), rng.integers(4, size=400)
    found = null_test(*favourite(log_p, labels))
    assert found.error == calibration_error(log_p, labels)
    assert found.p_value == pytest.approx(1 / 1001)


def test_the_null_depends_on_nothing_but_its_seed() -> None:
    predicted, outcomes = perfect(100, seed=3)
    assert null_test(predicted, outcomes, seed=1) == null_test(predicted, outcomes, seed=1)
    assert null_test(predicted, outcomes, seed=1) != null_test(predicted, outcomes, seed=2)


def test_certainty_that_holds_has_no_error_and_no_accusation() -> None:
    found = null_test(np.ones(50), np.ones(50, dtype=np.bool_))
    assert found.error == 0.0
    assert found.p_value == 1.0


# --------------------------------------------------------------------------------------------------------- intervals


def test_the_interval_of_a_perfect_predictor_holds_zero() -> None:
    lows = [debiased_interval(*perfect(400, seed=seed), draws=100, seed=seed)[0] for seed in range(60)]
    assert np.mean(np.array(lows) == 0.0) >= 0.95


def test_the_interval_of_a_distorted_predictor_holds_its_error_at_the_stated_rate() -> None:
    rng = np.random.default_rng(4)
    predicted, true = np.repeat([0.2, 0.5, 0.9], 200), np.repeat([0.3, 0.4, 0.7], 200)
    root = np.sqrt(np.mean((predicted - true) ** 2))
    intervals = [debiased_interval(predicted, rng.random(600) < true, draws=100, seed=s) for s in range(100)]
    held = np.mean([low <= root <= high for low, high in intervals])
    assert held >= 0.9
    assert np.mean([low > 0.0 for low, _ in intervals]) > 0.9


def nearly_sure(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    predicted = rng.uniform(0.998, 1.0, size=n)
    return predicted, predicted


def a_little_too_sure(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    predicted = rng.uniform(0.998, 1.0, size=n)
    return predicted, predicted - 0.004


def rare_and_half_as_frequent(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    predicted = rng.beta(1.0, 50.0, size=n)
    return predicted, predicted / 2.0


def surer_than_true(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    del rng
    return np.full(n, 0.999), np.full(n, 0.997)


def one_number(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    del rng
    return np.full(n, 0.9), np.full(n, 0.8)


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize(
    "world", [surer_than_true, nearly_sure, a_little_too_sure, rare_and_half_as_frequent, one_number]
)
def test_the_interval_covers_where_events_are_few(world: Callable[..., tuple[Array, Array]], n: int) -> None:
    rng, held = np.random.default_rng(n), []
    for _ in range(150):
        predicted, true = world(n, rng)
        index = np.unique(equal_mass(predicted), return_inverse=True)[1]
        root = np.sqrt(np.sum(np.bincount(index, predicted - true) ** 2 / np.bincount(index)) / n)
        low, high = debiased_interval(predicted, rng.random(n) < true, draws=200)
        held.append(low <= root + 1e-12 and root <= high)
    assert np.mean(held) >= 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 150)


def test_the_interval_surrounds_the_estimate() -> None:
    predicted, outcomes = distorted(1000, seed=5)
    low, high = debiased_interval(predicted, outcomes)
    assert low < np.sqrt(debiased_squared_gap(equal_mass(predicted), predicted, outcomes)) < high


def test_one_class_event_is_what_the_classwise_error_reads() -> None:
    log_p, labels = np.log([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 1])
    predicted, outcomes = class_event(log_p, labels, 1)
    np.testing.assert_allclose(predicted, [0.3, 0.6])
    assert outcomes.tolist() == [False, True]
    assert binned_gap(predicted, outcomes) == pytest.approx(0.35, rel=1e-12)


# ---------------------------------------------------------------------------------------------- weights and groups


def test_weights_are_copies_of_rows_to_curve_and_null_test() -> None:
    predicted, outcomes = distorted(400, seed=8)
    copies = np.random.default_rng(8).integers(1, 4, size=400)
    weights, rows = copies.astype(np.float64), np.repeat(np.arange(400), copies)
    weighted = null_test(predicted, outcomes, weights=weights, groups=np.arange(400), draws=200)
    # copies of a row have one fate, so the same draws decide both
    repeated = null_test(predicted[rows], outcomes[rows], groups=rows, draws=200)
    assert astuple(weighted) == pytest.approx(astuple(repeated), rel=1e-12)
    curve, other = (
        reliability_curve(predicted, outcomes, weights=weights),
        reliability_curve(predicted[rows], outcomes[rows]),
    )
    np.testing.assert_allclose(curve.predicted, other.predicted, rtol=1e-12)
    np.testing.assert_allclose(curve.observed, other.observed, rtol=1e-12)


def patients(seed: int, *, visits: int = 8) -> tuple[Array, Flags, Indices]:
    """Right probabilities of 60 patients, whose visits all end alike, and whose row each is."""
    predicted, outcomes = perfect(60, seed=seed)
    jitter = np.random.default_rng(seed).normal(scale=1e-3, size=60 * visits)
    who = np.repeat(np.arange(60), visits)
    return np.clip(predicted[who] + jitter, 0.0, 1.0), outcomes[who], who


def test_rows_of_a_patient_do_not_make_chance_look_like_error() -> None:
    alarms = {True: 0, False: 0}
    for seed in range(120):
        predicted, outcomes, who = patients(seed)
        for grouped in alarms:
            found = null_test(predicted, outcomes, groups=who if grouped else None, draws=99, seed=seed)
            alarms[grouped] += found.p_value <= 0.05
    assert alarms[True] <= 14  # 6 expected; 14 is beyond the 99.9 % quantile
    assert alarms[False] > 60  # counted as rows, most perfect predictors are condemned


def test_the_band_of_grouped_rows_is_wider() -> None:
    predicted, outcomes, who = patients(0)
    plain, grouped = (reliability_curve(predicted, outcomes, groups=g) for g in (None, who))
    assert np.mean(grouped.high - grouped.low) > 1.5 * np.mean(plain.high - plain.low)
