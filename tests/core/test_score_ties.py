import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.conformal import p_values, reference, threshold
from service.core.mondrian import references_by_class, thresholds_by_class
from service.core.numerics import Array
from service.core.score_ties import CHAIN_BANDS, ROUNDING, UNMEASURED, Band, caps, clear_edge
from service.core.single_row import p_value

scores_near_zero = st.lists(st.floats(-3.0, 3.0) | st.floats(-1e-9, 1e-9), min_size=1, max_size=60).map(np.array)
scores_of_any_size = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60).map(np.array)
spread_out = st.lists(st.integers(-400, 400), min_size=1, max_size=80).map(lambda v: 0.01 * np.array(v, dtype=float))
bands = st.builds(Band, st.sampled_from([0.0, 1e-9, 1e-6, 1e-3]), st.sampled_from([0.0, 1e-12, 1e-7, 1e-3]))
moves = st.integers(0, 2**32 - 1)


def moved(scores: Array, band: Band, seed: int) -> Array:
    """As another path would compute them: anywhere within (just short of) a band."""
    share = np.random.default_rng(seed).uniform(-0.999, 0.999, size=len(scores))
    return scores + share * band.widths(scores)


@given(scores_near_zero, bands, moves)
def test_calibration_rows_never_split_whatever_path_computes_their_score(scores: Array, band: Band, seed: int) -> None:
    known = reference(scores, band=band)
    if np.ptp(scores) <= CHAIN_BANDS * band.widths(scores).max() or not chained(scores, band):
        np.testing.assert_array_equal(p_values(known, scores), p_values(known, moved(scores, band, seed)))


def chained(scores: Array, band: Band) -> bool:
    edges = np.unique(caps(np.sort(scores), band))
    return len(edges) > 1 and bool(np.min(np.diff(edges)) <= 2.0 * band.widths(scores).max())


@given(spread_out, moves)
def test_rows_equal_to_a_calibration_score_have_its_flag_and_p_value(scores: Array, seed: int) -> None:
    band = Band(1e-6, 1e-4)  # grid points lie a hundred bands apart
    known, other = reference(scores, band=band), moved(scores, band, seed)
    np.testing.assert_array_equal(p_values(known, other), p_values(known, scores))
    for one, score in zip(other, scores, strict=True):
        assert p_value(known, one) == p_value(known, score)
    if len(scores) >= 9:
        limit = threshold(known, alpha=0.1)
        np.testing.assert_array_equal(other > limit, scores > limit)


@given(scores_of_any_size, bands)
def test_edges_ascend_and_never_lie_below_their_scores(scores: Array, band: Band) -> None:
    ascending = np.sort(scores)
    edges = caps(ascending, band)
    assert (edges >= ascending).all()
    assert (edges[1:] >= edges[:-1]).all()
    assert np.isfinite(edges).all()


@given(scores_near_zero, bands, moves)
def test_p_values_only_rise_above_those_of_plain_ranks(scores: Array, band: Band, seed: int) -> None:
    new = np.append(scores, np.random.default_rng(seed).uniform(-3.0, 3.0, size=20))
    plain = (1 + (scores[None, :] >= new[:, None]).sum(axis=1)) / (len(scores) + 1)
    assert (p_values(reference(scores, band=band), new) >= plain).all()


@given(scores_near_zero, bands, st.sampled_from([0.05, 0.1, 0.3, 0.5]), moves)
def test_a_row_is_flagged_exactly_when_its_p_value_is_at_most_alpha(
    scores: Array, band: Band, alpha: float, seed: int
) -> None:
    known = reference(np.resize(scores, 60), band=band)
    new = np.concatenate([scores, known.caps, np.nextafter(known.caps, np.inf), moved(scores, band, seed)])
    np.testing.assert_array_equal(new > threshold(known, alpha=alpha), p_values(known, new) <= alpha + 1e-12)


def test_a_chain_of_ties_is_cut_where_its_gaps_are_widest() -> None:
    band = Band(0.0, 1.0)
    scores = np.concatenate([np.arange(0.0, 10.0), np.arange(10.8, 20.0)])  # one chain, with one wider gap
    edges = caps(scores, band)
    assert np.unique(edges).tolist() == pytest.approx([9.9, 20.8])


def test_no_tie_is_wider_than_its_limit_but_among_equals() -> None:
    band = Band(0.0, 1e-3)
    scores = np.sort(np.random.default_rng(0).normal(size=20_000))
    edges = caps(scores, band)
    first = np.unique(edges, return_index=True)[1]
    widths = np.append(scores[first[1:] - 1], scores[-1]) - scores[first]
    assert widths.max() <= CHAIN_BANDS * 1e-3
    assert (caps(np.zeros(5), Band(0.0, 0.0)) == 0.0).all()


def test_a_thinned_reference_keeps_the_edges_of_all_its_scores() -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.exponential(size=40_000), 4)  # left-out rows lie between those that are kept
    band = Band(1e-9, 1e-6)
    known = reference(scores, band=band)
    assert len(known.scores) < len(scores)
    np.testing.assert_array_equal(p_values(known, moved(scores, band, 2)), p_values(known, scores))
    limit = threshold(known, alpha=0.05)
    np.testing.assert_array_equal(moved(scores, band, 3) > limit, scores > limit)


def test_thresholds_within_classes_and_with_a_confidence_stand_clear_of_calibration_rows_too() -> None:
    rng = np.random.default_rng(2)
    scores, predicted, band = np.round(rng.exponential(size=3000), 3), rng.integers(0, 3, size=3000), Band(1e-9, 1e-5)
    groups = references_by_class(scores, predicted, classes=3, band=band)
    for confidence in (None, 0.95):
        limits = thresholds_by_class(groups, alpha=0.1, confidence=confidence)[predicted]
        np.testing.assert_array_equal(moved(scores, band, 4) > limits, scores > limits)


def test_an_order_statistic_of_an_old_record_is_covered_by_the_edge_of_its_tie() -> None:
    known = reference(np.array([1.0, 1.0 + 1e-12, 2.0]))
    assert known.covering(1.0) == known.caps[0] == known.caps[1] > 1.0
    assert known.covering(float(known.caps[2])) == known.caps[2]


def test_nothing_is_flagged_beyond_the_farthest_score() -> None:
    farthest = np.finfo(np.float64).max
    known = reference(np.array([0.0, farthest]), band=UNMEASURED)
    assert p_value(known, farthest) == pytest.approx(2 / 3)


@given(scores_near_zero, st.floats(0.0, 1.0), st.floats(1e-6, 2.0))
def test_a_clear_edge_lies_within_its_limits_and_off_every_value(values: Array, low: float, wide: float) -> None:
    edge = clear_edge(values, low, low + wide)
    assert low < edge < low + wide
    assert np.abs(values - edge).min() >= wide / (2 * (len(values) + 1)) * 0.999 or not np.any(
        (values > low) & (values < low + wide)
    )


def test_rounding_is_a_band_of_its_own() -> None:
    assert ROUNDING.widths(np.array([0.0]))[0] == 0.0
    assert 1e-13 < ROUNDING.relative < UNMEASURED.relative
