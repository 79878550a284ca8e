"""Standard errors of a calibration, from what its record holds."""

import math
from typing import Final

import numpy as np

from service.core.numerics import Array

Z: Final = 1.959964


def slope_error(temperature: float, low: float, high: float) -> float:
    """Standard error of log T, from its 95 % interval; an infinite end is as far from T as the other one.

    Parameters
    ----------
    temperature, low, high : float

    Examples
    --------
    >>> round(slope_error(1.0, math.exp(-0.196), math.exp(0.196)), 3)
    0.1
    """
    below = math.log(temperature / low)
    above = math.log(high / temperature) if math.isfinite(high) else below
    return (below + above) / (2.0 * Z)


def intercept_errors(brier: float, prevalence: Array, *, units: int) -> Array:
    r"""Standard error of every class' intercept, in logits, shape (K,).

    .. math:: \sigma_k^{-2} = n \, \mathrm{E}[p_k (1 - p_k)], \qquad \sum_k \mathrm{E}[p_k (1 - p_k)] = \mathrm{Brier}

    The Brier loss of calibrated probabilities, summed over classes, is the sum of these variances; between classes it
    is shared out as :math:`\pi_k (1 - \pi_k)`. Exact for two classes.

    Parameters
    ----------
    brier : float
        Of held-out calibration rows.
    prevalence : ndarray of shape (K,)
        Of the calibration rows.
    units : int
        Rows, or groups where there are groups.

    Examples
    --------
    >>> intercept_errors(0.5, np.array([0.5, 0.5]), units=400).round(3)
    array([0.1, 0.1])
    """
    variances = prevalence * (1.0 - prevalence)
    information = units * max(brier, 0.0) * variances / max(variances.sum(), 1e-12)
    return 1.0 / np.sqrt(np.maximum(information, 1e-6))
