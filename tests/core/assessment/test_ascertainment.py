"""Inverse-probability weighting: bias, coverage, overlap."""

import numpy as np
import pytest

from service.core.assessment.ascertainment import hajek, horvitz_thompson, inverse_probability_weights


def seen(rng, n):
    """Kinds with different event rates, seen with different probabilities; values are events."""
    kind = (rng.random(n) < 0.3).astype(int)
    values = (rng.random(n) < np.array([0.05, 0.5])[kind]).astype(float)
    known = rng.random(n) < np.array([0.1, 0.9])[kind]
    return kind, values, known


def weights_of(known, kind) -> np.ndarray:
    weights = inverse_probability_weights(known, kind).weights
    assert weights is not None
    return weights


def test_weighted_means_cover_the_mean_of_all_rows():
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    for _ in range(500):
        kind, values, known = seen(rng, 1000)
        weights = weights_of(known, kind)[known]
        events = values[known]
        found = hajek(events, 1.0 / weights, least=np.zeros(len(events)), most=np.ones(len(events)))
        covered += found.low <= 0.185 <= found.high
        naive += abs(events.mean() - 0.185) < 0.1
    assert covered >= 465
    assert naive == 0


def test_both_estimators_are_unbiased_with_known_probabilities():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        kind, values, known = seen(rng, 1000)
        probability = np.array([0.1, 0.9])[kind][known]
        thompson = horvitz_thompson(values[known], probability, rows=1000)
        found.append([thompson, hajek(values[known], probability).mean])
    assert np.mean(found, axis=0) == pytest.approx([0.185, 0.185], abs=0.006)


def test_weights_add_up_to_all_rows():
    kind, _, known = seen(np.random.default_rng(2), 1000)
    assert weights_of(known, kind).sum() == pytest.approx(1000)


def test_a_kind_with_too_few_known_subjects_leaves_no_weights():
    known = np.arange(100) < 90
    kind = (np.arange(100) >= 80).astype(int)
    assert inverse_probability_weights(known, kind).weights is not None
    found = inverse_probability_weights(known, kind, groups=np.minimum(np.arange(100), 82))
    assert found.weights is None
    assert found.without.tolist() == [1]
