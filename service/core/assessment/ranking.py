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
    scores: Array, ood_scores: Array, *, positive: Positive, weights: Array | None = None
) -> float:
    """`average_precision` of an OOD score at finding rows out of distribution ("out") or in distribution ("in").

    It depends on how many rows there are of each kind; compare it only on the same mix.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        OOD scores of in-distribution rows.
    ood_scores : ndarray of shape (M,)
        OOD scores of out-of-distribution rows.
    positive : {"in", "out"}
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> area_under_precision_recall(np.array([0.0, 1.0]), np.array([2.0]), positive="out")
    1.0
    """
    sought, others = _oriented(scores, ood_scores, positive)
    found = np.arange(len(sought) + len(others)) < len(sought)
    mass = None
    if weights is not None:  # only their ratios matter: the mix of the two kinds stays that of the rows
        even = weights * (len(scores) / weights.sum())
        mass = np.concatenate(_paired(even, np.ones(len(ood_scores)), positive))
    return average_precision(np.concatenate([sought, others]), found, weights=mass)


def fpr_at_tpr(
    scores: Array,
    ood_scores: Array,
    *,
    positive: Positive,
    tpr: float = 0.95,
    weights: Array | None = None,
) -> float:
    """Share of the other kind let through once at least ``tpr`` of the positive kind is found (FPR@95).

    Papers mean either: with "in" it is the share of out-of-distribution rows accepted when 95 % of the in-distribution
    rows are, with "out" that of in-distribution rows flagged when 95 % of the others are. The two differ widely on the
    same scores.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        OOD scores of in-distribution rows.
    ood_scores : ndarray of shape (M,)
        OOD scores of out-of-distribution rows.
    positive : {"in", "out"}
        Which kind is to be found; no default, because there is no convention.
    tpr : float
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> scores, ood_scores = np.array([0.0, 1.0, 2.0, 9.0]), np.array([3.0, 4.0, 5.0, 6.0])
    >>> fpr_at_tpr(scores, ood_scores, positive="in"), fpr_at_tpr(scores, ood_scores, positive="out")
    (1.0, 0.25)

    References
    ----------
    Hendrycks & Gimpel (2017), *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*, ICLR.
    """
    sought, others = _oriented(scores, ood_scores, positive)
    weights = np.ones(len(scores)) if weights is None else weights
    positive_mass, other_mass = _paired(weights, np.ones(len(ood_scores)), positive)
    descending = np.argsort(-sought)
    found = positive_mass[descending].cumsum()
    reached = found >= tpr * found[-1] * (1.0 - 1e-12)  # 0.07 * 100 is above 7 in float64
    return float(np.average(others >= sought[descending[reached.argmax()]], weights=other_mass))


def placements(scores: Array, ood_scores: Array) -> tuple[Array, Array]:
    """How each row stands among the other kind; the mean of either is the AUROC.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        OOD scores of in-distribution rows.
    ood_scores : ndarray of shape (M,)
        OOD scores of out-of-distribution rows.

    Returns
    -------
    of_rows : ndarray of shape (N,)
        Share of the others above the row, ties counted half.
    of_ood_rows : ndarray of shape (M,)
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
    return 1.0 - _share_below(scores, ood_scores), _share_below(ood_scores, scores)


def separation_interval(scores: Array, ood_scores: Array) -> tuple[float, float]:
    r"""95 % interval of the AUROC, which does not shrink to nothing where no row is out of order.

    .. math:: \{\theta : (\hat\theta - \theta)^2 \le t^2 s \, V(\theta)\}, \quad
        V(\theta) = \frac{\theta (1 - \theta)}{n m} \Bigl[1 + \bigl(\tfrac{n + m}{2} - 1\bigr)
        \Bigl(\frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta}\Bigr)\Bigr]

    V is Newcombe's variance at the value in question; s raises it to DeLong's at the estimate where that is larger, and
    t is Student's quantile for the smaller kind.

    Parameters
    ----------
    scores, ood_scores : ndarray of shape (N,) and (M,)
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
    n, m, (of_rows, of_ood_rows) = len(scores), len(ood_scores), placements(scores, ood_scores)
    estimate, fewest = float(of_ood_rows.mean()), max(min(n, m), 2)
    delong = float(of_rows.var() / max(n - 1, 1) + of_ood_rows.var() / max(m - 1, 1))
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


def detection_error(scores: Array, ood_scores: Array, *, weights: Array | None = None) -> float:
    r"""Least error of any threshold when both kinds are equally frequent.

    .. math:: \min_t \tfrac12 P_{in}(s > t) + \tfrac12 P_{out}(s \le t)

    Parameters
    ----------
    scores : ndarray of shape (N,)
        OOD scores of in-distribution rows.
    ood_scores : ndarray of shape (M,)
        OOD scores of out-of-distribution rows.
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> detection_error(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.25

    References
    ----------
    Liang, Li & Srikant (2018), *Enhancing the Reliability of Out-of-distribution Image Detection*, ICLR.
    """
    thresholds = np.concatenate([scores, ood_scores])
    order = np.argsort(scores)
    mass = np.ones(len(scores)) if weights is None else weights[order]
    below = np.concatenate([[0.0], mass.cumsum()])
    alarms = 1.0 - below[np.searchsorted(scores[order], thresholds, side="right")] / below[-1]
    misses = np.searchsorted(np.sort(ood_scores), thresholds, side="right") / len(ood_scores)
    return min(0.5, float((alarms + misses).min() / 2.0))


def _share_below(points: Array, others: Array) -> Array:
    ordered = np.sort(others)
    below = np.searchsorted(ordered, points, side="left") + np.searchsorted(ordered, points, side="right")
    return below / (2.0 * len(others))


def _oriented(scores: Array, ood_scores: Array, positive: Positive) -> tuple[Array, Array]:
    """Scores of the positive kind and of the other, larger for the positive."""
    return (ood_scores, scores) if positive == "out" else (-scores, -ood_scores)


def _paired(scores: Array, ood_scores: Array, positive: Positive) -> tuple[Array, Array]:
    """Weights in the order of `_oriented`."""
    return (ood_scores, scores) if positive == "out" else (scores, ood_scores)
