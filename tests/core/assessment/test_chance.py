"""How far chance carries a mean of draws with known distributions."""

import math

import numpy as np
import pytest

from service.core.assessment.chance import chance_bound


def two_outcomes(rate: np.ndarray, high: float) -> tuple[np.ndarray, np.ndarray]:
    return np.tile([0.0, high], (len(rate), 1)), np.stack([1.0 - rate, rate], axis=1)


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("rate", [1e-4, 1e-3, 3e-3, 0.01, 0.1, 0.4])
def test_chance_exceeds_its_bound_in_at_most_1_of_20_samples(n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    p = np.minimum(rate * rng.lognormal(size=n), 0.9)
    values, probability = two_outcomes(p, 50.0)
    values[rng.random(n) < 0.3] = [1.0, -2.0]
    drawn = np.where(rng.random((2000, n)) < p, values[:, 1], values[:, 0]).mean(axis=1)
    gap = np.abs(drawn - (values * probability).sum(axis=1).mean())
    bound = chance_bound(values, probability)
    assert (gap > bound * (1.0 + 1e-9)).mean() <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / 2000)


def test_many_draws_have_the_normal_bound() -> None:
    p = np.random.default_rng(0).uniform(0.2, 0.8, size=20_000)
    assert chance_bound(*two_outcomes(p, 3.0)) == pytest.approx(
        1.96 * 3.0 * math.sqrt((p * (1.0 - p)).sum()) / 20_000, rel=0.01
    )


def test_nothing_lies_beyond_what_is_possible_and_certain_draws_have_no_noise() -> None:
    assert chance_bound(*two_outcomes(np.array([0.5]), 4.0)) == 2.0
    assert chance_bound(*two_outcomes(np.array([0.0, 1.0]), 4.0)) == 0.0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_do_not_matter(scale: float) -> None:
    p = np.full(60, 0.02)
    values, probability = two_outcomes(p, 50.0)
    plain = chance_bound(values, probability)
    assert chance_bound(scale * values, probability) == pytest.approx(scale * plain, rel=1e-3)


@pytest.mark.parametrize("rate", [0.0, 3e-15, 1e-6])
def test_a_cost_that_as_good_as_never_occurs_does_not_widen_the_bound(rate: float) -> None:
    values, probability = two_outcomes(np.full(60, 0.02), 50.0)
    plain = chance_bound(values, probability)
    with_dear = (
        np.hstack([values, np.full((60, 1), 1e9)]),
        np.hstack([probability - rate / 2.0, np.full((60, 1), rate)]),
    )
    expected = rate * 1e9  # it is part of what was expected, and did not come
    assert chance_bound(*with_dear) <= plain + expected * 1.001


def test_copies_in_one_group_and_weights_count_as_one_draw() -> None:
    p = np.random.default_rng(1).uniform(0.01, 0.1, size=50)
    values, probability = two_outcomes(p, 10.0)
    copies = np.random.default_rng(2).integers(1, 4, size=50)
    rows = np.repeat(np.arange(50), copies)
    weighted = chance_bound(values, probability, weights=copies.astype(np.float64))
    assert chance_bound(values[rows], probability[rows], groups=rows) == pytest.approx(weighted, rel=1e-9)
    assert weighted > chance_bound(values, probability)


def test_rows_of_one_fate_stay_within_the_bound_of_their_groups() -> None:
    rng = np.random.default_rng(3)
    p, groups = rng.uniform(0.0, 0.04, size=200), np.repeat(np.arange(50), 4)
    values, probability = two_outcomes(p, 10.0)
    drawn = 10.0 * (rng.random((4000, 50))[:, groups] < p).mean(axis=1)
    gap = np.abs(drawn - 10.0 * p.mean())
    assert (gap > chance_bound(values, probability, groups=groups)).mean() <= 0.05
    assert (gap > chance_bound(values, probability)).mean() > 0.05
