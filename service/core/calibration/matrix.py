"""Matrix scaling of log-probabilities (Dirichlet calibration), its off-diagonal held close to zero."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import affine, fit_affine, row_weights
from service.core.calibration.bcts import Bcts
from service.core.calibration.separation import separates
from service.core.numerics import Array, Indices, log_softmax
from service.core.state_checks import check_array


@dataclass(frozen=True, slots=True)
class Matrix:
    r"""Log-softmax of a linear map of the log-probabilities.

    .. math:: \log q = \operatorname{log\,softmax}(W \log\operatorname{softmax}(z) + b)

    The likelihood ratio of two Dirichlet distributions has this form. For up to some 20 classes, with
    :math:`20 K^2` rows or more.

    Parameters
    ----------
    weight : ndarray of shape (K, K)
    bias : ndarray of shape (K,)
        Sums to zero; zero for a class that the calibration rows did not show.

    References
    ----------
    Kull et al. (2019), *Beyond Temperature Scaling: Obtaining Well-Calibrated Multi-Class Probabilities with
    Dirichlet Calibration*, NeurIPS.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "any"

    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        check_array("weight", self.weight, *check_array("bias", self.bias, None).shape * 2)

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
        r"""Matrix and bias of least log loss with off-diagonal and intercept regularisation (ODIR).

        .. math:: \frac{1}{2n} \Bigl[K^2 \sum_{i \ne j} (T W_{ij})^2
                  + K \sum_i (T W_{ii} - 1)^2 + \sum_i b_i^2\Bigr]

        One row of the off-diagonal may so depart from zero as much as its diagonal from 1/T, whatever K is. Kull
        et al. search for both strengths by cross-validation and leave the diagonal free.

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
        >>> labels = np.arange(1000) % 2
        >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])[labels]
        >>> Matrix.fit(logits, np.where(np.arange(1000) % 5 == 0, 1 - labels, labels)).weight.shape
        (2, 2)
        """
        del offset
        n, k = logits.shape
        rows, w = units or n, row_weights(weights, n)
        unit = 1.0 / Bcts.fit(logits, labels, weights=w, units=units).temperature
        ridge = np.where(np.eye(k) > 0.0, k / rows, k * k / rows)
        return cls(
            *fit_affine(logits, labels, weights=w, unit=unit, centre=np.eye(k), ridge=ridge, bias_ridge=1.0 / rows)
        )

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters for ``k`` classes: what is added to a whole column, or to all biases, is lost."""
        return k * k - 1

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether slopes or biases could grow for ever; see `separates`."""
        del offset
        return separates(log_softmax(logits), labels, slope=self.weight, bias=self.bias, weights=weights)

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K).

        Examples
        --------
        >>> np.exp(Matrix(2.0 * np.eye(2), np.zeros(2)).apply(np.log([[0.75, 0.25]]))).round(4)
        array([[0.9, 0.1]])
        """
        return log_softmax(affine(log_softmax(logits), self.weight, self.bias))
