from dataclasses import astuple

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from service.core.assessment.decomposition import binned_decomposition, corp_decomposition, monotone_recalibration
from service.core.assessment.miscalibration import equal_mass
from service.core.numerics import Array
from tests.core.draws import distorted, perfect

every_loss = pytest.mark.parametrize("loss", ["brier", "log_loss"])


# -------------------------------------------------------------------------------------------------------------- CORP


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=40))
def test_monotone_recalibration_is_scikit_learns_isotonic_regression(rows: list[tuple[int, int]]) -> None:
    predicted, outcomes = np.array(rows, dtype=np.float64).T
    predicted = predicted / 8.0
    oracle = IsotonicRegression(out_of_bounds="clip").fit_transform(predicted, outcomes)
    np.testing.assert_allclose(monotone_recalibration(predicted, outcomes), oracle, atol=1e-12)


@every_loss
def test_the_parts_add_up_to_the_score_and_none_is_negative(loss) -> None:
    for seed in range(20):
        predicted, outcomes = distorted(150, seed=seed)
        parts = corp_decomposition(predicted, outcomes, loss=loss)
        assert min(parts.miscalibration, parts.discrimination, parts.uncertainty) >= -1e-15
        assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(parts.score, rel=1e-12)


def test_the_scores_are_scikit_learns_and_the_recalibrated_one_too() -> None:
    predicted, outcomes = distorted(500, seed=6)
    best = IsotonicRegression(out_of_bounds="clip").fit_transform(predicted, outcomes * 1.0)
    brier, log = (corp_decomposition(predicted, outcomes, loss=loss) for loss in ("brier", "log_loss"))
    assert brier.score == pytest.approx(sklearn.metrics.brier_score_loss(outcomes, predicted), rel=1e-12)
    assert brier.score - brier.miscalibration == pytest.approx(np.mean((best - outcomes) ** 2), rel=1e-10)
    assert log.score == pytest.approx(sklearn.metrics.log_loss(outcomes, predicted), rel=1e-12)
    own = np.where(outcomes, best, 1.0 - best)
    assert log.score - log.miscalibration == pytest.approx(-np.mean(np.log(own)), rel=1e-10)


def test_a_monotone_distortion_moves_only_the_miscalibration() -> None:
    predicted, outcomes = perfect(2000, seed=7)
    straight, bent = corp_decomposition(predicted, outcomes), corp_decomposition(predicted**3, outcomes)
    assert bent.discrimination == pytest.approx(straight.discrimination, rel=1e-12)
    assert bent.uncertainty == straight.uncertainty
    assert bent.miscalibration > straight.miscalibration + 0.02


def test_an_event_of_probability_zero_that_occurs_costs_infinity() -> None:
    parts = corp_decomposition(np.array([0.0, 0.5]), np.array([1, 0]), loss="log_loss")
    assert parts.score == parts.miscalibration == np.inf


# -------------------------------------------------------------------------------------------------------------- bins


@every_loss
def test_the_binned_parts_add_up_and_only_what_bins_hide_can_be_negative(loss) -> None:
    for seed in range(20):
        predicted, outcomes = distorted(150, seed=seed)
        parts = binned_decomposition(predicted, outcomes, loss=loss)
        whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
        assert whole == pytest.approx(parts.score, rel=1e-12)
        assert min(parts.reliability, parts.resolution, parts.uncertainty) >= -1e-15
        assert parts.score == corp_decomposition(predicted, outcomes, loss=loss).score


@every_loss
def test_without_differences_inside_bins_nothing_is_hidden_and_murphys_terms_are_the_textbooks(loss) -> None:
    predicted = np.repeat([0.1, 0.4, 0.8], [30, 50, 20])
    outcomes = np.arange(100) % 3 == 0
    parts = binned_decomposition(predicted, outcomes, loss=loss)
    rate, share = np.mean(outcomes), np.array([0.3, 0.5, 0.2])
    seen = np.array([np.mean(outcomes[predicted == p]) for p in (0.1, 0.4, 0.8)])

    def divergence(truth: Array, claim: Array) -> Array:
        if loss == "brier":
            return np.asarray((truth - claim) ** 2)
        return np.asarray(truth * np.log(truth / claim) + (1 - truth) * np.log((1 - truth) / (1 - claim)))

    assert parts.within == pytest.approx(0.0, abs=1e-15)
    assert parts.reliability == pytest.approx(share @ divergence(seen, np.array([0.1, 0.4, 0.8])), rel=1e-12)
    assert parts.resolution == pytest.approx(share @ divergence(seen, np.full(3, rate)), rel=1e-12)


def test_bins_see_less_miscalibration_than_the_best_monotone_map_when_they_are_coarse() -> None:
    predicted, outcomes = distorted(3000, seed=1)
    coarse = binned_decomposition(predicted, outcomes, index=np.zeros(3000, dtype=np.intp))
    assert coarse.resolution == pytest.approx(0.0, abs=1e-15)
    assert coarse.reliability < corp_decomposition(predicted, outcomes).miscalibration


@every_loss
def test_a_weight_of_two_is_the_row_twice(loss) -> None:
    predicted, outcomes = distorted(200, seed=2)
    copies = np.random.default_rng(2).integers(1, 4, size=200)
    rows, weights = np.repeat(np.arange(200), copies), copies.astype(np.float64)
    one = corp_decomposition(predicted, outcomes, loss=loss, weights=weights)
    two = corp_decomposition(predicted[rows], outcomes[rows], loss=loss)
    assert astuple(one) == pytest.approx(astuple(two), rel=1e-9)
    bins = equal_mass(predicted)
    binned = binned_decomposition(predicted, outcomes, index=bins, loss=loss, weights=weights)
    again = binned_decomposition(predicted[rows], outcomes[rows], index=bins[rows], loss=loss)
    assert astuple(binned) == pytest.approx(astuple(again), rel=1e-9, abs=1e-15)


def test_a_bin_of_probability_zero_with_events_is_infinite_and_leaves_the_other_parts_numbers() -> None:
    parts = binned_decomposition(np.array([0.0, 0.9]), np.array([1, 1]), loss="log_loss")
    assert parts.score == parts.reliability == np.inf
    assert np.isfinite([parts.resolution, parts.uncertainty, parts.within]).all()
