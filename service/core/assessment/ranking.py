"""How well a score ranks rows of one kind above others: precision and recall, FPR@95, the interval of AUROC."""

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from service.core.numerics import Array

Positive = Literal["in", "out"]

NORMAL: Final = 1.959963984540054


def average_precision(scores: Array, positives: np.ndarray, *, weights: Array | None = None) -> float:
    r"""Area under the precision-recall curve, in steps: :math:`\sum_t (R_t - R_{t-1}) P_t`.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        Larger is likelier positive; equal ones share one threshold.
    positives : ndarray of shape (N,)
        At least one is true.
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])), 6)
    0.833333

    References
    ----------
    Davis & Goadrich (2006), *The Relationship Between Precision-Recall and ROC Curves*, ICML.
    """
    order = np.argsort(-scores)
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)  # of every run of equal scores
    mass = np.ones(len(scores)) if weights is None else weights[order]
    found, retrieved = (mass * positives[order]).cumsum()[last], mass.cumsum()[last]
    return float(np.diff(found, prepend=0.0) @ (found / retrieved) / found[-1])


def area_under_precision_recall(
    inside: Array, outside: Array, *, positive: Positive, inside_weights: Array | None = None
) -> float:
    """`average_precision` of an OOD score at finding rows out of distribution ("out") or in distribution ("in").

    It depends on how many rows there are of each kind; compare it only on the same mix.

    Parameters
    ----------
    inside : ndarray of shape (N,)
        OOD scores of rows like the training data.
    outside : ndarray of shape (M,)
        OOD scores of other rows.
    positive : {"in", "out"}
    inside_weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> area_under_precision_recall(np.array([0.0, 1.0]), np.array([2.0]), positive="out")
    1.0
    """
    wanted, others = _oriented(inside, outside, positive)
    found = np.arange(len(wanted) + len(others)) < len(wanted)
    mass = None
    if inside_weights is not None:  # only their ratios matter: the mix of the two kinds stays that of the rows
        even = inside_weights * (len(inside) / inside_weights.sum())
        mass = np.concatenate(_paired(even, np.ones(len(outside)), positive))
    return average_precision(np.concatenate([wanted, others]), found, weights=mass)


def fpr_at_tpr(
    inside: Array,
    outside: Array,
    *,
    positive: Positive,
    tpr: float = 0.95,
    inside_weights: Array | None = None,
) -> float:
    """Share of the other kind let through once at least ``tpr`` of the positive kind is found (FPR@95).

    Papers mean either: with "in" it is the share of out-of-distribution rows accepted when 95 % of the in-distribution
    rows are, with "out" that of in-distribution rows flagged when 95 % of the others are. The two differ widely on the
    same scores.

    Parameters
    ----------
    inside : ndarray of shape (N,)
        OOD scores of rows like the training data.
    outside : ndarray of shape (M,)
        OOD scores of other rows.
    positive : {"in", "out"}
        Which kind is to be found; no default, because there is no convention.
    tpr : float
    inside_weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> inside, outside = np.array([0.0, 1.0, 2.0, 9.0]), np.array([3.0, 4.0, 5.0, 6.0])
    >>> fpr_at_tpr(inside, outside, positive="in"), fpr_at_tpr(inside, outside, positive="out")
    (1.0, 0.25)

    References
    ----------
    Hendrycks & Gimpel (2017), *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*, ICLR.
    """
    wanted, others = _oriented(inside, outside, positive)
    weights = np.ones(len(inside)) if inside_weights is None else inside_weights
    wanted_mass, other_mass = _paired(weights, np.ones(len(outside)), positive)
    descending = np.argsort(-wanted)
    found = wanted_mass[descending].cumsum()
    reached = found >= tpr * found[-1] * (1.0 - 1e-12)  # 0.07 * 100 is above 7 in float64
    return float(np.average(others >= wanted[descending[reached.argmax()]], weights=other_mass))


def placements(inside: Array, outside: Array) -> tuple[Array, Array]:
    """How each row stands among the other kind; the mean of either is the AUROC.

    Parameters
    ----------
    inside : ndarray of shape (N,)
        OOD scores of rows like the training data.
    outside : ndarray of shape (M,)
        OOD scores of other rows.

    Returns
    -------
    of_inside : ndarray of shape (N,)
        Share of the others above the row, ties counted half.
    of_outside : ndarray of shape (M,)
        Share of the others below it.

    Examples
    --------
    >>> placements(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    (array([1.  , 0.75]), array([0.75, 1.  ]))

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), *Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves*, Biometrics 44.
    """
    return 1.0 - _share_below(inside, outside), _share_below(outside, inside)


def separation_interval(inside: Array, outside: Array) -> tuple[float, float]:
    r"""95 % interval of the AUROC, which does not shrink to nothing where no row is out of order.

    .. math:: \{\theta : (\hat\theta - \theta)^2 \le t^2 s \, V(\theta)\}, \quad
        V(\theta) = \frac{\theta (1 - \theta)}{n m} \Bigl[1 + \bigl(\tfrac{n + m}{2} - 1\bigr)
        \Bigl(\frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta}\Bigr)\Bigr]

    V is Newcombe's variance at the value in question; s raises it to DeLong's at the estimate where that is larger, and
    t is Student's quantile for the smaller kind.

    Parameters
    ----------
    inside, outside : ndarray of shape (N,) and (M,)
        As in `placements`; independent rows, two of each kind at least.

    Examples
    --------
    >>> low, high = separation_interval(np.arange(100.0), np.arange(100.0) + 40.0)
    >>> low < 0.82 < high
    True
    >>> low, high = separation_interval(np.arange(10.0), np.arange(10.0) + 40.0)
    >>> round(low, 2), high
    (0.75, 1.0)

    References
    ----------
    Newcombe (2006), *Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic. Part 2*,
    Statistics in Medicine 25.
    """
    n, m, (of_inside, of_outside) = len(inside), len(outside), placements(inside, outside)
    estimate, fewest = float(of_outside.mean()), max(min(n, m), 2)
    delong = float(of_inside.var() / max(n - 1, 1) + of_outside.var() / max(m - 1, 1))
    supposed = _newcombe(estimate, n, m)
    quantile = NORMAL + (NORMAL**3 + NORMAL) / (4.0 * (fewest - 1))  # Student's, to first order
    scale = quantile**2 * (max(1.0, delong / supposed) if supposed > 0.0 else 1.0)
    low, high = (_farthest(estimate, end, lambda area: scale * _newcombe(area, n, m)) for end in (0.0, 1.0))
    return low, high


def _newcombe(area: float, n: int, m: int) -> float:
    mixed = (1.0 - area) / (2.0 - area) + area / (1.0 + area)
    return area * (1.0 - area) * (1.0 + (0.5 * (n + m) - 1.0) * mixed) / (n * m)


def _farthest(estimate: float, end: float, allowed: Callable[[float], float]) -> float:
    """Value towards an end of [0, 1] whose squared distance from the estimate is just allowed."""
    near, far = estimate, end
    for _ in range(60):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if (middle - estimate) ** 2 <= allowed(middle) else (near, middle)
    return far


def detection_error(inside: Array, outside: Array, *, inside_weights: Array | None = None) -> float:
    r"""Least error of any threshold when both kinds are equally frequent.

    .. math:: \min_t \tfrac12 P_{in}(s > t) + \tfrac12 P_{out}(s \le t)

    Parameters
    ----------
    inside : ndarray of shape (N,)
        OOD scores of rows like the training data.
    outside : ndarray of shape (M,)
        OOD scores of other rows.
    inside_weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> detection_error(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.25

    References
    ----------
    Liang, Li & Srikant (2018), *Enhancing the Reliability of Out-of-distribution Image Detection*, ICLR.
    """
    thresholds = np.concatenate([inside, outside])
    order = np.argsort(inside)
    mass = np.ones(len(inside)) if inside_weights is None else inside_weights[order]
    below = np.concatenate([[0.0], mass.cumsum()])
    alarms = 1.0 - below[np.searchsorted(inside[order], thresholds, side="right")] / below[-1]
    misses = np.searchsorted(np.sort(outside), thresholds, side="right") / len(outside)
    return min(0.5, float((alarms + misses).min() / 2.0))


def _share_below(points: Array, others: Array) -> Array:
    ordered = np.sort(others)
    below = np.searchsorted(ordered, points, side="left") + np.searchsorted(ordered, points, side="right")
    return below / (2.0 * len(others))


def _oriented(inside: Array, outside: Array, positive: Positive) -> tuple[Array, Array]:
    """Scores of the wanted kind and of the other, larger for the wanted."""
    return (outside, inside) if positive == "out" else (-inside, -outside)


def _paired(inside: Array, outside: Array, positive: Positive) -> tuple[Array, Array]:
    """Weights in the order of `_oriented`."""
    return (outside, inside) if positive == "out" else (inside, outside)
