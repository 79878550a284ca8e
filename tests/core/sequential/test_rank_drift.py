from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest

from service.core.conformal import reference, threshold
from service.core.sequential.rank_drift import Ranks, advance_ranks, begin_ranks, bins
from tests.core.sequential.lives import World, first_alarm, score_lives


def test_the_urn_is_the_law_of_ranks_under_exchangeability() -> None:
    # All orders of two calibration rows and two new ones are equally likely: count those with each pair of gaps.
    found = {pair: Fraction(0) for pair in product(range(3), repeat=2)}
    for order in permutations(range(4)):
        calibration = sorted(order[:2])
        found[tuple(int(np.searchsorted(calibration, value)) for value in order[2:])] += Fraction(1, 24)
    for (first, second), probability in found.items():
        assert probability == Fraction(1, 3) * Fraction(1 + (first == second), 4)


def test_evidence_has_mean_one_over_all_ways_that_rows_can_fall() -> None:
    among, mean = bins(np.array([3, 4]), 5), 0.0
    for path in product(range(3), repeat=5):
        state, probability = begin_ranks(among), 1.0
        for b in path:
            urn = among.gaps + state.memory
            probability *= urn[b] / urn.sum()
            state = advance_ranks(state, np.asarray(b), among)
        mean += probability * float(np.exp(state.evidence.log_value))
    assert mean == pytest.approx(1.0)


def test_ties_lie_in_one_bin() -> None:
    calibration = reference(np.repeat([0.0, 1.0, 2.0], [50, 40, 10]))
    found = Ranks.of(calibration, threshold=threshold(calibration, alpha=0.05))
    assert found.among.gaps.tolist() == [50.0, 40.0, 10.0, 1.0]
    assert found.edges.searchsorted([0.0, 1.0, 2.0, 3.0]).tolist() == [0, 1, 2, 3]


def test_the_last_bin_is_that_of_flagged_rows() -> None:
    calibration = reference(np.random.default_rng(0).normal(size=500))
    edge = threshold(calibration, alpha=0.05)
    found = Ranks.of(calibration, threshold=edge)
    assert found.edges[-1] == edge
    assert found.among.gaps[-1] == 25.0


def test_equal_calibration_scores_are_no_error() -> None:
    found = Ranks.of(reference(np.zeros(30)), threshold=0.0)
    assert found.among.gaps.tolist() == [30.0, 1.0]


def test_many_scores_of_which_few_are_stored_have_the_same_bins() -> None:
    scores = np.random.default_rng(0).normal(size=30_000)
    whole, thinned = reference(scores, limit=30_000), reference(scores)
    edge = threshold(whole, alpha=0.05)
    gaps = Ranks.of(whole, threshold=edge).among.gaps
    assert np.abs(Ranks.of(thinned, threshold=edge).among.gaps - gaps).max() <= 5


def test_a_state_is_the_same_however_rows_are_cut_into_looks() -> None:
    rng = np.random.default_rng(0)
    test, scores = Ranks.of(reference(rng.normal(size=200)), threshold=1.6), rng.normal(size=60)
    state, values = test.follow(test.begin(), scores, np.zeros(60, dtype=np.intp))
    again, found = test.begin(), list[float]()
    for part in (scores[:7], scores[7:]):
        again, some = test.follow(again, part, np.zeros(len(part), dtype=np.intp))
        found.extend(some)
    assert np.array_equal(values, found)
    assert np.array_equal(state.memory, again.memory)


def test_sound_versions_raise_no_alarm_for_being_finite() -> None:
    log_values = score_lives(World(calibration_rows=100, rows=1500), 1000, seed=3)
    assert np.isfinite(first_alarm(log_values, 0.5)).sum() <= 12  # of 1000 at 0.5 %


def test_scores_that_moved_are_found() -> None:
    assert np.median(first_alarm(score_lives(World(rows=600, shift=0.5), 100, seed=4), 0.5)) < 300


def test_scores_that_moved_late_are_found() -> None:
    log_values = score_lives(World(rows=3000, change=2000, shift=0.5), 50, seed=5)
    assert np.median(first_alarm(log_values, 0.5)) < 2500
