"""Vector scaling: a slope and a bias for each class, shrunk towards one temperature."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import affine, fit_affine, row_weights
from service.core.calibration.bcts import Bcts
from service.core.calibration.separation import separates
from service.core.numerics import Array, Indices, log_softmax
from service.core.state_checks import check_array


@dataclass(frozen=True, slots=True)
class Vector:
    r"""Log-softmax of log-probabilities, each class scaled and shifted by itself.

    .. math:: \log q = \operatorname{log\,softmax}(a \odot \log\operatorname{softmax}(z) + b)

    Log-probabilities stand for the logits, because a constant added to a row must change nothing: with unequal
    slopes ``a * z`` would depend on it.

    Parameters
    ----------
    slope : ndarray of shape (K,)
    bias : ndarray of shape (K,)
        Sums to zero; zero for a class that the calibration rows did not show.

    References
    ----------
    Guo et al. (2017), *On Calibration of Modern Neural Networks*, ICML.
    Berta, Holzmüller, Jordan and Bach (2025), *Structured Matrix Scaling for Multi-Class Calibration*.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "any"

    slope: Array
    bias: Array

    def __post_init__(self) -> None:
        check_array("slope", self.slope, *check_array("bias", self.bias, None).shape)

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
        r"""Slopes and biases of least log loss with ridges on what departs from one temperature.

        .. math:: \frac{K}{2n} \sum_k (T a_k - 1)^2 + \frac{1}{2n} \sum_k b_k^2

        T is that of `Bcts`, which no difference in prevalence bends. The bias is held as it is there: with K / n too,
        5000 rows of 100 classes with another prevalence lose three times as much.

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
        >>> labels = np.arange(999) % 3
        >>> logits = np.eye(3)[labels] * np.array([4.0, 2.0, 2.0])
        >>> fitted = Vector.fit(logits, np.roll(labels, np.arange(999) % 5 == 0))
        >>> fitted.slope.shape, fitted.bias.shape
        ((3,), (3,))
        """
        del offset
        n, k = logits.shape
        rows, w = units or n, row_weights(weights, n)
        unit = 1.0 / Bcts.fit(logits, labels, weights=w, units=units).temperature
        ridge = np.full(k, k / rows)
        return cls(
            *fit_affine(logits, labels, weights=w, unit=unit, centre=np.ones(k), ridge=ridge, bias_ridge=1.0 / rows)
        )

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters for ``k`` classes: K slopes, and biases that sum to zero."""
        return 2 * k - 1

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether slopes or biases could grow for ever; see `separates`."""
        del offset
        return separates(log_softmax(logits), labels, slope=self.slope, bias=self.bias, weights=weights)

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K).

        Examples
        --------
        >>> np.exp(Vector(np.array([2.0, 2.0]), np.zeros(2)).apply(np.log([[0.75, 0.25]]))).round(4)
        array([[0.9, 0.1]])
        """
        return log_softmax(affine(log_softmax(logits), self.slope, self.bias))
