"""Losses of the sequence task: a softmax at every position, and terms that couple neighbours."""

import math

import numpy as np

from service.core.losses.loss import LOWEST, LossAndGradient
from service.core.losses.softmax import surprise_of
from service.core.numerics import Array, Indices, log_softmax

PADDING = -1  # label of a position that is not there


def sequence_cross_entropy(logits: Array, labels: Indices, *, smoothness: float = 0.0) -> LossAndGradient:
    r"""Cross-entropy of every position and a price on change between neighbours.

    .. math:: \ell = -\sum_t \log p_{t, y_t} + \lambda \sum_t \mathrm{JSD}(p_t, p_{t+1})

    Where λ > 0 this is no scoring rule: its optimum is biased towards the neighbours, and costs accuracy wherever
    neighbours differ more often than not.

    Parameters
    ----------
    logits : ndarray of shape (N, L, K)
    labels : ndarray of shape (N, L)
        -1 where a sequence has no position: it counts neither itself nor as a neighbour.
    smoothness : float
        λ, at least 0.

    Examples
    --------
    >>> logits = np.log([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])
    >>> sequence_cross_entropy(logits, np.array([[0, 1, -1]]), smoothness=0.5)[0].round(6)
    array([0.466202])
    """
    n, length, k = logits.shape
    present = labels != PADDING
    rows = log_softmax(logits.reshape(-1, k))
    flat, pull = surprise_of(rows, np.where(present, labels, 0).ravel())
    gradient, log_probs = pull.reshape(logits.shape) * present[..., None], rows.reshape(logits.shape)
    divergence, left, right = jensen_shannon(log_probs[:, :-1], log_probs[:, 1:])
    price = smoothness * (present[:, :-1] & present[:, 1:])
    gradient[:, :-1] += price[..., None] * left
    gradient[:, 1:] += price[..., None] * right
    return (flat.reshape(n, length) * present).sum(axis=1) + (price * divergence).sum(axis=1), gradient


def jensen_shannon(log_p: Array, log_q: Array) -> tuple[Array, Array, Array]:
    r"""Jensen–Shannon divergence of two distributions and its gradients in the logits of both.

    .. math:: \mathrm{JSD} = \tfrac12 \mathrm{KL}(p \| m) + \tfrac12 \mathrm{KL}(q \| m), \quad m = \tfrac12 (p + q),
              \qquad \partial\,\mathrm{JSD} / \partial z_j
              = \tfrac12\, p_j \left[\log \tfrac{p_j}{m_j} - \mathrm{KL}(p \| m)\right]

    Symmetric, at most log 2, which two distributions without a common class reach; its square root is a metric.

    Parameters
    ----------
    log_p, log_q : ndarray of shape (..., K)

    Returns
    -------
    divergence : ndarray of shape (...)
    gradient_p, gradient_q : ndarray of shape (..., K)

    Examples
    --------
    >>> float(jensen_shannon(np.array([0.0, -np.inf]), np.array([-np.inf, 0.0]))[0]) == math.log(2.0)
    True

    References
    ----------
    Lin (1991), *Divergence Measures Based on the Shannon Entropy*, IEEE Transactions on Information Theory 37.
    """
    log_p, log_q = np.maximum(log_p, LOWEST), np.maximum(log_q, LOWEST)
    log_m = np.maximum(log_p, log_q) + np.log1p(np.exp(-np.abs(log_p - log_q))) - math.log(2.0)
    (kl_p, gradient_p), (kl_q, gradient_q) = _half_kl(log_p, log_m), _half_kl(log_q, log_m)
    return kl_p + kl_q, gradient_p, gradient_q


def _half_kl(log_p: Array, log_m: Array) -> LossAndGradient:
    p, ratio = np.exp(log_p), log_p - log_m
    kl: Array = np.einsum("...k,...k->...", p, ratio)
    return 0.5 * kl, 0.5 * p * (ratio - kl[..., None])
