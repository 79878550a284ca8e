"""Costs prepared for decisions: what actions differ by, computed once for all rows."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Flags, Indices

DENSE_CLASSES: Final = 100
"""Up to so many classes a product is as quick as anything that would look for structure in the costs."""

LEAST_RANGE: Final = 1e-3
"""Of the largest cost: with less to choose between in some class, regrets decide, and those need the product."""


@dataclass(frozen=True, slots=True)
class OneApart:
    """Costs of actions that each cost the same in every class but one, as 0/1 costs and rejection at a price do.

    Attributes
    ----------
    place : ndarray of shape (A,)
        The class that is different.
    there, usual : ndarray of shape (A,)
        The cost in that class, and the usual one in all others.
    """

    place: Indices
    there: Array
    usual: Array


@dataclass(frozen=True, slots=True)
class Prices:
    """Costs, and what every decision needs of them, computed once.

    Attributes
    ----------
    cost : ndarray of shape (A, K), or (N, A, K) where they vary by row
    scale : ndarray of shape (K,) or (N, K)
        `class_ranges`.
    floor : ndarray of shape (K,) or (N, K)
        What the cheapest action costs in every class.
    base : ndarray of shape (A, 1) or (N, A, 1)
        The cost of every action that is nearest to 0; its risk is that, and what the other classes differ by.
    apart : OneApart or None
        The costs as they need no product; None where they have no such structure or it would not pay.
    weights : ndarray of shape (2 A + 1, K) or (N, 2 A + 1, K)
        What the costs exceed their floor by, what they exceed their base by, and the scale: one product gives regrets,
        risks and the unit of the tie rule. Of many classes (A + 2, K): in place of the second part the floor alone.
    narrow : ndarray of shape (A + 2, K) or None
        The weights of many classes in float32.
    constant : ndarray of shape (A,) or None
        Of many classes: which actions cost the same in all of them.
    """

    cost: Array
    scale: Array
    floor: Array
    base: Array
    apart: OneApart | None
    weights: Array
    narrow: npt.NDArray[np.float32] | None = None
    constant: Flags | None = None


def priced(cost: Array, *, ties: float = 1.0) -> Prices:
    """What every decision under these costs has in common.

    Parameters
    ----------
    cost : ndarray of shape (A, K) or (N, A, K)
    ties : float
        What `Prices.scale` is multiplied by, and with it the band within which actions are tied.
    """
    base, floor, scale = base_of(cost), cost.min(axis=-2, keepdims=True), ties * class_ranges(cost)
    ends = floor[..., 0, :], base
    if cost.ndim == 3 or cost.shape[1] <= DENSE_CLASSES:
        weights = np.concatenate([cost - floor, cost - base, scale[..., None, :]], axis=-2)
        return Prices(cost, scale, *ends, None, weights)
    # Beside a cost that all actions share, float32 would lose the differences that the tie rule is about.
    weights = np.vstack([cost - floor, floor, scale])
    constant = ~(cost != base).any(axis=1)
    # Risks alone decide where what the actions differ by is more than their last digits.
    apart = one_apart(cost) if scale.min() >= ties * LEAST_RANGE * np.abs(cost).max() else None
    return Prices(cost, scale, *ends, apart, weights, weights.astype(np.float32), constant)


def class_ranges(cost: Array) -> Array:
    """How much the choice of action can matter in every class: the dearest less the cheapest.

    Parameters
    ----------
    cost : ndarray of shape (A, K) or (N, A, K)

    Returns
    -------
    ndarray of shape (K,) or (N, K)

    Examples
    --------
    >>> class_ranges(np.array([[0.0, 50.0], [1.0, 1.0]]))
    array([ 1., 49.])
    """
    return np.ptp(cost, axis=-2)


def base_of(cost: Array) -> Array:
    """The cost of every action that is nearest to 0, shape (A, 1) or (N, A, 1).

    Examples
    --------
    >>> base_of(np.array([[-1e9, 3.0], [1.0, 1.0]]))
    array([[3.],
           [1.]])
    """
    at = np.abs(cost).argmin(axis=-1, keepdims=True)
    return np.take_along_axis(cost, at, axis=-1)


def one_apart(cost: Array) -> OneApart | None:
    """The structure of costs in which every action has at most one class apart; None where one has more.

    Parameters
    ----------
    cost : ndarray of shape (A, K)
        At least three classes.

    Examples
    --------
    >>> one_apart(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.3, 0.3, 0.3]]))
    OneApart(place=array([0, 1, 2, 0]), there=array([0. , 0. , 0. , 0.3]), usual=array([1. , 1. , 1. , 0.3]))
    >>> one_apart(np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]])) is None
    True
    """
    usual = np.partition(cost, 1, axis=1)[:, 1]  # whether the one apart is the dearest or the cheapest
    apart = cost != usual[:, None]
    if np.any(apart.sum(axis=1) > 1):
        return None
    place = apart.argmax(axis=1)
    return OneApart(place, cost[np.arange(len(cost)), place], usual)
