"""Whether logits predict the labels better than the class frequencies do: a score test of a common slope."""

from typing import Final

import numpy as np

from service.core.numerics import Array, Indices

CRITICAL: Final = 2.326  # one in a hundred label vectors, shuffled, exceeds it
ENOUGH: Final = 25.0  # n π (1 - π) at which a model of AUROC .7 exceeds it nine times in ten


def slope_score(
    logits: Array, labels: Indices, *, weights: Array | None = None, groups: Indices | None = None
) -> float:
    r"""Standardised score of the slope of the logits, at slope zero and with intercepts that fit the class frequencies.

    .. math:: U = \sum_i w_i \sum_k (1[y_i = k] - \hat π_k)(z_{ik} - \bar z_k), \qquad U / \operatorname{se}(U)

    No difference in prevalence, and no other constant in a class' logit, moves it. Its variance is that of the groups'
    sums, so rows of a group count as one draw.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1.

    Returns
    -------
    float
        About standard normal where the labels have nothing to do with the logits, positive where the logit of the true
        class is larger. 0 where the logits never vary, or the labels.

    Examples
    --------
    >>> logits = np.array([[0.0, 5.0], [0.0, 6.0], [0.0, 7.0], [0.0, 8.0]])  # all favour the second class
    >>> slope_score(logits, np.array([0, 0, 1, 1])) > 2.0, slope_score(logits, np.array([1, 1, 0, 0])) < -2.0
    (True, True)

    References
    ----------
    Rao (1948), *Large Sample Tests of Statistical Hypotheses Concerning Several Parameters*, Mathematical Proceedings
    of the Cambridge Philosophical Society 44.
    """
    w = np.full(len(labels), 1.0 / len(labels)) if weights is None else weights / weights.sum()
    scaled = logits / (float(np.abs(logits).max()) or 1.0)  # so that the largest floats have a square
    scaled = scaled - w @ scaled
    shares = np.bincount(labels, w, logits.shape[1])
    rows = w * (np.take_along_axis(scaled, labels[:, None], axis=1)[:, 0] - scaled @ shares)
    score = float(rows.sum())
    centred = rows - w * score
    spread = float(np.sqrt(np.sum((centred if groups is None else np.bincount(groups, centred)) ** 2)))
    return score / spread if spread > 1e-12 else np.copysign(np.inf, score) if abs(score) > 1e-12 else 0.0


def says_something(
    logits: Array, labels: Indices, *, weights: Array | None = None, groups: Indices | None = None, units: int
) -> bool:
    r"""Whether the logits predict the labels better than chance explains.

    .. math:: U / \operatorname{se}(U) > 2.326 \min(1, \nu / 25), \qquad \nu = \tfrac n2 \sum_k π_k (1 - π_k)

    With 100 rows of two equal classes, or 25 of a rare one, one in a hundred sets of shuffled labels passes. Fewer rows
    could not show a useful model to be better than chance, so their test is less strict, and more chance passes.

    Parameters
    ----------
    logits, labels, weights, groups
        As in `slope_score`.
    units : int
        How many rows, or groups of rows, are independent of each other.
    """
    shares = np.bincount(labels, weights) / (len(labels) if weights is None else weights.sum())
    information = 0.5 * units * float(shares @ (1.0 - shares))
    return slope_score(logits, labels, weights=weights, groups=groups) > CRITICAL * min(1.0, information / ENOUGH)
