"""Whether bcts, vector or matrix scaling separates its rows: the loss then falls for ever as the penalty goes to 0."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from service.core.calibration.affine import AffineLoss, chunks_of, normaliser, one_deviation
from service.core.calibration.descent import minimise
from service.core.numerics import Array, Indices

EASED: Final = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
"""Ridges in rows. Each is a hundredth of the last, so margins that only a ridge bounds grow by log 100 = 4.6."""

GROWTH: Final = 0.5
"""Nats by which some margin must grow from the second ridge on; else the fit has come to rest."""

HARM: Final = 2e-3
"""Share of the largest growth by which margins may still fall: parameters that come to rest do so gradually."""


def separates(logits: Array, labels: Indices, *, slope: Array, bias: Array, weights: Array | None = None) -> bool:
    r"""Whether some direction of the parameters lowers the log loss for ever.

    There is one if, and only if, it takes no row's own class down against another class and some up (complete or
    quasi-complete separation). Then no finite parameters are best. The fit is followed from where it is while a ridge
    on its departure from there goes to 0: with such a direction the margins grow for ever along it, otherwise the fit
    comes to rest. A class without rows is left out: its bias alone could fall for ever, and carries no information.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
        What the slopes are of.
    labels : ndarray of shape (N,)
    slope : ndarray of shape (), (K,) or (K, K)
        Fitted. A single one stays positive.
    bias : ndarray of shape (K,)
        Fitted.
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> x, y = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]]), np.array([1, 0, 0])
    >>> separates(x, y, slope=np.array(1.0), bias=np.zeros(2))
    True
    >>> separates(x, y[::-1].copy(), slope=np.array([1.0, 1.0]), bias=np.zeros(2))  # backwards, which K slopes allow
    True
    >>> separates(x, np.array([1, 0, 1]), slope=np.array(1.0), bias=np.zeros(2))
    False

    References
    ----------
    Albert and Anderson (1984), *On the Existence of Maximum Likelihood Estimates in Logistic Regression Models*,
    Biometrika 71.
    Rosset, Zhu and Hastie (2004), *Margin Maximizing Loss Functions*, NeurIPS.
    """
    w = np.ones(len(labels)) if weights is None else weights
    kept = w > 0.0
    logits, labels, w = logits[kept], labels[kept], w[kept]
    unit = max(float(np.abs(slope).max()), one_deviation(logits, w))
    parts = logits, labels, w / w.sum(), normaliser(logits, slope), unit, slope / unit
    strengths = [strength / len(labels) for strength in EASED]
    losses = [AffineLoss(*parts, np.full(slope.shape, s), s, occurring=True) for s in strengths]
    return _grows_for_ever(losses, np.concatenate([(slope / unit).ravel(), bias]))


def _grows_for_ever(losses: Sequence[AffineLoss], point: Array) -> bool:
    if _harm(losses[0], point)[0] <= 0.0:
        return True
    harm = np.inf
    for step, loss in enumerate(losses):
        moved = minimise(loss.evaluate, point, loss.curvature(point))
        harm, growth = _harm(loss, moved - point)
        if step and growth < GROWTH:
            return False
        if _harm(loss, moved)[0] <= 0.0:
            return True
        point = moved
    return harm <= HARM


def _harm(loss: AffineLoss, direction: Array) -> tuple[float, float]:
    """By how much, for the largest gain of one, some margin falls along a direction; and that largest gain."""
    worst, best = 0.0, 0.0
    for rows in chunks_of(loss.logits):
        _, scores = loss.scores(rows, direction)
        margins = np.take_along_axis(scores, loss.labels[rows, None], axis=1) - scores
        worst, best = min(worst, float(margins.min())), max(best, float(margins[np.isfinite(margins)].max()))
    forward = loss.centre.ndim > 0 or direction[0] > 0.0
    return (-worst / best if best > 0.0 and forward else np.inf), best
