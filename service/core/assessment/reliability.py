"""Reliability: predicted probability against observed frequency, as curves and against chance.

Functions take the probabilities of one event and its outcomes (whether it occurred), so it serves the predicted class
(`assessment.miscalibration.favourite`), the positive class of a binary and every class of many (`class_event`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.miscalibration import BINS, binned_gap, debiased_squared_gap, equal_mass, equal_width
from service.core.numerics import Array, Flags, Indices

NORMAL: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Curve:
    """A reliability diagram: one entry per bin that has rows.

    Attributes
    ----------
    predicted, observed : ndarray of shape (B,)
        Mean predicted probability, and observed frequency.
    count : ndarray of shape (B,)
    low, high : ndarray of shape (B,)
        Consistency band: where ``observed`` would lie if the probabilities were right.
    """

    predicted: Array
    observed: Array
    count: Indices
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class NullTest:
    """A calibration error beside what a perfect predictor with the same probabilities would score.

    Attributes
    ----------
    error, quantile : float
        Measured; exceeded by a perfect predictor once in ``1 / (1 - level)`` samples.
    p_value : float
        Probability that a perfect predictor scores at least ``error``.
    """

    error: float
    quantile: float
    p_value: float


def class_event(log_probs: Array, labels: Indices, k: int) -> tuple[Array, Flags]:
    """Probability of class ``k``, and whether it was the true one; for a binary's positive class ``k`` is 1.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    k : int

    Examples
    --------
    >>> class_event(np.log([[0.75, 0.25]]), np.array([1]), 1)
    (array([0.25]), array([ True]))
    """
    return np.exp(log_probs[:, k]), labels == k


def reliability_curve(
    probabilities: Array,
    outcomes: np.ndarray,
    *,
    index: Indices | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Curve:
    """Mean probability and observed frequency of every bin, with its consistency band.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    index : ndarray of shape (N,), optional
        Bin of every row; `equal_width` by default.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        Rows of a group are taken to have one fate: the band is then the widest that chance can make.
    level : float
        Share of samples of a perfect predictor inside the band, bin by bin.
    draws, seed : int
        Size and start of the simulation behind the band.

    Examples
    --------
    >>> curve = reliability_curve(np.array([0.25, 0.25, 0.75]), np.array([0, 1, 1]))
    >>> curve.predicted, curve.observed, curve.count, curve.low, curve.high
    (array([0.25, 0.75]), array([0.5, 1. ]), array([2, 1]), array([0., 0.]), array([1., 1.]))

    References
    ----------
    Bröcker & Smith (2007), *Increasing the Reliability of Reliability Diagrams*, Weather and Forecasting 22.
    """
    _, place, count = np.unique(
        equal_width(probabilities) if index is None else index, return_inverse=True, return_counts=True
    )
    share = np.ones(len(place)) if weights is None else weights
    simulated = np.sort(list(_drawn(place, probabilities, share, groups, draws=draws, seed=seed)), axis=0)
    outer, mass = int((1.0 - level) / 2.0 * draws), np.bincount(place, share)
    predicted, observed = (np.bincount(place, share * values) / mass for values in (probabilities, outcomes))
    return Curve(predicted, observed, count, simulated[outer] / mass, simulated[-1 - outer] / mass)


def null_errors(
    probabilities: Array,
    *,
    bins: int = BINS,
    weights: Array | None = None,
    groups: Indices | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Array:
    """`binned_gap` of a predictor whose probabilities are right, over and over: events drawn from them.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        Rows of a group are taken to have one fate: the errors are then the largest that chance can make.
    bins, draws, seed : int

    Returns
    -------
    ndarray of shape (draws,)
        Ascending.

    Examples
    --------
    >>> null_errors(np.full(4, 0.5))[[0, -1]]
    array([0. , 0.5])
    """
    share = np.ones(len(probabilities)) if weights is None else weights
    index = equal_width(probabilities, bins=bins)
    predicted = np.bincount(index, share * probabilities)
    drawn = _drawn(index, probabilities, share, groups, draws=draws, seed=seed)
    return np.sort([np.abs(predicted - observed).sum() / share.sum() for observed in drawn])


def null_test(
    probabilities: Array,
    outcomes: np.ndarray,
    *,
    bins: int = BINS,
    weights: Array | None = None,
    groups: Indices | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> NullTest:
    r"""Whether a calibration error is more than chance: consistency resampling, :math:`y \sim p`.

    ``error > quantile`` exactly when ``p_value <= 1 - level``; a perfect predictor gets there that often.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    bins : int
    weights, groups : ndarray of shape (N,), optional
        As for `null_errors`.
    level : float
    draws, seed : int

    Examples
    --------
    >>> null_test(np.full(100, 0.9), np.arange(100) < 60).p_value < 0.01
    True

    References
    ----------
    Vaicenavicius et al. (2019), *Evaluating Model Calibration in Classification*, AISTATS.
    """
    null = null_errors(probabilities, bins=bins, weights=weights, groups=groups, draws=draws, seed=seed)
    error = binned_gap(probabilities, outcomes, bins=bins, weights=weights)
    slack = 1e-12  # a simulated sample equal to the real one differs in the last bit
    above = draws - int(np.searchsorted(null, error - slack))
    rank = min(draws, math.ceil(level * (draws + 1) - 1e-9))
    return NullTest(error, float(null[rank - 1]) + slack, (1 + above) / (1 + draws))


def debiased_interval(
    probabilities: Array,
    outcomes: np.ndarray,
    *,
    bins: int = BINS,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Interval of the debiased root-mean-square calibration error, in bins of equally many rows.

    .. math:: \hat\theta \pm \max_{\pi} \max(q_{1 - \alpha/2}, -q_{\alpha/2}), \quad
        q \text{ of } \theta^*(\pi) - \sum_b \frac{n_b}{n} (\bar p_b - \pi_b)^2

    of the square, whose noise is simulated with the bins' event rates. Observed rates of 0 or 1 would leave no noise,
    so they are smoothed: by one row towards the mean probability, by one row towards one half, and to as many of the
    rarer outcome as its upper Poisson limit allows; the largest noise counts. It holds 0 for a perfect predictor,
    however sure, and is wide where events are few.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    bins : int
    level : float
    draws, seed : int

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> low, high = debiased_interval(np.full(400, 0.9), np.arange(400) % 10 < 7)
    >>> low < 0.2 < high
    True
    >>> low, high = debiased_interval(np.full(300, 0.999), np.ones(300))
    >>> low, high > 0.005
    (0.0, True)

    References
    ----------
    Kumar, Liang & Ma (2019), *Verified Uncertainty Calibration*, NeurIPS.
    """
    _, index, count = np.unique(equal_mass(probabilities, bins=bins), return_inverse=True, return_counts=True)
    predicted, events = np.bincount(index, probabilities) / count, np.bincount(index, outcomes).astype(np.float64)
    estimate = debiased_squared_gap(index, probabilities, outcomes)
    rng = np.random.default_rng(seed)
    worlds = (events + predicted) / (count + 1), (events + 0.5) / (count + 1), _as_many_as_may_be(events, count)
    noises = [_gap_noise(count, predicted, np.clip(rates, 0.0, 1.0), draws, rng) for rates in worlds]
    outer = (1.0 - level) / 2.0
    reach = max(float(np.abs(np.quantile(noise, [outer, 1.0 - outer])).max()) for noise in noises)
    return math.sqrt(max(estimate - reach, 0.0)), math.sqrt(max(estimate + reach, 0.0))


def _as_many_as_may_be(events: Array, count: Indices) -> Array:
    """Event rates of every bin, were the rarer of the two outcomes as frequent as its Poisson limit allows."""
    rarer = events if 2.0 * events.sum() <= count.sum() else count - events
    seen, rates = float(rarer.sum()) + 1.0, (rarer + 0.5) / (count + 1)
    limit = seen * (1.0 - 1.0 / (9.0 * seen) + NORMAL / (3.0 * math.sqrt(seen))) ** 3  # Wilson and Hilferty's
    rates = np.minimum(rates * (limit / float(count @ rates)), 1.0)
    return rates if rarer is events else 1.0 - rates


def _gap_noise(count: Indices, predicted: Array, rates: Array, draws: int, rng: np.random.Generator) -> Array:
    """How far the debiased squared gap of samples lies from the one behind them, shape (draws,)."""
    observed = rng.binomial(count, rates, size=(draws, len(count))) / count
    chance = observed * (1.0 - observed) / np.maximum(count - 1, 1)
    squared = np.where(count > 1, (predicted - observed) ** 2 - chance, 0.0)
    return (squared - (predicted - rates) ** 2) @ count / count.sum()


def _drawn(
    place: Indices, probabilities: Array, share: Array, groups: Indices | None, *, draws: int, seed: int
) -> Iterator[Array]:
    """What every bin would count, were the probabilities right: events drawn from them, rows of a group by one draw."""
    rng = np.random.default_rng(seed)
    units = len(place) if groups is None else int(groups.max()) + 1
    for _ in range(draws):
        uniform = rng.random(units)
        outcomes = (uniform if groups is None else uniform[groups]) < probabilities
        yield np.bincount(place, share * outcomes).astype(np.float64)
