"""Bias-corrected temperature scaling: a temperature, and a bias that undoes class weights or another prevalence."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import fit_affine, row_weights, typical_slope
from service.core.calibration.separation import separates
from service.core.numerics import Array, Indices, log_softmax
from service.core.state_checks import check_array, check_number

SMALLEST_SLOPE = 1e-3  # of the typical one: where logits rank backwards, T is so large that they hardly count
PINNED = 1e9


@dataclass(frozen=True, slots=True)
class Bcts:
    r"""Log-softmax of the logits divided by T, plus a bias.

    .. math:: \log q = \operatorname{log\,softmax}(z / T + b), \qquad \sum_k b_k = 0

    Parameters
    ----------
    temperature : float
        T > 0.
    bias : ndarray of shape (K,)
        Zero for a class that the calibration rows did not show.

    References
    ----------
    Alexandari, Kundaje and Shrikumar (2020), *Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat
    at Label Shift Adaptation*, ICML.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "any"

    temperature: float
    bias: Array

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, above=0.0)
        check_array("bias", self.bias, None)

    @classmethod
    def fit(
        cls,
        logits: Array,
        labels: Indices,
        *,
        weights: Array | None = None,
        offset: Array | None = None,
        units: int | None = None,
    ) -> Self:
        """Temperature and bias of least log loss, each held by a ridge worth one row.

        The ridge pulls biases to zero with a standard deviation of one, and the slope to that of temperature
        scaling alone; it is what keeps separable rows finite, and costs others next to nothing.

        Parameters
        ----------
        logits : ndarray of shape (N, K)
        labels : ndarray of shape (N,)
        weights : ndarray of shape (N,), optional
        offset : ndarray of shape (K,), optional
            Ignored: the bias finds the prevalence of these rows by itself.
        units : int, optional
            How many rows, or groups of rows, are independent of each other; without it, all rows.

        Examples
        --------
        >>> logits = np.zeros((1000, 2))
        >>> labels = np.repeat([0, 1], [800, 200])
        >>> np.exp(Bcts.fit(logits, labels).apply(np.zeros((1, 2)))).round(2)
        array([[0.8, 0.2]])
        """
        del offset
        rows = units or len(logits)
        w = row_weights(weights, len(logits))
        unit = typical_slope(logits, labels, w, units=units)
        one = np.array(1.0)
        slope, bias = fit_affine(
            logits, labels, weights=w, unit=unit, centre=one, ridge=one / rows, bias_ridge=1.0 / rows
        )
        if slope < SMALLEST_SLOPE * unit:
            unit *= SMALLEST_SLOPE
            slope, bias = fit_affine(
                logits, labels, weights=w, unit=unit, centre=one, ridge=PINNED * one, bias_ridge=1.0 / rows
            )
        return cls(float(1.0 / slope), bias)

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters for ``k`` classes: T, and biases that sum to zero."""
        return k

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether T could fall to 0 for ever; see `separates`."""
        del offset
        return separates(logits, labels, slope=np.array(1.0 / self.temperature), bias=self.bias, weights=weights)

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K).

        Examples
        --------
        >>> np.exp(Bcts(1.0, np.log([4.0, 1.0])).apply(np.zeros((1, 2)))).round(4)
        array([[0.8, 0.2]])
        """
        return log_softmax(logits / self.temperature + self.bias)
