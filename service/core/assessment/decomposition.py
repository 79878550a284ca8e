"""Where a loss comes from: miscalibration, discrimination and the uncertainty of the base rate.

Functions take the probabilities of one event and its outcomes (whether it occurred), as those of `reliability` do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from service.core.assessment.miscalibration import equal_width
from service.core.calibration.isotonic import pool_adjacent_violators
from service.core.numerics import Array, Indices

Loss = Literal["brier", "log_loss"]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """``score = miscalibration - discrimination + uncertainty``; no part is negative.

    Attributes
    ----------
    score : float
        Mean loss.
    miscalibration : float
        What the best monotone recalibration would save.
    discrimination : float
        What the recalibrated probabilities save over the base rate.
    uncertainty : float
        Loss of the base rate.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Binned:
    """``score = reliability - resolution + uncertainty + within``; only ``within`` can be negative.

    Attributes
    ----------
    score : float
        Mean loss.
    reliability : float
        Loss of saying the bins' mean probabilities where their frequencies are right.
    resolution : float
        What the bins' frequencies save over the base rate.
    uncertainty : float
        Loss of the base rate.
    within : float
        What the bins hide: differences among the probabilities of one bin.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def monotone_recalibration(probabilities: Array, outcomes: np.ndarray, *, weights: Array | None = None) -> Array:
    """Best non-decreasing function of the probabilities for the outcomes (isotonic regression).

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
        Equal ones get equal values.
    outcomes : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
        Positive.

    Examples
    --------
    >>> monotone_recalibration(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1]))
    array([0. , 0.5, 0.5, 1. ])

    References
    ----------
    Ayer et al. (1955), *An Empirical Distribution Function for Sampling with Incomplete Information*.
    """
    share = np.ones(len(probabilities)) if weights is None else weights
    _, group = np.unique(probabilities, return_inverse=True)
    mass = np.bincount(group, share).astype(np.float64)
    levels, starts = pool_adjacent_violators(np.bincount(group, share * outcomes) / mass, mass)
    return levels[np.searchsorted(starts, group, side="right") - 1]


def corp_decomposition(
    probabilities: Array, outcomes: np.ndarray, *, loss: Loss = "brier", weights: Array | None = None
) -> Decomposition:
    r"""Split a mean loss into miscalibration, discrimination and uncertainty (CORP), without bins.

    .. math:: \bar S = (\bar S - \bar S_{iso}) - (\bar S_{\bar y} - \bar S_{iso}) + \bar S_{\bar y}

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    loss : {"brier", "log_loss"}
        Of the one event: ``(p - y)**2``, which for two classes is `brier_loss`.
    weights : ndarray of shape (N,), optional
        Positive.

    Examples
    --------
    >>> parts = corp_decomposition(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1]))
    >>> round(parts.miscalibration, 6), parts.discrimination, parts.uncertainty
    (0.085, 0.25, 0.25)

    References
    ----------
    Dimitriadis, Gneiting & Jordan (2021), *Stable Reliability Diagrams for Probabilistic Classifiers*, PNAS 118.
    """
    rate = np.full(len(outcomes), np.average(outcomes, weights=weights))
    better = monotone_recalibration(probabilities, outcomes, weights=weights)
    mean_loss = _MEAN_LOSS[loss]
    score, recalibrated, base = (mean_loss(p, outcomes, weights) for p in (probabilities, better, rate))
    return Decomposition(score, score - recalibrated, base - recalibrated, base)


def binned_decomposition(
    probabilities: Array,
    outcomes: np.ndarray,
    *,
    index: Indices | None = None,
    loss: Loss = "brier",
    weights: Array | None = None,
) -> Binned:
    r"""Split a mean loss by bins, as Murphy did; `corp_decomposition` needs none.

    .. math:: \bar S = \sum_b \frac{n_b}{n} D(\bar y_b, \bar p_b) - \sum_b \frac{n_b}{n} D(\bar y_b, \bar y)
        + S(\bar y) + \text{within}

    where D is the loss' divergence: squared distance for Brier, Kullback-Leibler for log loss. What happens inside a
    bin is no part of Murphy's three terms, so it has one of its own and nothing is lost.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    index : ndarray of shape (N,), optional
        Bin of every row; `equal_width` by default.
    loss : {"brier", "log_loss"}
    weights : ndarray of shape (N,), optional
        Positive.

    Examples
    --------
    >>> parts = binned_decomposition(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 1, 0]))
    >>> round(parts.reliability, 4), round(parts.resolution, 4), round(parts.uncertainty, 4)
    (0.065, 0.0625, 0.1875)

    References
    ----------
    Murphy (1973), *A New Vector Partition of the Probability Score*, Journal of Applied Meteorology 12.
    Stephenson, Coelho & Jolliffe (2008), *Two Extra Components in the Brier Score Decomposition*.
    """
    share = np.ones(len(probabilities)) if weights is None else weights
    _, place = np.unique(equal_width(probabilities) if index is None else index, return_inverse=True)
    mass = np.bincount(place, share)
    predicted, observed = (np.bincount(place, share * v) / mass for v in (probabilities, outcomes))
    mean_loss, rate = _MEAN_LOSS[loss], np.full(len(outcomes), np.average(outcomes, weights=weights))
    levels = (probabilities, predicted[place], observed[place], rate)
    score, coarse, sharp, base = (mean_loss(level, outcomes, weights) for level in levels)
    within = 0.0 if math.isinf(coarse) else score - coarse  # infinite where a whole bin ruled out what occurred
    return Binned(score, coarse - sharp, base - sharp, base, within)


def _mean_squared(probabilities: Array, outcomes: np.ndarray, weights: Array | None) -> float:
    return float(np.average((probabilities - outcomes) ** 2, weights=weights))


def _mean_log(probabilities: Array, outcomes: np.ndarray, weights: Array | None) -> float:
    """Infinite where an event of probability zero occurred."""
    own = np.where(outcomes, probabilities, 1.0 - probabilities)
    return float(np.average(-np.log(own), weights=weights)) + 0.0 if own.all() else math.inf  # never minus zero


_MEAN_LOSS: Final[dict[Loss, Callable[[Array, np.ndarray, Array | None], float]]] = {
    "brier": _mean_squared,
    "log_loss": _mean_log,
}
