"""Calibration in the large as a ratio: events that occurred over events that the probabilities expected."""

import math

import numpy as np

from service.core.assessment.confusion import Estimate
from service.core.intervals import mean_interval
from service.core.numerics import Array, Flags, Indices


def observed_over_expected(
    probabilities: Array, occurred: Flags, *, weights: Array | None = None, groups: Indices | None = None
) -> Estimate:
    r"""Ratio of observed to expected events, with its 95 % interval: above 1 the risk is under-predicted.

    .. math:: \frac{\sum_i w_i y_i}{\sum_i w_i p_i}

    This is the mean of :math:`y_i / p_i` under the weights :math:`w_i p_i`, so that its interval is that of
    `mean_interval`, in which every row could have been an event or none. It needs no normal approximation and holds a
    finite upper end where no event occurred. Rows of a group are one draw.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    occurred : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional
        Weights are positive; groups are 0..G-1.

    Returns
    -------
    Estimate
        Its ``rows`` are the events. Not a number without expected events; no interval for a single unit.

    Examples
    --------
    >>> found = observed_over_expected(np.full(100, 0.1), np.arange(100) < 20)
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2), found.rows
    (2.0, 1.27, 2.9, 20)
    >>> found = observed_over_expected(np.full(100, 0.1), np.zeros(100, dtype=bool))
    >>> found.value, found.low, round(found.high, 2)
    (0.0, 0.0, 0.36)

    References
    ----------
    Debray et al. (2017), *A Guide to Systematic Review and Meta-Analysis of Prediction Model Performance*, BMJ 356.
    Owen (1988), *Empirical Likelihood Ratio Confidence Intervals for a Single Functional*, Biometrika 75.
    """
    p = np.maximum(probabilities, np.finfo(np.float64).tiny)  # a row without expectation still counts its event
    w = np.ones(len(p)) if weights is None else weights
    events, expected = int(np.count_nonzero(occurred)), float(w @ p)
    if len(p) == 0 or expected <= np.finfo(np.float64).tiny * float(w.sum()):
        return Estimate(math.nan, math.nan, math.nan, events)
    ratio = float(w @ occurred) / expected
    if len(p) < 2 or (groups is not None and groups.min() == groups.max()):
        return Estimate(ratio, math.nan, math.nan, events)
    low, high = mean_interval(occurred / p, least=np.zeros(len(p)), most=1.0 / p, weights=w * p, groups=groups)
    return Estimate(ratio, max(low, 0.0), high, events)
