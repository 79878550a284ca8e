"""How far chance alone carries a mean of draws whose distributions are known, also where dear outcomes are rare."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.intervals import Z, evidence_limit
from service.core.numerics import Array, Indices

CLOSE: Final = 1e-3  # of the limit: where the search ends, on the far side
END: Final = 1e-9
ROUNDING: Final = 1e-13
STEPS: Final = 60
NEVER: Final = 1e-3  # probability over all rows of outcomes that are left out


def chance_bound(
    values: Array,
    probability: Array,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    z: float = Z,
) -> float:
    r"""How far a weighted mean of independent draws lies from its expectation, either way, in 19 of 20 samples.

    .. math:: \max_{\pm} \Bigl\{ t : \sup_s \bigl(s t - \textstyle\sum_i K_i(\pm s)\bigr) \le c \Bigr\}, \quad
        K_i(s) = \log \sum_k p_{ik} e^{s (v_{ik} - \bar v_i)}

    With c the negative log of one tail's probability this is Chernoff's bound, which holds for any distribution; it is
    used where less than one draw decides the variance. Where many do, c is half the squared normal quantile
    (`evidence_limit`).
    Draws of a group have one fate at worst: :math:`\sum_{i \in g} \frac{w_i}{W_g} K_i(s W_g)` bounds any dependence
    between them (Hölder's inequality).

    Parameters
    ----------
    values, probability : ndarray of shape (N, K)
        What every row may come to, and how probable that is; rows of ``probability`` sum to 1.
    weights : ndarray of shape (N,), optional
        Positive.
    groups : ndarray of shape (N,), optional
        0..G-1.
    z : float
        Normal quantile of one tail, where other than 19 of 20 samples are meant.

    Examples
    --------
    >>> costs = np.tile([0.0, 50.0], (100, 1))
    >>> rare, even = np.tile([0.999, 0.001], (100, 1)), np.tile([0.5, 0.5], (100, 1))
    >>> round(chance_bound(costs, rare), 2), round(1.96 * 50 * math.sqrt(0.001 / 100), 2)
    (0.84, 0.31)
    >>> round(chance_bound(costs, even), 2), round(1.96 * 25 / 10, 2)
    (5.02, 4.9)

    References
    ----------
    Boucheron, Lugosi & Massart (2013), *Concentration Inequalities*, 2.2.
    """
    draws = _draws(values, probability, weights, groups)
    spread = draws.moment(2)
    if spread == 0.0:
        return 0.0
    limit = evidence_limit(spread**2 / draws.moment(4), z=z)
    return max(draws.upper(limit), draws.mirrored().upper(limit))


@dataclass(frozen=True, slots=True)
class _Draws:
    """Outcomes as distances from their row's expectation, shape (N, K); a row's group's weight and its part of it."""

    distance: Array
    probability: Array
    scale: Array
    share: Array

    def moment(self, power: int) -> float:
        mean = np.einsum("nk,nk->n", self.probability, self.distance**power)
        return float(np.sum(self.share * self.scale**power * mean))

    def mirrored(self) -> "_Draws":
        return _Draws(-self.distance, self.probability, self.scale, self.share)

    def upper(self, limit: float) -> float:
        """The sum at which the large-deviation rate reaches the limit, or the largest that is possible."""
        possible = np.where(self.probability > 0.0, self.distance, -np.inf).max(axis=1)
        farthest = float(np.sum(self.share * self.scale * possible))
        low, high, below = 0.0, math.sqrt(2.0 * limit / self.moment(2)), 0.0
        while (found := self._rate(high))[0] < limit:
            if farthest - found[1] <= END * abs(farthest):
                return farthest
            low, high, below = high, 2.0 * high, found[0]
        for step in range(STEPS):
            if found[0] <= limit * (1.0 + CLOSE):
                break
            middle = _between((low, below), (high, found[0]), limit * (1.0 + 0.5 * CLOSE), halve=step % 4 == 3)
            there = self._rate(middle)
            if there[0] < limit:
                low, below = middle, there[0]
            else:
                high, found = middle, there
        return found[1]

    def _rate(self, tilt: float) -> tuple[float, float]:
        """Rate of the sum that a tilt makes the expected one, and that sum."""
        exponent = tilt * self.scale[:, None] * self.distance
        top = np.where(self.probability > 0.0, exponent, -np.inf).max(axis=1, keepdims=True)
        tilted = self.probability * np.exp(np.minimum(exponent - top, 0.0))
        total = tilted.sum(axis=1)
        at = float(np.sum(self.share * self.scale * np.einsum("nk,nk->n", tilted, self.distance) / total))
        return tilt * at - float(np.sum(self.share * (np.log(total) + top[:, 0]))), at


def _between(low: tuple[float, float], high: tuple[float, float], rate: float, *, halve: bool) -> float:
    """Tilt of a rate between two: its root is nearly straight in the tilt."""
    (start, below), (stop, above) = low, high
    if halve:
        return 0.5 * (start + stop)
    root, other = math.sqrt(max(below, 0.0)), math.sqrt(above)
    return start + (stop - start) * (math.sqrt(rate) - root) / (other - root)


def _draws(values: Array, probability: Array, weights: Array | None, groups: Indices | None) -> _Draws:
    weight = np.full(len(values), 1.0 / len(values)) if weights is None else weights / weights.sum()
    scale: Array = weight if groups is None else np.bincount(groups, weight).astype(np.float64)[groups]
    expected = np.einsum("nk,nk->n", probability, values)
    distance = values - expected[:, None]
    distance[np.abs(distance) <= ROUNDING * np.abs(values).max()] = 0.0  # rounding of what is the same in every class
    return _Draws(distance, _without_the_rarest(distance, probability, scale), scale, weight / scale)


def _without_the_rarest(distance: Array, probability: Array, scale: Array) -> Array:
    """Probabilities without the dearest outcomes that all rows together have less than once in a thousand samples.

    An exponential moment would be theirs alone, however impossible they are.
    """
    rare = np.flatnonzero(probability <= NEVER)
    order = rare[np.argsort(-np.abs(scale[:, None] * distance).ravel()[rare])]
    left_out = order[np.cumsum(probability.ravel()[order]) <= NEVER]
    kept = probability.copy()
    kept.ravel()[left_out] = 0.0
    return kept
