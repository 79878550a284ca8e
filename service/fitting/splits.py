"""How calibration rows are split: folds, halves, one row of every group. Rows of a group are never split."""

from typing import Final

import numpy as np

from service.core.numerics import Flags, Indices
from service.data.dataset import Dataset

FOLDS: Final = 5


def independent_units(data: Dataset) -> int:
    """How many rows or, if there are groups, groups have any weight: what smoothing and ridges are measured by."""
    return int(_weighted_units(data).sum())


def folds_of(data: Dataset, seed: int) -> Indices:
    """Fold of every row, shape (N,); rows of a group share one.

    Units without weight are dealt none of their own: no fold can then be left without a weight to learn from.
    """
    weighted = _weighted_units(data)
    count = int(weighted.sum())
    of_unit = np.zeros(data.units, dtype=np.intp)
    of_unit[weighted] = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    return of_unit if data.groups is None else of_unit[data.groups]


def _weighted_units(data: Dataset) -> Flags:
    """Of every row or, if there are groups, group, whether it has any weight."""
    if data.weights is None:
        return np.ones(data.units, dtype=np.bool_)
    mass = data.weights if data.groups is None else np.bincount(data.groups, data.weights, minlength=data.units)
    weighted: Flags = mass > 0.0
    return weighted


def halves(data: Dataset, seed: int) -> tuple[Indices, Indices]:
    """Rows to learn from, and rows that thresholds rest on; units (rows, or groups) are drawn at random."""
    units = data.units
    chosen = np.random.default_rng(seed).permutation(units) < units // 2
    learning = chosen if data.groups is None else chosen[data.groups]
    return np.flatnonzero(learning), np.flatnonzero(~learning)


def one_per_group(data: Dataset, rows: Indices, seed: int) -> Indices:
    """One row of every group, drawn at random; all rows where there are no groups."""
    if data.groups is None:
        return rows
    # Rows of one patient are not exchangeable with those of another; one drawn from each is.
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[np.unique(data.groups[shuffled], return_index=True)[1]])
