"""A share of the uniform distribution in every answer of a fit on separable rows.

Tested in `tests/core/calibration/test_separation.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.core.calibration import Calibrator, Map
from service.core.numerics import Array, Indices


def mixed(log_probs: Array, share: float) -> Array:
    r"""Log-probabilities mixed with the uniform distribution, shape (N, K).

    .. math:: q \leftarrow (1 - m)\, q + m / K

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    share : float
        m, between 0 and 1.

    Examples
    --------
    >>> np.exp(mixed(np.array([[0.0, -np.inf]]), 0.1)).round(4)
    array([[0.95, 0.05]])
    """
    return np.logaddexp(log_probs + math.log1p(-share), math.log(share / log_probs.shape[1]))


def support(units: int) -> float:
    r"""Smallest error probability that so many rows, or groups of rows, support.

    .. math:: m = 1 / (n + 1)

    The probability that Laplace's rule of succession gives, but for a row, to what n rows never showed.

    Examples
    --------
    >>> support(9)
    0.1
    """
    return 1.0 / (units + 1)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A calibrator of separable rows, mixed with the uniform distribution.

    Attributes
    ----------
    calibrator : Calibrator
    share : float
        `support` of the rows.
    """

    calibrator: Calibrator
    share: float

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K), never below the logarithm of ``share`` / K.

        Examples
        --------
        >>> from service.core.calibration.temperature import Temperature
        >>> np.exp(Mixed(Temperature(0.001), 0.01).apply(np.array([[0.0, 1.0]]))).round(4)
        array([[0.005, 0.995]])
        """
        return mixed(self.calibrator.apply(logits), self.share)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibrator fitted to rows, and whether they are separable.

    Attributes
    ----------
    calibrator : Calibrator
    separable : bool
    share : float
        `support` of the rows.
    """

    calibrator: Calibrator
    separable: bool
    share: float

    @property
    def served(self) -> Map:
        """What answers requests: the calibrator itself, mixed if its rows are separable."""
        return Mixed(self.calibrator, self.share) if self.separable else self.calibrator


def fit_mixed(
    method: type[Calibrator],
    logits: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    offset: Array | None = None,
    units: int | None = None,
    share: float | None = None,
) -> Fitted:
    """Fit a method, and find out whether the rows are separable to it; parameters are those of `Calibrator.fit`.

    ``share`` is `support` of ``units`` unless it is given. Folds are given that of all rows, so that they are mixed as
    the final fit is.

    Examples
    --------
    >>> from service.core.calibration.temperature import Temperature
    >>> found = fit_mixed(Temperature, np.array([[0.5, 0.0], [0.0, 0.25]]), np.array([0, 1]))
    >>> found.separable, np.exp(found.served.apply(np.array([[100.0, 0.0]]))).round(4)
    (True, array([[0.8333, 0.1667]]))
    """
    calibrator = method.fit(logits, labels, weights=weights, offset=offset, units=units)
    separable = calibrator.separable(logits, labels, weights=weights, offset=offset)
    return Fitted(calibrator, separable, support(units or len(labels)) if share is None else share)
