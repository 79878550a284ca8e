"""Log loss against the log loss that the probabilities themselves expect."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.assessment.chance import chance_bound
from service.core.numerics import Array, Indices


@dataclass(frozen=True, slots=True)
class ExpectedLoss:
    """Log loss that occurred beside the one that exact probabilities have, in nats per row.

    Attributes
    ----------
    observed : float
        Infinite where a class of probability 0 occurred.
    expected : float
        Mean entropy of the probabilities.
    low, high : float
        Where the log loss of 19 in 20 samples lies, at least, if the probabilities are right.
    """

    observed: float
    expected: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether exact probabilities would rarely have such a log loss."""
        slack = 1e-12 * (1.0 + abs(self.expected))  # probabilities of one half leave no range, only rounding
        return not self.low - slack <= self.observed <= self.high + slack


def entropies(log_probs: Array) -> Array:
    r"""Expected log loss of every row, :math:`H_i = -\sum_k p_{ik} \log p_{ik}`, shape (N,).

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        An impossible class may be minus infinite.

    Examples
    --------
    >>> entropies(np.log([[0.5, 0.5], [0.25, 0.75]])).round(4)
    array([0.6931, 0.5623])
    """
    finite = np.maximum(log_probs, -745.0)  # exp of it is the smallest double: nothing in the sum
    return -np.einsum("nk,nk->n", np.exp(log_probs), finite)


def expected_log_loss(
    log_probs: Array, labels: Indices, *, weights: Array | None = None, groups: Indices | None = None
) -> ExpectedLoss:
    r"""Whether the log loss is the one that calibration expected.

    .. math:: \frac{1}{W} \sum_i w_i \bigl(-\log p_{i y_i}\bigr) \quad\text{against}\quad \frac{1}{W} \sum_i w_i H_i

    A log loss above the range says that probabilities are too sure, one below that they are not sure enough. The range
    is `chance_bound`'s: rows of a group have one fate at worst, and a rare class that is expensive to miss widens it.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional

    Examples
    --------
    >>> log_probs = np.log(np.tile([0.9, 0.1], (100, 1)))
    >>> right, wrong = (expected_log_loss(log_probs, (np.arange(100) < n) * 1) for n in (10, 30))
    >>> round(right.observed, 3), round(right.expected, 3), right.beyond_chance
    (0.325, 0.325, False)
    >>> round(wrong.observed, 3), round(wrong.high, 3), wrong.beyond_chance
    (0.765, 0.476, True)

    References
    ----------
    Spiegelhalter (1986), *Probabilistic Prediction in Patient Management and Clinical Trials*, Statistics in Medicine
    5: the same comparison of the squared error.
    """
    observed = float(np.average(-log_probs[np.arange(len(labels)), labels], weights=weights))
    expected = float(np.average(entropies(log_probs), weights=weights))
    losses, p = -np.maximum(log_probs, -745.0), np.exp(log_probs)
    noise = chance_bound(losses, p / p.sum(axis=1, keepdims=True), weights=weights, groups=groups)
    return ExpectedLoss(observed, expected, max(expected - noise, 0.0), expected + noise)


def bits(nats: float) -> float:
    """Code length of a log loss: nats over log 2.

    Parameters
    ----------
    nats : float

    Examples
    --------
    >>> bits(math.log(8.0))
    3.0
    """
    return nats / math.log(2.0)
