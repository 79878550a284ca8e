"""Discrimination: the ROC curve, and the area under it with an interval."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.confusion import NORMAL, Estimate, student
from service.core.numerics import Array, Flags, Indices
from service.core.sampling import effective_rows

FEWEST: Final = 5
"""Events, and others, below which an area has no interval: its variance cannot be estimated."""


@dataclass(frozen=True, slots=True)
class Roc:
    """Rates as the threshold falls.

    Attributes
    ----------
    false_positive_rate, sensitivity : ndarray of shape (M,)
        From (0, 0) to (1, 1).
    """

    false_positive_rate: Array
    sensitivity: Array


def roc_curve(scores: Array, event: Flags, *, weights: Array | None = None, points: int | None = None) -> Roc:
    """The ROC curve, a point for every distinct score, or at most so many.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        Higher means that the event is likelier.
    event : ndarray of shape (N,)
        Some are true and some are not.
    weights : ndarray of shape (N,), optional
    points : int, optional
        At least two; which ones are kept is spread evenly along the curve.

    Examples
    --------
    >>> curve = roc_curve(np.array([0.9, 0.6, 0.4]), np.array([True, False, True]))
    >>> curve.false_positive_rate, curve.sensitivity
    (array([0., 0., 1., 1.]), array([0. , 0.5, 0.5, 1. ]))
    """
    order = np.argsort(-scores, kind="stable")
    w = np.ones(len(scores)) if weights is None else weights[order]
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    yes, no = (np.append(0.0, np.cumsum(w * own)[last]) for own in (event[order], ~event[order]))
    x, y = no / no[-1], yes / yes[-1]
    if points is not None and len(x) > points:
        place = np.searchsorted(x + y, np.linspace(0.0, 2.0, points))  # both rates grow along the curve
        kept = np.unique(np.clip(np.concatenate([[0], place, [len(x) - 1]]), 0, len(x) - 1))
        x, y = x[kept], y[kept]
    return Roc(x, y)


def auroc(scores: Array, event: Flags, *, weights: Array | None = None, groups: Indices | None = None) -> Estimate:
    r"""Probability that an event scores above another row, with DeLong's interval on the log-odds scale.

    The variance is that of the placements :math:`V_i`, the shares of others below an event and of events above another
    row; with groups their sums by group (Obuchowski), which covers groups that hold both kinds. It vanishes for
    areas of exactly 0 or 1 and is too small near them, so that rows without groups have the wider of this interval and
    Newcombe's fifth.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    event : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
        Positive; a weight of two counts as the row twice in the area, and as one row of double weight in its interval.
    groups : ndarray of shape (N,), optional
        0..G-1.

    Returns
    -------
    Estimate
        Not a number where all rows are alike; without an interval for fewer than `FEWEST` events or others (groups of
        them, where there are groups).

    Examples
    --------
    >>> found = auroc(np.arange(20.0), np.arange(20) % 3 > 0)
    >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
    (0.5385, 0.214, 0.8333)

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), *Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves*, Biometrics 44.
    Obuchowski (1997), *Nonparametric Analysis of Clustered ROC Curve Data*, Biometrics 53.
    Newcombe (2006), *Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic*, Statistics
    in Medicine 25.
    """
    rows = int(min(np.count_nonzero(event), np.count_nonzero(~event)))
    if rows == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    w = np.ones(len(scores)) if weights is None else weights
    above = _placements(scores[event], scores[~event], w[~event])
    below = 1.0 - _placements(scores[~event], scores[event], w[event])
    area = float(np.average(above, weights=w[event]).round(12))  # a mean of ones may fall short of one
    sides = (event, above), (~event, below)
    units = [len(np.unique(groups[own])) if groups is not None else int(own.sum()) for own, _ in sides]
    if min(units) < FEWEST:
        return Estimate(area, math.nan, math.nan, rows)
    moved = np.zeros(len(scores))
    for (own, placed), m in zip(sides, units, strict=True):
        moved[own] = w[own] * (placed - area) / w[own].sum() * math.sqrt(m / (m - 1.0))
    together = moved if groups is None else np.bincount(groups, moved)
    worth = [effective_rows(int(own.sum()), weights=w[own], groups=_own(groups, own)) for own, _ in sides]
    return Estimate(
        area, *_interval(area, math.sqrt(float(together @ together)), units, worth, independent=groups is None), rows
    )


def _interval(
    area: float, error: float, units: list[int], worth: list[float], *, independent: bool
) -> tuple[float, float]:
    if area in (0.0, 1.0) or error == 0.0:
        return _newcombe(area, *worth)
    step = student(min(units) - 1) * error / (area * (1.0 - area))
    odds = math.log(area / (1.0 - area))
    low, high = 1.0 / (1.0 + math.exp(step - odds)), 1.0 / (1.0 + math.exp(-step - odds))
    if not independent:
        return low, high
    least, most = _newcombe(area, *worth)  # near 0 and 1 placements underestimate their own spread
    return min(low, least), max(high, most)


def _own(groups: Indices | None, rows: Flags) -> Indices | None:
    return None if groups is None else np.unique(groups[rows], return_inverse=True)[1]


def _placements(of: Array, against: Array, weights: Array) -> Array:
    """Share of the weight of ``against`` below every one of ``of``; ties count half."""
    order = np.argsort(against)
    cumulated = np.append(0.0, weights[order].cumsum())
    left, right = (np.searchsorted(against[order], of, side=side) for side in ("left", "right"))
    return (cumulated[left] + cumulated[right]) / (2.0 * cumulated[-1])


def _newcombe(area: float, m: float, n: float) -> tuple[float, float]:
    """Areas that lie z of their own standard errors from the one seen."""

    def misses(theta: float) -> bool:
        half = (m + n) / 2.0 - 1.0
        spread = 1.0 + half * ((1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta))
        return abs(area - theta) > NORMAL * math.sqrt(max(0.0, theta * (1.0 - theta) * spread / (m * n)))

    def limit(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2.0
            inside, outside = (inside, middle) if misses(middle) else (middle, outside)
        return inside

    tiny = 1e-12
    return (
        0.0 if area <= tiny else limit(area - tiny * (area == 1.0), 0.0),
        1.0 if area >= 1.0 - tiny else limit(area + tiny * (area == 0.0), 1.0),
    )
