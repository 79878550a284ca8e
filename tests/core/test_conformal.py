import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from service.core.conformal import (
    STORED_SCORES,
    attainable,
    benjamini_hochberg,
    binomial_cdf,
    confident_rank,
    marginal_rank,
    p_values,
    reference,
    threshold,
)
from service.core.numerics import Array

alphas = st.sampled_from([0.29, 0.01, 0.05 / 3, 0.025, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.9])
tied_scores = st.lists(st.integers(0, 12).map(float), min_size=100, max_size=300).map(np.array)


def exact_p_values(scores: Array, new: Array) -> Array:
    at_least_as_large: Array = (scores[None, :] >= new[:, None]).sum(axis=1)
    return (1 + at_least_as_large) / (len(scores) + 1)


# ------------------------------------------------------------------------------------------------------ threshold


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [
        (1000, 0.05, 951),
        (19, 0.05, 19),
        (100, 0.05, 96),
        (99, 0.1, 90),
        (5000, 0.01, 4951),
        (9, 0.1, 9),
        (99, 0.29, 71),
        (59, 0.05 / 3, 59),
    ],
)
def test_the_threshold_is_the_order_statistic_of_rank_n_plus_one_times_one_minus_alpha(
    n: int, alpha: float, rank: int
) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1.0))
    assert threshold(reference(shuffled), alpha=alpha) == pytest.approx(rank)
    assert rank == math.ceil((n + 1) * (1 - alpha) - 1e-9)


@pytest.mark.parametrize(
    ("alpha", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (0.3, 3), (0.05 / 3, 59), (0.001, 999)]
)
def test_an_unattainable_rate_is_refused_with_the_number_of_rows_it_needs(alpha: float, needed: int) -> None:
    assert needed == math.ceil(1 / alpha - 1e-9) - 1
    assert attainable(needed, alpha)
    assert not attainable(needed - 1, alpha)
    threshold(reference(np.arange(float(needed))), alpha=alpha)
    with pytest.raises(ValueError, match=rf"at least {needed} rows, there are {needed - 1}"):
        threshold(reference(np.arange(float(needed - 1))), alpha=alpha)


def test_no_rows_attain_nothing() -> None:
    with pytest.raises(ValueError, match="there are 0"):
        threshold(reference(np.empty(0)), alpha=0.5)


@given(tied_scores, st.sampled_from([0.05, 0.1, 0.2]), st.sampled_from([np.exp, np.arctan, lambda s: 3.0 * s - 7.0]))
def test_no_monotone_map_of_the_scores_changes_a_flag_or_a_p_value(
    scores: Array, alpha: float, monotone: Callable[[Array], Array]
) -> None:
    new = np.arange(-1.0, 14.0) + 0.5 * (np.arange(15) % 2)
    plain, mapped = reference(scores), reference(monotone(scores))
    np.testing.assert_array_equal(p_values(plain, new), p_values(mapped, monotone(new)))
    np.testing.assert_array_equal(new > threshold(plain, alpha=alpha), monotone(new) > threshold(mapped, alpha=alpha))


# ------------------------------------------------------------------------------------------------------- p-values


@given(tied_scores)
def test_p_values_count_the_scores_at_least_as_large(scores: Array) -> None:
    new = np.arange(-1.0, 14.0, 0.5)
    np.testing.assert_array_equal(p_values(reference(scores), new), exact_p_values(scores, new))


@given(tied_scores)
def test_p_values_lie_above_zero_and_reach_one(scores: Array) -> None:
    p = p_values(reference(scores), np.array([-np.inf, -1.0, 5.0, 1e300, np.inf]))
    assert (p > 0.0).all()
    assert (p <= 1.0).all()
    assert p[0] == 1.0
    assert p[-1] == 1.0 / (len(scores) + 1)


@given(tied_scores, alphas)
def test_a_row_is_flagged_exactly_when_its_p_value_is_at_most_alpha(scores: Array, alpha: float) -> None:
    calibration = reference(scores)
    new = np.concatenate([np.arange(-1.0, 14.0, 0.5), scores])
    flagged = new > threshold(calibration, alpha=alpha)
    np.testing.assert_array_equal(flagged, p_values(calibration, new) <= alpha + 1e-12)


# --------------------------------------------------------------------------------------------------------- thinned


@pytest.fixture(scope="module", params=["continuous", "tied"])
def many(request: pytest.FixtureRequest) -> Array:
    scores = np.random.default_rng(1).exponential(size=3 * STORED_SCORES + 17)
    return scores if request.param == "continuous" else np.round(scores, 2)


@pytest.fixture(scope="module")
def fresh() -> Array:
    rng = np.random.default_rng(2)
    return np.concatenate([rng.exponential(size=5000), np.round(rng.exponential(size=5000), 2), [0.0, 50.0]])


def test_a_long_reference_is_thinned_and_a_short_one_is_not(many: Array) -> None:
    assert len(reference(many).scores) == STORED_SCORES
    assert reference(many).n == len(many)
    np.testing.assert_array_equal(reference(many[:STORED_SCORES]).ranks, np.arange(1, STORED_SCORES + 1))


@pytest.mark.parametrize("n", [11, 12, 15, 100])
@pytest.mark.parametrize("limit", [2, 3, 9, 10])
def test_what_is_kept_are_order_statistics_with_their_ranks(n: int, limit: int) -> None:
    kept = reference(np.random.default_rng(n).permutation(np.arange(1.0, n + 1.0)), limit=limit)
    np.testing.assert_array_equal(kept.scores, kept.ranks)
    assert len(kept.scores) == limit
    assert (np.diff(kept.ranks) > 0).all()
    assert (kept.ranks[0], kept.ranks[-1]) == (1, n)


def test_thinning_never_lowers_a_p_value_and_keeps_the_small_ones(many: Array, fresh: Array) -> None:
    thinned, exact = (
        p_values(reference(many), fresh),
        p_values(reference(many, limit=len(many)), fresh),
    )
    assert (thinned >= exact).all()
    assert (thinned - exact).max() < 0.01
    np.testing.assert_array_equal(thinned[exact < 0.1], exact[exact < 0.1])


@pytest.mark.parametrize("alpha", [0.001, 0.05 / 3, 0.05, 0.3, 0.9])
def test_flag_and_p_value_agree_with_a_thinned_reference(many: Array, fresh: Array, alpha: float) -> None:
    calibration = reference(many)
    flagged = fresh > threshold(calibration, alpha=alpha)
    np.testing.assert_array_equal(flagged, p_values(calibration, fresh) <= alpha)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.7, 0.9])
def test_a_thinned_threshold_is_never_below_the_exact_one(many: Array, alpha: float) -> None:
    exact = np.sort(many)[math.ceil((len(many) + 1) * (1 - alpha) - 1e-9) - 1]
    assert threshold(reference(many), alpha=alpha) >= exact


# -------------------------------------------------------------------------------------------------------- validity


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (20, 0.1), (50, 0.1), (99, 0.2)])
def test_false_alarms_stay_within_alpha_on_average(n: int, alpha: float) -> None:
    trials = 4000
    draws = np.random.default_rng(3).normal(size=(trials, n + 1))
    flagged = np.mean([row[-1] > threshold(reference(row[:-1]), alpha=alpha) for row in draws])
    assert flagged <= alpha + 4.0 * math.sqrt(alpha * (1 - alpha) / trials)
    assert flagged >= alpha - 1.0 / (n + 1) - 4.0 * math.sqrt(alpha * (1 - alpha) / trials)


def test_p_values_of_rows_like_the_calibration_rows_are_no_smaller_than_uniform() -> None:
    trials = 4000
    draws = np.random.default_rng(4).integers(0, 30, size=(trials, 41)).astype(np.float64)
    p = np.array([p_values(reference(row[:-1]), row[-1:])[0] for row in draws])
    for u in (0.05, 0.1, 0.25, 0.5, 0.9):
        assert np.mean(p <= u) <= u + 4.0 * math.sqrt(u * (1 - u) / trials)


def test_the_false_alarm_rate_of_one_calibration_set_spreads_as_a_beta_law() -> None:
    rates = [1.0 - threshold(reference(row), alpha=0.05) for row in np.random.default_rng(5).random((2000, 1000))]
    assert np.mean(rates) == pytest.approx(0.04995, abs=0.0007)
    assert np.std(rates) == pytest.approx(0.0069, abs=0.0005)
    assert np.mean(np.array(rates) > 0.05) == pytest.approx(0.47, abs=0.05)


# ------------------------------------------------------------------------------------------------ with a confidence


@pytest.mark.parametrize(
    ("n", "alpha", "confidence", "rank"),
    [(1000, 0.05, 0.95, 962), (1000, 0.05, 0.9, 960), (100, 0.05, 0.95, 99), (5000, 0.01, 0.95, 4962)],
)
def test_the_confident_rank_is_the_smallest_that_the_beta_law_allows(
    n: int, alpha: float, confidence: float, rank: int
) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1.0))
    assert confident_rank(n, alpha, confidence=confidence) == rank
    assert threshold(reference(scores), alpha=alpha, confidence=confidence) == pytest.approx(rank)
    assert scipy.stats.beta.sf(alpha, n + 1 - rank, rank) <= 1.0 - confidence
    assert scipy.stats.beta.sf(alpha, n + 2 - rank, rank - 1) > 1.0 - confidence
    assert rank > marginal_rank(n, alpha)


@given(st.integers(1, 4000), st.sampled_from([1e-4, 0.01, 0.05, 0.3, 0.5, 0.9]))
def test_the_binomial_tail_is_scipys_and_that_of_the_beta_law(n: int, alpha: float) -> None:
    tail = binomial_cdf(n, alpha)
    np.testing.assert_allclose(tail, scipy.stats.binom.cdf(np.arange(n + 1), n, alpha), rtol=1e-9, atol=1e-14)
    ranks = np.arange(1, n + 1)
    law = scipy.stats.beta.sf(alpha, n + 1 - ranks, ranks)
    np.testing.assert_allclose(tail[n - ranks], law, rtol=1e-9, atol=1e-14)


def test_the_binomial_tail_of_a_million_trials_does_not_underflow() -> None:
    at = np.array([49_000, 50_000, 51_000])
    np.testing.assert_allclose(binomial_cdf(1_000_000, 0.05)[at], scipy.stats.binom.cdf(at, 1_000_000, 0.05), rtol=1e-7)


@pytest.mark.parametrize(("alpha", "confidence", "needed"), [(0.05, 0.95, 59), (0.05, 0.9, 45), (0.01, 0.95, 299)])
def test_an_unattainable_confidence_is_refused_with_the_number_of_rows_it_needs(
    alpha: float, confidence: float, needed: int
) -> None:
    assert confident_rank(needed, alpha, confidence=confidence) == needed
    with pytest.raises(ValueError, match=rf"confidence {confidence} needs at least {needed} rows, there are"):
        confident_rank(needed - 1, alpha, confidence=confidence)


def test_with_a_confidence_few_calibration_sets_have_more_false_alarms_than_alpha() -> None:
    draws = np.random.default_rng(6).random((4000, 300))
    exceeded = np.mean([1.0 - threshold(reference(row), alpha=0.1, confidence=0.9) > 0.1 for row in draws])
    assert exceeded <= 0.1 + 4.0 * math.sqrt(0.09 / 4000)
    assert exceeded >= 0.05


def test_a_thinned_reference_is_never_less_careful_with_a_confidence(many: Array) -> None:
    exact = np.sort(many)[confident_rank(len(many), 0.05, confidence=0.95) - 1]
    assert threshold(reference(many), alpha=0.05, confidence=0.95) == pytest.approx(exact)


# --------------------------------------------------------------------------------------------------- false discovery


@given(st.lists(st.integers(1, 50).map(lambda i: i / 50), min_size=1, max_size=60).map(np.array))
def test_benjamini_and_hochberg_are_scipys(p: Array) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p), rtol=1e-12)


def test_no_rows_make_no_discoveries() -> None:
    assert benjamini_hochberg(np.empty(0)).shape == (0,)


def test_the_share_of_false_discoveries_in_a_batch_is_bounded() -> None:
    rng, shares = np.random.default_rng(7), []
    for _ in range(600):
        calibration = reference(rng.normal(size=500))
        p = p_values(calibration, np.concatenate([rng.normal(size=80), 4.0 + rng.normal(size=20)]))
        flagged = benjamini_hochberg(p) <= 0.2
        shares.append(flagged[:80].sum() / max(1, flagged.sum()))
    assert np.mean(shares) <= 0.2 * 0.8 + 4.0 * np.std(shares) / math.sqrt(600)


# -------------------------------------------------------------------------------------------------- several scores


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.5])
@pytest.mark.parametrize("n", [39, 400])
def test_joint_p_values_of_scores_that_share_calibration_rows_are_no_smaller_than_uniform(
    n: int, correlation: float
) -> None:
    rng, levels = np.random.default_rng(n), np.array([0.025, 0.05, 0.1, 0.5])
    rates = []
    for _ in range(400):
        first, noise = rng.normal(size=(2, n + 50))
        scores = np.stack([first, correlation * first + np.sqrt(1.0 - correlation**2) * noise])
        p = np.minimum(1.0, 2.0 * np.min([p_values(reference(s[:n]), s[n:]) for s in scores], axis=0))
        rates.append((p[:, None] <= levels).mean(axis=0))
    error = np.std(rates, axis=0) / np.sqrt(400)
    assert (np.mean(rates, axis=0) <= levels + 3.0 * error).all()
