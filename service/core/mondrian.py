"""Conformal thresholds and p-values within every predicted class (Mondrian).

False alarms are bounded for every class, not only on average. A class that was predicted for too few calibration rows
falls back on those of all rows together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.core.conformal import FEWEST_STORED, STORED_SCORES, Reference, reference, threshold
from service.core.numerics import Array, Flags, Indices
from service.core.score_ties import ROUNDING, Band


def references_by_class(
    scores: Array, predicted: Indices, *, classes: int, limit: int = STORED_SCORES, band: Band | Array = ROUNDING
) -> tuple[Reference, ...]:
    """One `reference` per predicted class, so that false alarms are bounded within every predicted class (Mondrian).

    Parameters
    ----------
    scores : ndarray of shape (N,)
    predicted : ndarray of shape (N,)
        Predicted class of every row: not the true one, which a request does not know.
    classes : int
        K.
    limit : int
        Shared by the classes.
    band : Band
        As of `reference`.

    Examples
    --------
    >>> [r.n for r in references_by_class(np.array([3.0, 1.0, 2.0]), np.array([0, 0, 2]), classes=3)]
    [2, 0, 1]

    References
    ----------
    Vovk et al. (2005), *Algorithmic Learning in a Random World*, Springer, section 4.5.
    """
    share, own = max(FEWEST_STORED, limit // classes), [predicted == k for k in range(classes)]
    bands = [band if isinstance(band, Band) else band[rows] for rows in own]
    return tuple(reference(scores[rows], limit=share, band=b) for rows, b in zip(own, bands, strict=True))


def thresholds_by_class(calibration: Sequence[Reference], *, alpha: float, confidence: float | None = None) -> Array:
    """`threshold` of every predicted class, shape (K,); NaN where a class was predicted for too few rows.

    Examples
    --------
    >>> groups = references_by_class(np.arange(10.0), np.repeat([0, 1, 2], [4, 4, 2]), classes=3)
    >>> thresholds_by_class(groups, alpha=0.2).round(6)
    array([ 3.,  7., nan])
    """
    return np.array([_threshold_or_nan(group, alpha, confidence) for group in calibration])


@dataclass(frozen=True, slots=True)
class ByClass:
    """References and thresholds of every predicted class.

    A class predicted for too few calibration rows has those of all rows together: its false alarms are then bounded
    on average over all rows, no longer within the class.

    Attributes
    ----------
    references : tuple of Reference
    thresholds : ndarray of shape (K,)
    own : ndarray of shape (K,)
        Whether they are the class' own.
    """

    references: tuple[Reference, ...]
    thresholds: Array
    own: Flags


def with_fallback(groups: Sequence[Reference], thresholds: Array, *, among: Reference, usual: float) -> ByClass:
    """Fill in for classes that have no threshold of their own.

    Parameters
    ----------
    groups : sequence of Reference
        Of every predicted class.
    thresholds : ndarray of shape (K,)
        NaN where a class has none.
    among : Reference
        All rows together.
    usual : float
        Their threshold.

    Examples
    --------
    >>> rows = reference(np.arange(8.0))
    >>> groups = references_by_class(np.arange(8.0), np.repeat([0, 1], [6, 2]), classes=2)
    >>> by_class = with_fallback(groups, thresholds_by_class(groups, alpha=0.2), among=rows, usual=7.0)
    >>> by_class.thresholds.round(6), by_class.own, by_class.references[1].n
    (array([5., 7.]), array([ True, False]), 8)
    """
    own = ~np.isnan(thresholds)
    references = tuple(group if is_own else among for group, is_own in zip(groups, own, strict=True))
    return ByClass(references, np.where(own, thresholds, usual), own)


def _threshold_or_nan(calibration: Reference, alpha: float, confidence: float | None) -> float:
    try:
        return threshold(calibration, alpha=alpha, confidence=confidence)
    except ValueError:
        return math.nan
