"""Intervals over seeds that split the same rows again and again."""

import numpy as np
import pytest

from service.training.seeds import Spread, paired


def mean_over_splits(rows: np.ndarray, *, splits: int, seed: int) -> tuple[float, ...]:
    """The mean of half of the rows, over random halves."""
    rng = np.random.default_rng(seed)
    return tuple(float(rng.permutation(rows)[: len(rows) // 2].mean()) for _ in range(splits))


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.4, 0.6), (1.0, 0.93, 1.0)])
def test_overlapping_splits_need_the_correction_to_cover_the_truth(share: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(300):
        first = Spread(mean_over_splits(rng.normal(0.0, 1.0, 100), splits=10, seed=seed))
        found = paired(first, Spread((0.0,) * 10), test_over_training=share)
        covered.append(found.low <= 0.0 <= found.high)
    assert low <= np.mean(covered) <= high


def test_without_overlap_the_interval_is_that_of_student() -> None:
    found = paired(Spread((1.0, 2.0, 3.0)), Spread((0.0, 0.0, 0.0)))
    assert (found.low, found.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))
