"""Confusion matrices; sensitivity, specificity and predictive values, with intervals."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.sampling import effective_rows

NORMAL: Final = 1.959963984540054  # both sides at 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share or an area with its 95 % interval; not a number where the rows do not determine it.

    Attributes
    ----------
    value, low, high : float
    rows : int
        That it is a share of; of an area, the rarer of events and others.
    """

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What a yes or no is worth against an event.

    Attributes
    ----------
    sensitivity, specificity : Estimate
        Of the events, those answered yes; of the others, those answered no.
    positive_predictive_value, negative_predictive_value : Estimate
        Of the yes, the events; of the no, the others. Both hold at the rows' own prevalence.
    """

    sensitivity: Estimate
    specificity: Estimate
    positive_predictive_value: Estimate
    negative_predictive_value: Estimate


def confusion_matrix(
    answered: Indices, labels: Indices, *, shape: tuple[int, int], weights: Array | None = None
) -> Array:
    """Weight of the rows by what was answered and what was true.

    Parameters
    ----------
    answered, labels : ndarray of shape (N,)
        Indices of the class or action answered, and of the true class.
    shape : tuple of int
        Of the result: answers, classes.
    weights : ndarray of shape (N,), optional
        A weight of two is the row twice.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), shape=(2, 2))
    array([[1., 0.],
           [1., 1.]])
    """
    counted = np.bincount(answered * shape[1] + labels, weights, minlength=shape[0] * shape[1])
    return counted.astype(np.float64).reshape(shape)


def rates(predicted: Flags, event: Flags, *, weights: Array | None = None, groups: Indices | None = None) -> Rates:
    """Sensitivity, specificity and predictive values of a yes or no, each with its interval.

    Parameters
    ----------
    predicted, event : ndarray of shape (N,)
        Whether yes was answered, and whether it was true.
    weights : ndarray of shape (N,), optional
        Positive.
    groups : ndarray of shape (N,), optional
        Rows of a group depend on each other.

    Examples
    --------
    >>> found = rates(np.array([True, True, False, False]), np.array([True, False, False, False]))
    >>> found.sensitivity.value, round(found.specificity.value, 4), found.positive_predictive_value.value
    (1.0, 0.6667, 0.5)
    """

    def share(hits: Flags, among: Flags) -> Estimate:
        own = None if groups is None else groups[among]
        return proportion(hits[among], weights=None if weights is None else weights[among], groups=own)

    return Rates(share(predicted, event), share(~predicted, ~event), share(event, predicted), share(~event, ~predicted))


def proportion(hits: Flags, *, weights: Array | None = None, groups: Indices | None = None) -> Estimate:
    r"""A share of rows with Wilson's interval, on as many independent rows of equal weight as are as informative.

    That number is :math:`p(1-p)/v`, where v is the variance of the weighted share with whole groups as units, times
    :math:`(z/t)^2` for the uncertainty of v. It is never more than Kish's effective number of rows, and never less than
    that of groups whose rows have one fate, which is taken where all rows agree.

    Parameters
    ----------
    hits : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
        Positive; only their ratios matter.
    groups : ndarray of shape (N,), optional

    Returns
    -------
    Estimate
        Not a number without rows; no interval for the rows of a single group.

    Examples
    --------
    >>> found = proportion(np.arange(10) < 8)
    >>> round(found.value, 4), round(found.low, 4), round(found.high, 4), found.rows
    (0.8, 0.4902, 0.9433, 10)

    References
    ----------
    Wilson (1927), *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22.
    Korn & Graubard (1998), *Confidence Intervals for Proportions with Small Expected Number of Positive Counts
    Estimated from Survey Data*, Survey Methodology 24.
    """
    n = len(hits)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    share = float(np.average(hits, weights=weights))
    units = None if groups is None else np.unique(groups, return_inverse=True)[1]
    if units is not None and units.max() == 0:
        return Estimate(share, math.nan, math.nan, n)
    low, high = wilson(share, _effective(hits, share, weights, units))
    return Estimate(share, low, high, n)


def wilson(share: float, n: float) -> tuple[float, float]:
    r"""Wilson's 95 % interval of a share of n rows.

    .. math:: \frac{\hat p + z^2/2n \pm z \sqrt{\hat p (1 - \hat p)/n + z^2/4n^2}}{1 + z^2/n}

    Parameters
    ----------
    share, n : float

    Examples
    --------
    >>> low, high = wilson(1.0, 10)
    >>> round(low, 4), high
    (0.7225, 1.0)
    """
    square = NORMAL**2
    middle = (share + square / (2.0 * n)) / (1.0 + square / n)
    half = NORMAL * math.sqrt(share * (1.0 - share) / n + square / (4.0 * n**2)) / (1.0 + square / n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (0.0 if share == 0.0 else low), (1.0 if share == 1.0 else high)


def student(freedom: int) -> float:
    r"""The 97.5 % quantile of Student's t, within 0.5 % from 3 degrees of freedom on, exact for 1 and 2.

    Parameters
    ----------
    freedom : int

    Examples
    --------
    >>> [round(student(d), 2) for d in (1, 2, 4, 30)]
    [12.71, 4.3, 2.78, 2.04]

    References
    ----------
    Abramowitz & Stegun (1964), *Handbook of Mathematical Functions*, 26.7.5.
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2.0 / (4.0 * 0.975 * 0.025))
    z, d = NORMAL, float(freedom)
    terms = (
        z,
        (z**3 + z) / (4.0 * d),
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * d**2),
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / (384.0 * d**3),
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / (92160.0 * d**4),
    )
    return sum(terms)


def _effective(hits: Flags, share: float, weights: Array | None, units: Indices | None) -> float:
    if weights is None and units is None:
        return float(len(hits))
    least, most = effective_rows(len(hits), weights=weights, groups=units), effective_rows(len(hits), weights=weights)
    if share in (0.0, 1.0):
        return least
    w = np.ones(len(hits)) if weights is None else weights
    residual = w * (hits - share) / w.sum()
    if units is not None:
        residual = np.bincount(units, residual)
    g = len(residual)
    if g < 2:
        return least
    variance = float(residual @ residual) * g / (g - 1)
    shrink = (NORMAL / student(g - 1)) ** 2
    return max(1.0, min(most, max(share * (1.0 - share) / max(variance, 1e-300), least) * shrink))
