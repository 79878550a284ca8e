"""Thresholds and p-values with a finite-sample guarantee, from scores of rows like those to come.

Both rest on exchangeability alone: whatever the score, a new row of the same population exceeds the threshold
with probability at most α, and its p-value is at most u with probability at most u.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.core.numerics import Array, Indices

STORED_SCORES = 10_000


@dataclass(frozen=True, slots=True)
class Reference:
    """Sorted scores of the calibration rows, all of them or conservative order statistics.

    Attributes
    ----------
    scores : ndarray of shape (M,)
        Ascending.
    ranks : ndarray of shape (M,)
        Rank of each among all n, from 1; ``1..n`` when nothing was left out.
    n : int
        How many rows were scored.
    """

    scores: Array
    ranks: Indices
    n: int


def reference(scores: Array, *, limit: int = STORED_SCORES) -> Reference:
    """Sort calibration scores, and thin them when there are more than ``limit``.

    Half of what is kept is the upper tail, where thresholds lie; the rest is spread evenly. What is left out
    can only raise a p-value, never lower it.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    limit : int

    Examples
    --------
    >>> reference(np.array([3.0, 1.0, 2.0])).scores
    array([1., 2., 3.])
    """
    n = len(scores)
    ranks = np.arange(1, n + 1)
    if n > limit:
        tail = limit // 2
        spread = np.linspace(1, n - tail, limit - tail).astype(np.intp)
        ranks = np.concatenate([spread, ranks[n - tail :]])
    return Reference(np.sort(scores)[ranks - 1], ranks, n)


def attainable(n: int, alpha: float) -> bool:
    """Whether n calibration rows can bound the false-alarm rate by ``alpha``: n >= ceil(1 / alpha) - 1.

    Examples
    --------
    >>> attainable(19, 0.05), attainable(18, 0.05)
    (True, False)
    """
    return _allowed_exceedances(n, alpha) >= 1


def threshold(calibration: Reference, *, alpha: float) -> float:
    r"""Value that a new score exceeds with probability at most ``alpha``.

    .. math:: s_{(k)}, \quad k = \lceil (n + 1)(1 - \alpha) \rceil

    Parameters
    ----------
    calibration : Reference
    alpha : float
        False-alarm rate, in (0, 1).

    Raises
    ------
    ValueError
        If n is too small for ``alpha``: no order statistic gives that guarantee.

    Examples
    --------
    >>> threshold(reference(np.arange(1.0, 20.0)), alpha=0.05)
    19.0

    References
    ----------
    Vovk et al. (2005), *Algorithmic Learning in a Random World*, Springer.
    """
    if not attainable(calibration.n, alpha):
        needed = math.ceil(1.0 / alpha - 1e-9) - 1
        raise ValueError(f"a false-alarm rate of {alpha:g} needs at least {needed} rows, there are {calibration.n}")
    rank = calibration.n + 1 - _allowed_exceedances(calibration.n, alpha)
    return float(calibration.scores[np.searchsorted(calibration.ranks, rank)])


def p_values(calibration: Reference, scores: Array) -> Array:
    r"""Share of calibration scores at least as large, counting the row itself; in (0, 1].

    .. math:: p = \frac{1 + \#\{i : s_i \ge s\}}{n + 1}

    A score exceeds its threshold at α exactly when its p-value is at most α.

    Parameters
    ----------
    calibration : Reference
    scores : ndarray of shape (N,)

    Examples
    --------
    >>> p_values(reference(np.array([1.0, 2.0, 3.0])), np.array([0.0, 2.0, 9.0]))
    array([1.  , 0.75, 0.25])

    References
    ----------
    Bates et al. (2023), *Testing for Outliers with Conformal p-values*, Annals of Statistics 51.
    """
    ranks = np.concatenate([[0], calibration.ranks])
    smaller = ranks[np.searchsorted(calibration.scores, scores, side="left")]
    return (calibration.n + 1 - smaller) / (calibration.n + 1)


def _allowed_exceedances(n: int, alpha: float) -> int:
    # 1e-9: (n + 1) * alpha is often a whole number that binary fractions miss by one bit.
    return math.floor((n + 1) * alpha + 1e-9)
