"""Selective classification: risk against coverage, with guarantees."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.conformal import binomial_cdf
from service.core.numerics import Array


@dataclass(frozen=True, slots=True)
class Coverage:
    """The most rows one may answer while the risk stays below a bound.

    Attributes
    ----------
    threshold : float
        Answer where the confidence is at least this; infinite when no threshold keeps the bound.
    coverage : float
        Share of the rows answered.
    risk : float
        Share of errors among them, not a number when there are none.
    bound : float
        With the stated confidence the true risk is no larger.
    """

    threshold: float
    coverage: float
    risk: float
    bound: float


def risk_coverage(confidence: Array, losses: np.ndarray) -> tuple[Array, Array]:
    """Mean loss of the most confident rows, as ever more of them are answered.

    Rows of equal confidence enter in random order; the curve is its expectation.

    Parameters
    ----------
    confidence : ndarray of shape (N,)
        Larger is surer.
    losses : ndarray of shape (N,)
        1 where wrong, or any cost.

    Returns
    -------
    coverage, risk : ndarray of shape (N,)

    Examples
    --------
    >>> coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1]))
    >>> risk.round(3)
    array([0.   , 0.5  , 0.333, 0.5  ])

    References
    ----------
    El-Yaniv & Wiener (2010), *On the Foundations of Noise-free Selective Classification*, JMLR 11.
    """
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = np.repeat(np.bincount(group, losses) / count, count)
    answered = np.arange(1, len(confidence) + 1)
    return answered / len(confidence), expected.cumsum() / answered


def area_under_risk_coverage(confidence: Array, losses: np.ndarray) -> float:
    """Mean of the risk over all coverages (AURC); lower is better.

    Parameters
    ----------
    confidence, losses : ndarray of shape (N,)

    Examples
    --------
    >>> round(area_under_risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1])), 6)
    0.333333

    References
    ----------
    Geifman & El-Yaniv (2017), *Selective Classification for Deep Neural Networks*, NeurIPS.
    """
    return float(risk_coverage(confidence, losses)[1].mean())


def excess_area(confidence: Array, losses: np.ndarray) -> float:
    """AURC beyond that of the best possible order (E-AURC): the ranking's own fault, not the classifier's.

    Parameters
    ----------
    confidence, losses : ndarray of shape (N,)

    Examples
    --------
    >>> round(excess_area(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1])), 6)
    0.125

    References
    ----------
    Geifman, Uziel & El-Yaniv (2019), *Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers*, ICLR.
    """
    best = -losses.astype(np.float64)
    return area_under_risk_coverage(confidence, losses) - area_under_risk_coverage(best, losses)


def clopper_pearson_upper(errors: int, n: int, *, confidence: float = 0.95) -> float:
    r"""Largest error rate that leaves so few errors among so many rows at least ``1 - confidence`` likely.

    .. math:: \sup \{ q : P(\mathrm{Bin}(n, q) \le e) \ge \delta \} = B^{-1}(1 - \delta;\; e + 1,\; n - e)

    Parameters
    ----------
    errors, n : int
        An empty sample bounds nothing: 1.
    confidence : float
        :math:`1 - \delta`, one-sided.

    Examples
    --------
    >>> round(clopper_pearson_upper(0, 59), 4)
    0.0495

    References
    ----------
    Clopper & Pearson (1934), *The Use of Confidence or Fiducial Limits*, Biometrika 26.
    """
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):  # halves the interval to float64's resolution
        middle = (low + high) / 2.0
        likely = _at_most(errors, n, middle) >= 1.0 - confidence
        low, high = (middle, high) if likely else (low, middle)
    return high


def coverage_at_risk(confidences: Array, errors: np.ndarray, *, risk: float, confidence: float = 0.95) -> Coverage:
    """Lowest confidence threshold whose true error rate stays below ``risk``, with a finite-sample guarantee.

    Binary search over the thresholds; each of its steps may err with an equal part of the allowed probability.

    Parameters
    ----------
    confidences : ndarray of shape (N,)
    errors : ndarray of shape (N,)
        1 where the answer was wrong. Rows that chose neither the model nor its calibration.
    risk : float
        Error rate not to be exceeded, between 0 and 1.
    confidence : float
        Probability, over such samples, that the bound holds.

    Examples
    --------
    >>> sure = np.linspace(0.5, 1.0, 1000)
    >>> found = coverage_at_risk(sure, (sure < 0.7) * 1.0, risk=0.05)
    >>> round(found.coverage, 2), found.bound <= 0.05
    (0.62, True)

    References
    ----------
    Geifman & El-Yaniv (2017), *Selective Classification for Deep Neural Networks*, NeurIPS, algorithm 1.
    """
    order = np.argsort(-confidences, kind="stable")
    thresholds, wrong = confidences[order], errors[order].cumsum()
    last = np.searchsorted(-thresholds, -thresholds, side="right") - 1  # rows of equal confidence go together
    allowed = (1.0 - confidence) / max(1, math.ceil(math.log2(len(order) + 1)))
    low, high = 0, len(order)  # the first low rows keep the bound
    while low < high:
        end = int(last[(low + high) // 2])
        kept = _at_most(int(wrong[end]), end + 1, risk) <= allowed
        low, high = (end + 1, high) if kept else (low, (low + high) // 2)
    if low == 0:
        return Coverage(math.inf, 0.0, math.nan, 0.0)
    failed = int(wrong[low - 1])
    bound = clopper_pearson_upper(failed, low, confidence=1.0 - allowed)
    return Coverage(float(thresholds[low - 1]), low / len(order), failed / low, bound)


def _at_most(k: int, n: int, q: float) -> float:
    """P(Bin(n, q) <= k)."""
    return float(binomial_cdf(n, q, most=k)[-1])
