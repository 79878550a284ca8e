"""Isotonic regression: the best non-decreasing curve, whatever its shape; for five thousand rows or more."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import row_weights
from service.core.calibration.onevsrest import blended, check_curves, log_odds, pooled, rectangular
from service.core.numerics import Array, Indices
from service.core.state_checks import check_ascending

NOMINAL_SIZE = 100  # a curve has as many blocks as the rows need; in `auto` it is to rank after everything else


@dataclass(frozen=True, slots=True)
class Isotonic:
    r"""A non-decreasing curve for each class over its log-odds against the rest, brought to sum one and mixed.

    .. math:: q \propto \bigl(f_k(\ln\tfrac{p_k}{1 - p_k})\bigr)_k, \qquad q \leftarrow (1 - m)\,q + m / K

    Between knots the curve is a straight line, outside it is flat. For three classes or more the favourite of a
    row may change.

    Parameters
    ----------
    knots : ndarray of shape (K, M)
        Log-odds at the ends of the blocks, ascending; short rows repeat their last knot.
    values : ndarray of shape (K, M)
        Share of the class there.
    blend : float
        m, which is 1 / (n + 1) for n calibration rows (Laplace): no probability is ever zero.

    References
    ----------
    Zadrozny and Elkan (2002), *Transforming Classifier Scores into Accurate Multiclass Probability Estimates*, KDD.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "any"

    knots: Array
    values: Array
    blend: float

    def __post_init__(self) -> None:
        classes, width = check_ascending("knots", self.knots, None, None).shape
        check_curves(self.values, self.blend, classes, width)

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
        """Curves of least squared error, which is also that of least log loss, among the non-decreasing ones.

        Parameters
        ----------
        logits : ndarray of shape (N, K)
        labels : ndarray of shape (N,)
        weights : ndarray of shape (N,), optional
        offset : ndarray of shape (K,), optional
            Ignored: the curves find the prevalence of these rows by themselves.
        units : int, optional
            How many rows, or groups of rows, are independent of each other; without it, all rows.

        Examples
        --------
        >>> logits = np.array([[0.0, -1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> fitted = Isotonic.fit(logits, np.array([0, 1, 0, 1]))
        >>> fitted.knots[1], fitted.values[1]
        (array([-1.,  0.,  1.,  2.]), array([0. , 0.5, 0.5, 1. ]))
        """
        del offset
        n, k = logits.shape
        odds, w = log_odds(logits), row_weights(weights, n)
        curves = [_curve(*pooled(odds[:, c], (labels == c).astype(np.float64), w)) for c in range(k)]
        width = max(len(knots) for knots, _ in curves)
        knots, values = (rectangular(part, width) for part in zip(*curves, strict=True))
        return cls(knots, values, 1.0 / ((units or n) + 1))

    @staticmethod
    def size(k: int) -> int:
        """Nominal number of free parameters for ``k`` classes."""
        return NOMINAL_SIZE * k

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
        >>> knots, values = np.array([[-1.0, 1.0], [-1.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
        >>> np.exp(Isotonic(knots, values, 0.1).apply(np.array([[0.0, 0.0], [0.0, 9.0]]))).round(4)
        array([[0.5 , 0.5 ],
               [0.05, 0.95]])
        """
        curves = zip(log_odds(logits).T, self.knots, self.values, strict=True)
        return blended(np.stack([np.interp(x, knots, values) for x, knots, values in curves], axis=1), self.blend)


def pool_adjacent_violators(shares: Array, mass: Array) -> tuple[Array, Indices]:
    """Weighted least-squares fit among the non-decreasing sequences.

    Parameters
    ----------
    shares, mass : ndarray of shape (M,)
        Values, and their positive weights.

    Returns
    -------
    levels : ndarray of shape (B,)
        Value of each block, ascending.
    starts : ndarray of shape (B,)
        Index at which each block begins.

    Examples
    --------
    >>> pool_adjacent_violators(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4))
    (array([0. , 0.5, 1. ]), array([0, 1, 3]))

    References
    ----------
    Ayer et al. (1955), *An Empirical Distribution Function for Sampling with Incomplete Information*, Annals of
    Mathematical Statistics 26.
    """
    blocks: list[tuple[float, float, int]] = []  # level, mass, start
    for start, (level, weight) in enumerate(zip(shares.tolist(), mass.tolist(), strict=True)):
        block = (level, weight, start)
        while blocks and blocks[-1][0] >= block[0]:
            left, heavy, first = blocks.pop()
            together = heavy + block[1]
            block = ((left * heavy + block[0] * block[1]) / together, together, first)
        blocks.append(block)
    return np.array([level for level, _, _ in blocks]), np.array([start for _, _, start in blocks], dtype=np.intp)


def _curve(x: Array, mass: Array, shares: Array) -> tuple[Array, Array]:
    levels, starts = pool_adjacent_violators(shares, mass)
    ends = np.append(starts[1:], len(x)) - 1
    at = np.unique(np.concatenate([starts, ends]))
    return x[at], levels[np.searchsorted(starts, at, side="right") - 1]
