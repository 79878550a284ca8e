"""Calibration intercept and slope, each with its interval."""

import math
from typing import Final

import numpy as np

from service.core.assessment.confusion import NORMAL, Estimate, student
from service.core.assessment.observed_expected import observed_over_expected
from service.core.assessment.recalibration import cox
from service.core.numerics import Array, Flags, Indices

FEWEST: Final = 5
"""Events, and others, below which a slope has no interval; groups of them, where there are groups."""

FARTHEST: Final = 90.0  # of an intercept: beyond it every probability is 0 or 1, whatever it was
STEPS: Final = 200


def calibration_intercept(
    log_odds: Array, occurred: Flags, *, weights: Array | None = None, groups: Indices | None = None
) -> Estimate:
    r"""What to add to the log-odds for the frequency of the event to be right; 0 when it is.

    .. math:: \hat a: \quad \sum_i w_i \sigma(x_i + \hat a) = \sum_i w_i y_i

    the maximum-likelihood intercept under a slope of 1 ("calibration in the large"). The left side grows with a, so its
    95 % interval is that of the ratio of observed to expected events, carried over: both exclude chance together.

    Parameters
    ----------
    log_odds : ndarray of shape (N,)
        Finite.
    occurred : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional

    Returns
    -------
    Estimate
        Infinite ends, and not a number as value, where all rows may be events or none. Its ``rows`` are the rarer of
        events and others.

    Examples
    --------
    >>> found = calibration_intercept(np.full(100, np.log(1 / 9)), np.arange(100) < 20)
    >>> round(found.value, 3), found.low < 0.811 < found.high
    (0.811, True)

    References
    ----------
    Van Calster et al. (2019), *Calibration: the Achilles Heel of Predictive Analytics*, BMC Medicine 17.
    """
    w = np.ones(len(log_odds)) if weights is None else weights
    p = _sigmoid(log_odds)
    ratio = observed_over_expected(p, occurred, weights=weights, groups=groups)
    value, low, high = (_moved(log_odds, w, part * float(w @ p)) for part in (ratio.value, ratio.low, ratio.high))
    return Estimate(value if math.isfinite(value) else math.nan, low, high, _rarer(occurred))


def calibration_slope(
    log_odds: Array, occurred: Flags, *, weights: Array | None = None, groups: Indices | None = None
) -> Estimate:
    """`cox`'s slope with its 95 % interval: below 1 the probabilities are too sure.

    Without weights and groups the interval is Wald's; otherwise that of the jackknife over groups, with Student's
    quantile.

    Parameters
    ----------
    log_odds : ndarray of shape (N,)
        Finite.
    occurred : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional

    Returns
    -------
    Estimate
        Without an interval where fewer than `FEWEST` events or others tell of it. The value is infinite where a
        threshold on the probabilities separates the events, and not a number where all rows are alike.

    Examples
    --------
    >>> logit = np.log([4.0, 0.25]).repeat(10)
    >>> found = calibration_slope(logit, np.arange(20) % 10 < np.array([6, 4]).repeat(10))
    >>> round(found.value, 3), found.low < 0.0, found.high > 0.6
    (0.292, True, True)

    References
    ----------
    Cox (1958), *Two Further Applications of a Model for Binary Regression*, Biometrika 45.
    Bell & McCaffrey (2002), *Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples*, Survey
    Methodology 28.
    """
    line, units = cox(log_odds, occurred, weights=weights, groups=groups), _least_units(occurred, groups)
    if not math.isfinite(line.slope_error) or units < FEWEST:
        return Estimate(line.slope, math.nan, math.nan, _rarer(occurred))
    reach = line.slope_error * (NORMAL if weights is None and groups is None else student(units - 1))
    return Estimate(line.slope, line.slope - reach, line.slope + reach, _rarer(occurred))


def _rarer(occurred: Flags) -> int:
    events = int(np.count_nonzero(occurred))
    return min(events, len(occurred) - events)


def _least_units(occurred: Flags, groups: Indices | None) -> int:
    """Rows, or groups with such rows, of the rarer of events and others."""
    if groups is None:
        return _rarer(occurred)
    return min(len(np.unique(groups[occurred])), len(np.unique(groups[~occurred])))


def _moved(log_odds: Array, w: Array, expected: float) -> float:
    """Intercept under which so many events are expected: bisection, which every sum of probabilities obeys."""
    total = float(w.sum())
    if math.isnan(expected):
        return math.nan
    if not 0.0 < expected < total * (1.0 - 1e-15):
        return -math.inf if expected <= 0.0 else math.inf
    low, high = -FARTHEST, FARTHEST
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(w @ _sigmoid(log_odds + middle)) < expected else (low, middle)
        if high - low <= 1e-12:
            break
    return 0.5 * (low + high)


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -z))
