"""Losses of sigmoids: every label has a logit of its own."""

import numpy as np

from service.core.losses.loss import LossAndGradient
from service.core.losses.softmax import log_focal_factor
from service.core.numerics import Array, Indices


def binary_cross_entropy(logits: Array, labels: Indices, *, positive_weight: float = 1.0) -> LossAndGradient:
    r"""Cross-entropy of one logit per row, the second class'.

    .. math:: \ell = -\beta\, y \log \sigma(z) - (1-y) \log(1 - \sigma(z))

    Parameters
    ----------
    logits : ndarray of shape (N,)
    labels : ndarray of shape (N,)
        0 or 1.
    positive_weight : float
        β: the optimum is :math:`\beta\eta / (\beta\eta + 1 - \eta)` where η is the posterior.

    Examples
    --------
    >>> binary_cross_entropy(np.array([0.0, 40.0]), np.array([1, 1]))[0]
    array([6.93147181e-01, 4.24835426e-18])
    """
    loss, gradient = multilabel_cross_entropy(logits[:, None], labels[:, None], positive_weight=positive_weight)
    return loss, gradient[:, 0]


def multilabel_cross_entropy(
    logits: Array, labels: Indices, *, positive_weight: float | Array = 1.0
) -> LossAndGradient:
    r"""Sum over labels of the binary cross-entropies.

    The optimum is every label's own posterior however the labels depend on each other; the product of them is not the
    posterior of the set, and costs the total correlation of the labels more than that would.

    Parameters
    ----------
    logits : ndarray of shape (N, M)
    labels : ndarray of shape (N, M)
        0 or 1.
    positive_weight : float or ndarray of shape (M,)
        As in `binary_cross_entropy`, for every label.

    Examples
    --------
    >>> loss, gradient = multilabel_cross_entropy(np.zeros((1, 2)), np.array([[1, 0]]))
    >>> loss.round(4), gradient
    (array([1.3863]), array([[-0.5,  0.5]]))
    """
    sign, weight = 2.0 * labels - 1.0, np.where(labels == 1, positive_weight, 1.0)
    log_p, log_rest = _log_sigmoids(sign * logits)
    return -(weight * log_p).sum(axis=1), -weight * sign * np.exp(log_rest)


def sigmoid_focal(logits: Array, labels: Indices, *, gamma: float = 2.0, alpha: float | None = None) -> LossAndGradient:
    r"""Sum over labels of focal losses of one logit each.

    .. math:: \ell = -\alpha_y (1 - p_y)^\gamma \log p_y, \qquad p_1 = \sigma(z),\; p_0 = 1 - p_1

    Parameters
    ----------
    logits : ndarray of shape (N, M)
    labels : ndarray of shape (N, M)
        0 or 1.
    gamma : float
    alpha : float, optional
        In (0, 1): weight of a present label; an absent one has 1 - alpha. Without it both weigh one.

    Examples
    --------
    >>> sigmoid_focal(np.array([[2.0]]), np.array([[1]]), alpha=0.25)[0].round(6)
    array([0.000451])

    References
    ----------
    Lin et al. (2017), *Focal Loss for Dense Object Detection*, ICCV.
    """
    sign = 2.0 * labels - 1.0
    log_p, log_rest = _log_sigmoids(sign * logits)
    weight = 1.0 if alpha is None else np.where(labels == 1, alpha, 1.0 - alpha)
    factor = weight * np.exp(log_focal_factor(log_p, log_rest, gamma=gamma))
    return (-weight * np.exp(gamma * log_rest) * log_p).sum(axis=1), -factor * sign * np.exp(log_rest)


def _log_sigmoids(logits: Array) -> tuple[Array, Array]:
    """Of the logits and of their negatives; `np.logaddexp` would take four times as long."""
    both = np.log1p(np.exp(-np.abs(logits)))
    return np.minimum(logits, 0.0) - both, np.minimum(-logits, 0.0) - both
