"""Thresholds and p-values with a finite-sample guarantee, from scores of rows like those to come.

Both rest on exchangeability alone: whatever the score, a new row of the same population exceeds the threshold
with probability at most α, and its p-value is at most u with probability at most u. That holds on average over
calibration sets; with a ``confidence`` the threshold holds for this very set, except with probability 1 - confidence.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.core.numerics import Array, Indices
from service.core.score_ties import ROUNDING, Band, caps, check_caps
from service.core.state_checks import check_array, check_ascending

STORED_SCORES = 10_000

FEWEST_STORED = 100  # of every class, where many classes share the scores that are stored


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
    caps : ndarray of shape (M,)
        `ties.caps` of each among all n: what new scores are compared with.
    """

    scores: Array
    ranks: Indices
    n: int
    caps: Array

    def __post_init__(self) -> None:
        stored = len(check_ascending("scores", self.scores, None))
        check_caps(self.caps, self.scores)
        ranks = check_array("ranks", self.ranks, stored)
        if self.n < stored or (stored and not (ranks[0] >= 1 and ranks[-1] <= self.n and (np.diff(ranks) > 0).all())):
            raise ValueError("ranks must rise from 1 or more to n or less")

    def covering(self, threshold: float) -> float:
        """The edge of the tie that a calibration score belongs to; any other number stays what it is.

        Examples
        --------
        >>> reference(np.array([1.0, 2.0]), band=Band(0.0, 0.25)).covering(1.0)
        1.25
        """
        at = int(self.scores.searchsorted(threshold))
        return float(self.caps[at]) if threshold in self.scores[at : at + 1] else threshold


def reference(scores: Array, *, limit: int = STORED_SCORES, band: Band | Array = ROUNDING) -> Reference:
    """Sort calibration scores, and thin them when there are more than ``limit``.

    Half of what is kept is the upper tail, where thresholds lie; the rest is spread evenly. What is left out
    can only raise a p-value, never lower it.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    band : Band, or ndarray of shape (N,)
        How far two computations of one score may lie apart.

    Examples
    --------
    >>> found = reference(np.array([3.0, 1.0, 2.0]), band=Band(0.0, 0.1))
    >>> found.scores, found.caps
    (array([1., 2., 3.]), array([1.1, 2.1, 3.1]))
    """
    ranks, order = stored_ranks(len(scores), limit=limit), np.argsort(scores, kind="stable")
    ascending = scores[order].astype(np.float64, copy=False)
    edges = caps(ascending, band if isinstance(band, Band) else band[order])
    return Reference(ascending[ranks - 1], ranks, len(scores), edges[ranks - 1])


def stored_ranks(n: int, *, limit: int = STORED_SCORES) -> Indices:
    """Ranks, from 1, of the order statistics kept of n: all, or half of ``limit`` in the tail and half spread evenly.

    Parameters
    ----------
    n : int
        How many rows were scored.
    limit : int
        How many scores may be stored.

    Returns
    -------
    ndarray of shape (min(n, limit),)
        Ascending.

    Examples
    --------
    >>> stored_ranks(9, limit=4)
    array([1, 7, 8, 9])
    """
    ranks = np.arange(1, n + 1)
    if n <= limit:
        return ranks
    tail = limit // 2
    spread = np.linspace(1, n - tail, limit - tail).astype(np.intp)
    return np.concatenate([spread, ranks[n - tail :]])


def attainable(n: int, alpha: float) -> bool:
    """Whether n calibration rows can bound the false-alarm rate by ``alpha``: n >= ceil(1 / alpha) - 1.

    Parameters
    ----------
    n : int
    alpha : float
        In (0, 1).

    Examples
    --------
    >>> attainable(19, 0.05), attainable(18, 0.05)
    (True, False)
    """
    return _allowed_exceedances(n, alpha) >= 1


def threshold(calibration: Reference, *, alpha: float, confidence: float | None = None) -> float:
    r"""Value that a new score exceeds with probability at most ``alpha``.

    .. math:: \kappa_{(k)}, \quad k = \lceil (n + 1)(1 - \alpha) \rceil

    :math:`\kappa` is the upper edge of a calibration score's tie, `ties.caps`, so that rounding never decides a flag.
    That is an average over calibration sets: about half of them have a higher rate. With a ``confidence``, k is
    the smallest rank whose rate exceeds ``alpha`` with probability at most 1 - confidence, `confident_rank`.

    Parameters
    ----------
    calibration : Reference
    alpha : float
        False-alarm rate, in (0, 1).
    confidence : float, optional
        In (0, 1).

    Raises
    ------
    ValueError
        If n is too small for ``alpha``: no order statistic gives that guarantee.

    Examples
    --------
    >>> round(threshold(reference(np.arange(1.0, 20.0)), alpha=0.05), 6)
    19.0
    >>> round(threshold(reference(np.arange(1.0, 101.0)), alpha=0.05, confidence=0.95), 6)
    99.0

    References
    ----------
    Vovk et al. (2005), *Algorithmic Learning in a Random World*, Springer.
    """
    n = calibration.n
    rank = marginal_rank(n, alpha) if confidence is None else confident_rank(n, alpha, confidence=confidence)
    return float(calibration.caps[calibration.ranks.searchsorted(rank)])


def marginal_rank(n: int, alpha: float) -> int:
    """Rank, from 1, of the order statistic exceeded with probability at most ``alpha``: ceil((n + 1)(1 - alpha)).

    Parameters
    ----------
    n : int
    alpha : float
        In (0, 1).

    Raises
    ------
    ValueError
        If n is smaller than ceil(1 / alpha) - 1.

    Examples
    --------
    >>> marginal_rank(1000, 0.05)
    951
    """
    if not attainable(n, alpha):
        needed = math.ceil(1.0 / alpha - 1e-9) - 1
        raise ValueError(f"a false-alarm rate of {alpha:g} needs at least {needed} rows, there are {n}")
    return n + 1 - _allowed_exceedances(n, alpha)


def confident_rank(n: int, alpha: float, *, confidence: float) -> int:
    r"""Smallest rank whose order statistic keeps its false-alarm rate within ``alpha``, with that confidence.

    .. math:: \min k : P(\mathrm{Beta}(n + 1 - k, k) > \alpha) \le \delta, \quad \delta = 1 - \text{confidence}

    The rate of the k-th of n order statistics follows that Beta law, whatever the distribution of the scores
    (continuous; ties lower it).

    Parameters
    ----------
    n : int
    alpha, confidence : float
        In (0, 1).

    Raises
    ------
    ValueError
        If even the largest of n scores is not enough: n is smaller than log(delta) / log(1 - alpha).

    Examples
    --------
    >>> confident_rank(1000, 0.05, confidence=0.95), confident_rank(5000, 0.01, confidence=0.95)
    (962, 4962)

    References
    ----------
    Wilks (1941), *Determination of Sample Sizes for Setting Tolerance Limits*, Annals of Mathematical Statistics 12.
    Vovk (2012), *Conditional Validity of Inductive Conformal Predictors*, ACML.
    """
    delta = 1.0 - confidence
    exceedances = int(np.searchsorted(binomial_cdf(n, alpha), delta * (1.0 + 1e-12), side="right"))
    if exceedances == 0:
        needed = math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9)
        rate = f"a false-alarm rate of {alpha:g} with confidence {confidence:g}"
        raise ValueError(f"{rate} needs at least {needed} rows, there are {n}")
    return n + 1 - exceedances


def binomial_cdf(n: int, probability: float, *, most: int | None = None) -> Array:
    r"""Probabilities of at most j successes in n trials, j = 0..most, by default 0..n.

    .. math:: P(\mathrm{Bin}(n, \alpha) \le n - k) = P(\mathrm{Beta}(n + 1 - k, k) > \alpha)
        = 1 - I_\alpha(n + 1 - k, k)

    Parameters
    ----------
    n : int
    probability : float
        In (0, 1).
    most : int, optional
        At most n.

    Returns
    -------
    ndarray of shape (most + 1,)

    Examples
    --------
    >>> binomial_cdf(2, 0.5)
    array([0.25, 0.75, 1.  ])
    """
    j = np.arange(1, (n if most is None else most) + 1)
    # Ratios of neighbouring terms: their logarithms stay exact where the terms themselves would underflow.
    steps = np.log((n + 1 - j) / j) + math.log(probability) - math.log1p(-probability)
    log_terms = n * math.log1p(-probability) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.minimum(np.cumsum(np.exp(log_terms)), 1.0)


def p_values(calibration: Reference, scores: Array) -> Array:
    r"""Share of calibration scores at least as large, counting the row itself; in (0, 1].

    .. math:: p = \frac{1 + \#\{i : \kappa_i \ge s\}}{n + 1}

    :math:`\kappa_i` is the upper edge of a score's tie, `ties.caps`: what is equal to rounding counts as at least as
    large. A score exceeds its threshold at α exactly when its p-value is at most α.

    Parameters
    ----------
    calibration : Reference
    scores : ndarray of shape (N,)

    Returns
    -------
    ndarray of shape (N,)

    Examples
    --------
    >>> p_values(reference(np.array([1.0, 2.0, 3.0])), np.array([0.0, 2.0, 9.0]))
    array([1.  , 0.75, 0.25])

    References
    ----------
    Bates et al. (2023), *Testing for Outliers with Conformal p-values*, Annals of Statistics 51.
    """
    smaller = calibration.caps.searchsorted(scores)
    if len(calibration.ranks) < calibration.n:
        smaller = np.where(smaller > 0, calibration.ranks[smaller - 1], 0)
    return (calibration.n + 1 - smaller) / (calibration.n + 1)


def benjamini_hochberg(p: Array) -> Array:
    r"""Smallest rate of false discoveries at which each row of a batch is one, shape (N,).

    .. math:: q_{(i)} = \min_{j \ge i} \frac{N}{j} p_{(j)}

    Flagging every row with q <= r keeps the expected share of false flags among the batch's flags within r; p-values
    that share one calibration set are dependent, in the way that does no harm.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.5, 0.02, 0.04])).round(4)
    array([0.04  , 0.5   , 0.04  , 0.0533])

    References
    ----------
    Benjamini and Hochberg (1995), *Controlling the False Discovery Rate*, JRSS B 57.
    Bates et al. (2023), *Testing for Outliers with Conformal p-values*, Annals of Statistics 51.
    """
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(scaled)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _allowed_exceedances(n: int, alpha: float) -> int:
    # 1e-9: (n + 1) * alpha is often a whole number that binary fractions miss by one bit.
    return math.floor((n + 1) * alpha + 1e-9)
