"""Scores on probabilities (entropy, GEN, margin, centred maximum): a constant added to a row's logits changes none."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from service.core.numerics import Array, log_softmax, top_and_rest
from service.core.ood.stateless import Stateless

GEN_POWER: Final = 0.1
GEN_CLASSES: Final = 100


@dataclass(frozen=True, slots=True)
class Entropy(Stateless):
    r"""Shannon entropy of the row's probabilities, in nats: :math:`s(p) = -\sum_k p_k \log p_k`.

    References
    ----------
    Shannon (1948), *A Mathematical Theory of Communication*, Bell System Technical Journal 27.
    """

    needs: ClassVar[str] = "probabilities"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> Entropy().score(np.array([[0.0, 0.0], [0.0, 4.0]])).round(6)
        array([0.693147, 0.090095])
        """
        log_p = log_softmax(values)
        return -np.einsum("nk,nk->n", np.exp(log_p), log_p)


@dataclass(frozen=True, slots=True)
class Gen(Stateless):
    r"""Generalised entropy of the M most probable classes; its small power hears even improbable ones.

    .. math:: s(p) = \sum_{k \in \text{top } M} p_k^\gamma (1 - p_k)^\gamma, \quad \gamma = 0.1, \; M = \min(100, K)

    Of the scores that need no features the best all-rounder on OpenOOD 1.5.

    References
    ----------
    Liu et al. (2023), *GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection*, CVPR.
    """

    needs: ClassVar[str] = "probabilities"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> Gen().score(np.array([[0.0, 0.0], [0.0, 4.0]])).round(6)
        array([1.741101, 1.335782])
        """
        terms = np.exp(GEN_POWER * _log_p_times_rest(values))
        if values.shape[1] > GEN_CLASSES:
            likeliest = np.argpartition(values, -GEN_CLASSES, axis=1)[:, -GEN_CLASSES:]
            terms = np.take_along_axis(terms, likeliest, axis=1)
        return terms.sum(axis=1)


@dataclass(frozen=True, slots=True)
class Margin(Stateless):
    r"""Gap between the two largest logits, reversed: :math:`s(z) = z_{(2)} - z_{(1)}`.

    The ranking of `nll` as its temperature falls to 0.

    References
    ----------
    Scheffer et al. (2001), *Active Hidden Markov Models for Information Extraction*, IDA.
    """

    needs: ClassVar[str] = "probabilities"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> Margin().score(np.array([[1.0, 5.0, 3.0]]))
        array([-2.])
        """
        largest = np.partition(values, -2, axis=1)
        return largest[:, -2] - largest[:, -1]


@dataclass(frozen=True, slots=True)
class CentredMax(Stateless):
    r"""Largest logit above the row's mean, reversed: :math:`s(z) = \bar z - \max_k z_k`.

    The ranking of `nll` as its temperature grows without bound: what ODIN has left without its gradient.

    References
    ----------
    Liang et al. (2018), *Enhancing the Reliability of Out-of-Distribution Image Detection in Neural Networks*, ICLR.
    """

    needs: ClassVar[str] = "probabilities"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> CentredMax().score(np.array([[1.0, 5.0, 3.0]]))
        array([-2.])
        """
        return values.mean(axis=1) - values.max(axis=1)


def _log_p_times_rest(logits: Array) -> Array:
    # log p + log(1 - p); 1 - p of the predicted class is the others' mass, which 1 - p itself would round to zero.
    top, shifted, rest = top_and_rest(logits)
    log_p = shifted - np.log1p(rest)[:, None]
    rows = np.arange(len(logits))
    probabilities = np.exp(log_p)
    probabilities[rows, top] = 0.0
    log_rest = np.log1p(-probabilities)
    log_rest[rows, top] = np.log(np.maximum(rest, np.finfo(np.float64).tiny)) - np.log1p(rest)
    return log_p + log_rest
