"""The interval of a mean, where dear values are rare, seen or not."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from service.core.intervals import NO_EVENT, NORMAL, highest_share, mean_interval
from service.core.numerics import Array


def test_an_event_never_observed_has_clopper_and_pearsons_limit() -> None:
    never = np.zeros(200)
    low, high = mean_interval(never, least=never, most=never + 1.0)
    assert low == 0.0
    assert high == pytest.approx(1.0 - 0.025 ** (1.0 / 200), rel=1e-6)


def test_many_rows_have_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    half = 1.96 * values.std() / math.sqrt(20_000)
    ends = np.array(mean_interval(values, least=values - 3.0, most=values + 3.0)) - values.mean()
    np.testing.assert_allclose(ends, [-half, half], rtol=0.03)


def test_the_ends_are_where_the_likelihood_ratio_reaches_its_limit() -> None:
    share, n = 0.25, 40_000  # of ones: the binomial likelihood ratio is known
    values = (np.arange(n) % 4 == 0).astype(np.float64)
    for end in mean_interval(values, least=np.zeros(n), most=np.ones(n)):
        ratio = n * (share * math.log(share / end) + (1.0 - share) * math.log((1.0 - share) / (1.0 - end)))
        assert NORMAL <= ratio <= NORMAL + 0.02 * NO_EVENT


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_units_of_cost_do_not_matter_and_mirrored_values_have_mirrored_ends(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random(80) < 0.1, 50.0, rng.normal(size=80))
    low, high = mean_interval(values, least=values - 4.0, most=values + 50.0)
    scaled = mean_interval(scale * values, least=scale * (values - 4.0), most=scale * (values + 50.0))
    np.testing.assert_allclose(scaled, (scale * low, scale * high), rtol=1e-6)
    mirrored = mean_interval(-values, least=-values - 50.0, most=4.0 - values)
    np.testing.assert_allclose(mirrored, (-high, -low), rtol=1e-6)


def test_weights_and_groups_count_as_repeated_rows_and_single_draws_do() -> None:
    rng = np.random.default_rng(2)
    values, twice = rng.normal(size=60), np.repeat(np.arange(60), 2)
    plain = mean_interval(values, most=values + 5.0)
    even = mean_interval(values, most=values + 5.0, weights=np.full(60, 3.0))
    copied = mean_interval(values[twice], most=values[twice] + 5.0, groups=twice)
    np.testing.assert_allclose(even, plain, rtol=1e-6)
    np.testing.assert_allclose(copied, plain, rtol=1e-6)
    heavy = np.where(np.arange(60) < 20, 2.0, 1.0)
    rows = np.repeat(np.arange(60), heavy.astype(int))
    weighted, repeated = mean_interval(values, weights=heavy), mean_interval(values[rows], groups=rows)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
    nothing = np.append(np.ones(60), 0.0)
    np.testing.assert_allclose(
        mean_interval(np.append(values, 99.0), weights=nothing), mean_interval(values), rtol=1e-9
    )


def skewed(n: int, rng: np.random.Generator) -> tuple[Array, float]:
    return np.where(rng.random(n) < 0.01, 50.0, -1.0 * (rng.random(n) < 0.3)), 0.5 - 0.297


def even(n: int, rng: np.random.Generator) -> tuple[Array, float]:
    return rng.uniform(-1.0, 50.0, size=n), 24.5


@pytest.mark.parametrize("draw", [skewed, even])
@pytest.mark.parametrize("n", [30, 100])
def test_the_interval_covers_the_mean(draw: Callable[[int, np.random.Generator], tuple[Array, float]], n: int) -> None:
    rng, held = np.random.default_rng(3), []
    for _ in range(400):
        values, truth = draw(n, rng)
        low, high = mean_interval(values, least=np.full(n, -1.0), most=np.full(n, 50.0))
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.95 - 3.0 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("n", [1, 10, 200])
@pytest.mark.parametrize("calibrated_on", [19, 100, 5000])
def test_a_threshold_that_keeps_its_rate_stays_below_the_highest_share(n: int, calibrated_on: int) -> None:
    rng, alpha = np.random.default_rng(4), 0.05
    highest, above = highest_share(n, alpha, calibrated_on=calibrated_on), []
    for _ in range(2000):
        rank = math.ceil((calibrated_on + 1) * (1.0 - alpha) - 1e-9)
        threshold = np.sort(rng.random(calibrated_on))[rank - 1]
        above.append(np.mean(rng.random(n) > threshold) > highest)
    assert np.mean(above) <= 0.025 + 3.0 * math.sqrt(0.025 * 0.975 / 2000)
