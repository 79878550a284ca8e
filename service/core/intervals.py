"""Interval of a mean that covers it where dear cases are rare, or have not occurred at all.

A bootstrap knows only the values that it saw. Here the mean is whatever a distribution over the values that were
possible makes likely enough.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Indices

Z: Final = 1.959963984540054  # normal quantile, both sides at 95 %
NORMAL: Final = 0.5 * Z**2  # log likelihood ratio at the ends of a 95 % interval, for many events
NO_EVENT: Final = -math.log(0.025)  # the same where the event in question was never observed
FADING: Final = 2.6  # how fast one becomes the other: fitted to Garwood's exact limits of a Poisson mean
STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Units:
    """Weighted sums over rows that belong together: of values, of what they could have been, of weights.

    Attributes
    ----------
    total, least, most : ndarray of shape (G,)
    weight : ndarray of shape (G,)
    """

    total: Array
    least: Array
    most: Array
    weight: Array

    @property
    def mean(self) -> float:
        """Weighted mean of the values."""
        return float(self.total.sum() / self.weight.sum())

    def mirrored(self) -> "Units":
        """The same of the negative values."""
        return Units(-self.total, -self.most, -self.least, self.weight)


def mean_interval(
    values: Array,
    *,
    least: Array | None = None,
    most: Array | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> tuple[float, float]:
    r"""95 % interval of a weighted mean, by the likelihood of all distributions over the values that were possible.

    .. math:: \Bigl\{ \mu : \max_{\lambda} \sum_g \log\bigl(1 + \lambda (t_g - \mu w_g)\bigr) \le c \Bigr\}, \quad
        1 + \lambda (t - \mu w_g) \ge 0 \text{ for every possible } t

    This is empirical likelihood whose support holds what did not occur as well: a dear case that was possible in n rows
    and not seen has a share of up to :math:`-\log(.025) / n`, Clopper and Pearson's limit. c is half the squared
    normal quantile where many units make up the variance, and rises to that limit as they become few.

    Parameters
    ----------
    values : ndarray of shape (N,)
    least, most : ndarray of shape (N,), optional
        The smallest and the largest value that each row could have had; without them nothing beyond the values that
        occurred.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1: rows of a group are one draw.

    Examples
    --------
    >>> never = np.zeros(100)
    >>> low, high = mean_interval(never, least=never, most=never + 50.0)
    >>> low, round(high, 2)  # up to 3.6 % of the rows may have cost 50
    (0.0, 1.81)

    References
    ----------
    Owen (1988), *Empirical Likelihood Ratio Confidence Intervals for a Single Functional*, Biometrika 75.
    Orabona & Jun (2024), *Tight Concentrations and Confidence Sequences from the Regret of Universal Portfolio*,
    IEEE Transactions on Information Theory 70.
    """
    units = _units(values, values if least is None else least, values if most is None else most, weights, groups)
    limit = likelihood_limit(units.total - units.mean * units.weight)
    return 0.0 - _upper_end(units.mirrored(), limit), _upper_end(units, limit)


def likelihood_limit(deviation: Array) -> float:
    r"""Log likelihood ratio at the ends of a 95 % interval: the fewer units make up the variance, the larger.

    .. math:: c = \tfrac12 z^2 + \frac{-\log .025 - \tfrac12 z^2}{\sqrt{1 + 2.6 m}}, \quad
        m = \frac{(\sum_g d_g^2)^2}{\sum_g d_g^4}

    For m events among many rows it is close to the ratio at Garwood's exact limits of a Poisson mean.

    Parameters
    ----------
    deviation : ndarray of shape (G,)
        What every unit moves the estimate by.

    Examples
    --------
    >>> round(likelihood_limit(np.zeros(5)), 3), round(likelihood_limit(np.ones(10_000)), 3)
    (3.689, 1.932)

    References
    ----------
    Garwood (1936), *Fiducial Limits for the Poisson Distribution*, Biometrika 28.
    """
    square = deviation**2
    spread = float(square.sum())
    return evidence_limit(spread**2 / float(square @ square) if spread > 0.0 else 0.0)


def evidence_limit(events: float, *, z: float = Z) -> float:
    r"""Log likelihood ratio at which a tail ends, by how many events make up the variance.

    .. math:: c = \tfrac12 z^2 + \frac{-\log \Phi(-z) - \tfrac12 z^2}{\sqrt{1 + 2.6 m}}

    Parameters
    ----------
    events : float
        m.
    z : float
        Normal quantile of the tail.

    Examples
    --------
    >>> round(evidence_limit(0.0), 3), round(evidence_limit(1e9), 3)
    (3.689, 1.921)
    """
    normal, never = 0.5 * z**2, -math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    return normal + (never - normal) / math.sqrt(1.0 + FADING * events)


def highest_share(n: int, alpha: float, *, calibrated_on: int) -> float:
    """Share of n new rows that a threshold at false-alarm rate ``alpha`` flags no more than in 39 of 40 samples.

    The threshold is an order statistic of ``calibrated_on`` rows, so the count is beta-binomial, whatever the scores.

    Parameters
    ----------
    n : int
        New rows.
    alpha : float
    calibrated_on : int
        Rows that the threshold rests on; 1 / alpha - 1 at least.

    Examples
    --------
    >>> highest_share(10, 0.05, calibrated_on=1000), round(highest_share(10_000, 0.05, calibrated_on=10**6), 4)
    (0.2, 0.0543)
    """
    above = max(math.floor((calibrated_on + 1) * alpha + 1e-9), 1)
    below, k = calibrated_on + 1 - above, np.arange(n)
    steps = np.log(n - k) - np.log(k + 1) + np.log(above + k) - np.log(n - k - 1 + below)
    mass = np.concatenate([[0.0], steps.cumsum()])
    share = np.exp(mass - mass.max())
    return float(np.searchsorted(share.cumsum() / share.sum(), 1.0 - 0.025)) / n


def _units(values: Array, least: Array, most: Array, weights: Array | None, groups: Indices | None) -> Units:
    w = np.ones(len(values)) if weights is None else weights
    group = np.arange(len(values)) if groups is None else groups
    weight = np.bincount(group, w).astype(np.float64)
    kept = weight > 0.0
    total, low, high = (np.bincount(group, w * part)[kept].astype(np.float64) for part in (values, least, most))
    return Units(total, low, high, weight[kept])


def _upper_end(units: Units, limit: float) -> float:
    mean, farthest = units.mean, float(np.max(units.most / units.weight))
    if not farthest - mean > 1e-12 * max(abs(mean), abs(farthest)):
        return mean
    end = _crossing(units, limit, farthest)
    return end if not _evidence(units, end)[1] else _crossing(units, max(limit, NO_EVENT), farthest)


def _crossing(units: Units, limit: float, farthest: float) -> float:
    """Largest mean that the units do not refute; found from within, so that its precision is the interval's own."""
    mean, deviation = units.mean, units.total - units.mean * units.weight

    def excess(distance: float) -> float:  # nearly straight in the distance
        return math.sqrt(_evidence(units, mean + distance)[0]) - math.sqrt(limit)

    step = math.sqrt(2.0 * limit * float(deviation @ deviation)) / float(units.weight.sum())
    low, high, below, above = 0.0, max(step, 1e-9 * (farthest - mean)), -math.sqrt(limit), math.inf
    while high < farthest - mean and (above := excess(high)) <= 0.0:
        low, below, high, above = high, above, 2.0 * high, math.inf
    return mean + _root(excess, low, min(high, farthest - mean), below, above)


def _root(excess: Callable[[float], float], low: float, high: float, below: float, above: float) -> float:
    """Where a rising function becomes positive: false position, halved at the end that stays (Illinois)."""
    for step in range(STEPS):
        if high - low <= 1e-9 * high:
            break
        straight = math.isfinite(above) and step % 4 < 3
        at = low - below * (high - low) / (above - below) if straight else 0.5 * (low + high)
        found = excess(at)
        if found <= 0.0:
            low, below, above = at, found, 0.5 * above
        else:
            high, above, below = at, found, 0.5 * below
    return high


def _evidence(units: Units, mean: float) -> tuple[float, bool]:
    """Log likelihood ratio against a mean above the units', and whether only what never occurred could explain it."""
    gains = mean * units.weight - units.total
    worst = float(np.max(units.most - mean * units.weight))
    if worst <= 0.0:
        return math.inf, False
    top = (1.0 - 1e-9) / worst
    if _slope(gains, top)[0] > 0.0:
        return float(np.log1p(top * gains).sum()), True
    return float(np.log1p(_best_stake(gains, top) * gains).sum()), False


def _best_stake(gains: Array, top: float) -> float:
    low, high, stake = 0.0, top, min(0.5 * top, float(gains.sum() / (gains @ gains)))
    for _ in range(STEPS):
        slope, curvature = _slope(gains, stake)
        low, high = (stake, high) if slope > 0.0 else (low, stake)
        proposal = stake + slope / curvature
        proposal = proposal if low < proposal < high else 0.5 * (low + high)
        if abs(proposal - stake) <= 1e-9 * stake:
            return proposal
        stake = proposal
    return stake


def _slope(gains: Array, stake: float) -> tuple[float, float]:
    ratio = gains / (1.0 + stake * gains)
    return float(ratio.sum()), float(ratio @ ratio)
