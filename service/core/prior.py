"""Prevalence: what a posterior says once the classes are mixed in other proportions."""

import numpy as np

from service.core.numerics import Array, log_softmax


def shift(log_probs: Array, *, source: Array, target: Array) -> Array:
    r"""Posterior under another class prior.

    .. math:: \log p'(k \mid x) = \log p(k \mid x) + \log \frac{\pi'_k}{\pi_k} - \log Z

    Valid when only the class proportions differ between the two populations (label shift), not what a class
    looks like.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Calibrated under ``source``.
    source, target : ndarray of shape (K,)
        Positive prevalences. Equal ones are a no-op to the last bit.

    Examples
    --------
    >>> np.exp(shift(np.log([[0.2, 0.8]]), source=np.array([0.5, 0.5]), target=np.array([0.9, 0.1]))).round(4)
    array([[0.6923, 0.3077]])

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI, theorem 2.
    """
    if np.array_equal(source, target):
        return log_probs
    return log_softmax(log_probs + np.log(target / source))


def mean_agrees(log_probs: Array, prevalence: Array, *, standard_errors: float = 4.0) -> bool:
    r"""Whether the mean posterior matches observed class frequencies within sampling noise.

    The noise of class k is that of labels drawn from the posterior, :math:`\sqrt{\sum_i p_{ik}(1-p_{ik})}/n`.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    prevalence : ndarray of shape (K,)
        Class frequencies among the same rows.
    standard_errors : float
        How many of them still count as agreement.

    Examples
    --------
    >>> mean_agrees(np.log(np.full((100, 2), 0.5)), np.array([0.9, 0.1]))
    False
    """
    probabilities = np.exp(log_probs)
    noise = np.sqrt((probabilities * (1.0 - probabilities)).sum(axis=0)) / len(probabilities)
    gap = np.abs(probabilities.mean(axis=0) - prevalence)
    return bool(np.all(gap <= standard_errors * noise + 1e-12))
