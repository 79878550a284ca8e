"""Histogram binning: the share of cases in bins of equal mass; coarse, and easy to explain."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import row_weights
from service.core.calibration.onevsrest import blended, check_curves, log_odds, pooled, rectangular
from service.core.numerics import Array, Indices
from service.core.state_checks import check_ascending

BINS = 15


@dataclass(frozen=True, slots=True)
class Histogram:
    r"""A step function for each class over its log-odds against the rest, brought to sum one and mixed.

    .. math:: q \propto \bigl(f_k(\ln\tfrac{p_k}{1 - p_k})\bigr)_k, \qquad q \leftarrow (1 - m)\,q + m / K

    Parameters
    ----------
    edges : ndarray of shape (K, M - 1)
        Log-odds between bins, ascending; a row of fewer bins repeats its last edge.
    values : ndarray of shape (K, M)
        Share of the class in each bin.
    blend : float
        m, which is 1 / (n + 1) for n calibration rows (Laplace): no probability is ever zero.

    References
    ----------
    Zadrozny and Elkan (2001), *Obtaining Calibrated Probability Estimates from Decision Trees and Naive Bayesian
    Classifiers*, ICML.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "any"

    edges: Array
    values: Array
    blend: float

    def __post_init__(self) -> None:
        classes, width = check_ascending("edges", self.edges, None, None).shape
        check_curves(self.values, self.blend, classes, width + 1)

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
        """Shares in up to 15 bins of equal mass; equal scores are never parted.

        Parameters
        ----------
        logits : ndarray of shape (N, K)
        labels : ndarray of shape (N,)
        weights : ndarray of shape (N,), optional
        offset : ndarray of shape (K,), optional
            Ignored: the bins find the prevalence of these rows by themselves.
        units : int, optional
            How many rows, or groups of rows, are independent of each other; without it, all rows.

        Examples
        --------
        >>> logits = np.repeat([[0.0, -1.0], [0.0, 1.0]], 4, axis=0)
        >>> fitted = Histogram.fit(logits, np.array([0, 0, 0, 1, 0, 1, 1, 1]))
        >>> fitted.edges[1, 0], fitted.values[1, :2]
        (np.float64(0.0), array([0.25, 0.75]))
        """
        del offset
        n, k = logits.shape
        odds, w = log_odds(logits), row_weights(weights, n)
        curves = [_steps(*pooled(odds[:, c], (labels == c).astype(np.float64), w)) for c in range(k)]
        edges, values = zip(*curves, strict=True)
        return cls(rectangular(edges, BINS - 1), rectangular(values, BINS), 1.0 / ((units or n) + 1))

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters for ``k`` classes."""
        return BINS * k

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Never: its probabilities are mixed with the uniform distribution on all rows."""
        del logits, labels, weights, offset
        return False

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K), never minus infinity.

        Examples
        --------
        >>> edges, values = np.zeros((2, 1)), np.array([[0.0, 1.0], [0.0, 1.0]])
        >>> np.exp(Histogram(edges, values, 0.1).apply(np.array([[0.0, 9.0]]))).round(4)
        array([[0.05, 0.95]])
        """
        curves = zip(log_odds(logits).T, self.edges, self.values, strict=True)
        shares = [values[np.searchsorted(edges, x, side="right")] for x, edges, values in curves]
        return blended(np.stack(shares, axis=1), self.blend)


def _steps(x: Array, mass: Array, shares: Array) -> tuple[Array, Array]:
    before = mass.cumsum() - 0.5 * mass
    places = np.minimum(before / mass.sum() * BINS, BINS - 1).astype(np.intp)
    _, bin_of = np.unique(places, return_inverse=True)  # bins that a tie has swallowed are left out
    last = np.flatnonzero(np.diff(bin_of))
    return 0.5 * (x[last] + x[last + 1]), np.bincount(bin_of, mass * shares) / np.bincount(bin_of, mass)
