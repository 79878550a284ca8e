import math
from collections.abc import Sequence

import numpy as np
import pytest

from service.core.conformal import FEWEST_STORED, Reference, p_values, reference, threshold
from service.core.mondrian import references_by_class, thresholds_by_class, with_fallback
from service.core.numerics import Array, Indices


def test_false_alarms_are_bounded_within_every_predicted_class() -> None:
    rng = np.random.default_rng(8)

    def rows(n: int) -> tuple[Array, Indices]:
        predicted = rng.choice(3, size=n, p=[0.7, 0.2, 0.1])
        return rng.exponential(size=n) * np.array([1.0, 3.0, 10.0])[predicted], predicted

    alarms = np.full((400, 2, 3), np.nan)
    for trial in range(400):
        (scores, predicted), (new, of_new) = rows(600), rows(300)
        limits = thresholds_by_class(references_by_class(scores, predicted, classes=3), alpha=0.1)
        pooled = threshold(reference(scores), alpha=0.1)
        for k in range(3):
            alarms[trial, :, k] = [(new > limits[of_new])[of_new == k].mean(), (new > pooled)[of_new == k].mean()]
    within, together = np.nanmean(alarms, axis=0)
    noise = np.nanstd(alarms[:, 0], axis=0) / math.sqrt(400)
    assert (within <= 0.1 + 4.0 * noise).all()
    assert together[2] > 0.5


def of_predicted(references: Sequence[Reference], scores: Array, predicted: Indices) -> Array:
    """p-value of every row among the calibration rows of its predicted class."""
    return np.array([p_values(references[k], scores[i : i + 1])[0] for i, k in enumerate(predicted)])


def test_flags_and_p_values_per_class_agree() -> None:
    rng = np.random.default_rng(9)
    scores, predicted = rng.normal(size=500), rng.integers(0, 3, size=500)
    groups = references_by_class(scores, predicted, classes=3)
    limits, p = thresholds_by_class(groups, alpha=0.1), of_predicted(groups, scores, predicted)
    np.testing.assert_array_equal(scores > limits[predicted], p <= 0.1)


@pytest.mark.parametrize("confidence", [None, 0.9])
def test_a_class_predicted_too_rarely_has_the_threshold_and_the_p_values_of_all_rows(confidence: float | None) -> None:
    scores, predicted = np.arange(100.0), np.repeat([0, 2], [95, 5])
    among, groups = reference(scores), references_by_class(scores, predicted, classes=3)
    usual = threshold(among, alpha=0.05, confidence=confidence)
    own = thresholds_by_class(groups, alpha=0.05, confidence=confidence)
    filled = with_fallback(groups, own, among=among, usual=usual)
    assert filled.own.tolist() == [True, False, False]
    assert filled.thresholds.tolist() == [threshold(groups[0], alpha=0.05, confidence=confidence), usual, usual]
    new = np.array([94.5, 94.5, 94.5])
    alone = p_values(groups[0], new[:1])[0], p_values(among, new[:1])[0]
    assert of_predicted(filled.references, new, np.arange(3)).tolist() == [alone[0], alone[1], alone[1]]


@pytest.mark.parametrize("rarest", [4, 40])
def test_flags_and_p_values_agree_for_a_class_that_falls_back_too(rarest: int) -> None:
    rng = np.random.default_rng(11)
    scores, predicted = rng.normal(size=500), np.repeat([0, 1], [500 - rarest, rarest])
    among, groups = reference(scores), references_by_class(scores, predicted, classes=2)
    own = thresholds_by_class(groups, alpha=0.1)
    filled = with_fallback(groups, own, among=among, usual=threshold(among, alpha=0.1))
    p = of_predicted(filled.references, scores, predicted)
    np.testing.assert_array_equal(scores > filled.thresholds[predicted], p <= 0.1)


def test_many_classes_share_what_is_stored_and_keep_their_tails() -> None:
    rng = np.random.default_rng(10)
    groups = references_by_class(rng.normal(size=60_000), rng.integers(0, 200, size=60_000), classes=200)
    assert {len(group.scores) for group in groups} == {FEWEST_STORED}
