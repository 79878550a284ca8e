"""What to do: the action of least expected cost, and when a person decides instead."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Flags, Indices

TIE_TOLERANCE = 1e-6
FEW_ACTIONS: Final = 16  # of one row: Python's floats beat NumPy's calls up to here

DENSE_CLASSES: Final = 100
"""Up to so many classes a product is as quick as anything that would look for structure in the costs."""

REASONS: Final = ("lowest_risk", "tie", "ood", "ood_unavailable", "path")
LOWEST_RISK, TIE, OOD, OOD_UNAVAILABLE, PATH = range(5)

Reasons = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Decisions:
    r"""One decision per row.

    Attributes
    ----------
    action : ndarray of shape (N,)
        Index of the action taken.
    risks : ndarray of shape (N, A)
        Expected cost of every action.
    margin : ndarray of shape (N,)
        Runner-up's risk minus the best's, whatever was taken.
    reason : ndarray of shape (N,)
        Index into `REASONS`.
    least_cost : ndarray of shape (N,)
        Index of the action that costs alone would take; differs from ``action`` where a flag overruled it.
    information : ndarray of shape (N,)
        What knowing the true class before acting would save (EVPI; Howard, 1966), exact to what rounding leaves:
        :math:`\min_a R(a \mid x) - \sum_k p(k \mid x) \min_a C_{ak}`.
    deferral : ndarray of shape (N,) or None
        `deferral_value` of the action that takes flagged rows over; None where there is none.
    """

    action: Indices
    risks: Array
    margin: Array
    reason: Reasons
    least_cost: Indices
    information: Array
    deferral: Array | None


@dataclass(frozen=True, slots=True)
class OneApart:
    """Costs of actions that each cost the same in every class but one, as 0/1 costs and rejection at a price do.

    Attributes
    ----------
    place : ndarray of shape (A,)
        The class that is different.
    there, elsewhere : ndarray of shape (A,)
        The cost in that class and in all others.
    """

    place: Indices
    there: Array
    elsewhere: Array


@dataclass(frozen=True, slots=True)
class Prices:
    """Costs, and what every decision asks of them, worked out once.

    Attributes
    ----------
    cost : ndarray of shape (A, K), or (N, A, K) where they vary by row
    scale : ndarray of shape () or (N,)
        `cost_scale`.
    floor : ndarray of shape (K,) or (N, K)
        What the cheapest action costs in every class.
    apart : OneApart or None
        The costs as they need no product; None where they have no such structure or it would not pay.
    """

    cost: Array
    scale: Array
    floor: Array
    apart: OneApart | None


def priced(cost: Array) -> Prices:
    """What every decision under these costs has in common.

    Parameters
    ----------
    cost : ndarray of shape (A, K) or (N, A, K)
    """
    many = cost.ndim == 2 and cost.shape[1] > DENSE_CLASSES
    return Prices(cost, cost_scale(cost), cost.min(axis=-2), one_apart(cost) if many else None)


def one_apart(cost: Array) -> OneApart | None:
    """The structure of costs in which every action has at most one class apart; None where one has more.

    Parameters
    ----------
    cost : ndarray of shape (A, K)
        At least three classes.

    Examples
    --------
    >>> one_apart(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.3, 0.3, 0.3]]))
    OneApart(place=array([0, 1, 2, 0]), there=array([0. , 0. , 0. , 0.3]), elsewhere=array([1. , 1. , 1. , 0.3]))
    >>> one_apart(np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]])) is None
    True
    """
    usual = np.partition(cost, 1, axis=1)[:, 1]  # whether the one apart is the dearest or the cheapest
    apart = cost != usual[:, None]
    if np.any(apart.sum(axis=1) > 1):
        return None
    place = apart.argmax(axis=1)
    return OneApart(place, cost[np.arange(len(cost)), place], usual)


def expected_cost(log_probs: Array, cost: Array) -> Array:
    r"""Conditional risk of every action.

    .. math:: R(a \mid x) = \sum_k C_{ak} \, p(k \mid x)

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    cost : ndarray of shape (A, K), or (N, A, K) where it varies by row
        ``cost[action, class]``: rows are what we do, columns what is true.

    Examples
    --------
    >>> expected_cost(np.log([[0.85, 0.15]]), np.array([[0.0, 10.0], [1.0, 0.0]]))
    array([[1.5 , 0.85]])

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI.
    """
    return _weighed(np.exp(log_probs), cost)


def apart_cost(log_probs: Array, apart: OneApart) -> Array:
    r"""Conditional risk of every action without the product: O(A) per row in place of O(AK).

    .. math:: R(a \mid x) = d_a \, p(k_a \mid x) + c_a \, (1 - p(k_a \mid x))

    The complement comes from ``expm1``, so that the risk of a sure answer keeps its digits. With 1000 classes under 0/1
    costs a row takes 25 µs where the product takes 140, and 1000 rows take 22 ms instead of 60 (one thread).

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    apart : OneApart

    Examples
    --------
    >>> apart_cost(np.log([[0.5, 0.25, 0.25]]), one_apart(1.0 - np.eye(3)))
    array([[0.5 , 0.75, 0.75]])
    """
    log_p = log_probs[:, apart.place]
    return apart.there * np.exp(log_p) - apart.elsewhere * np.expm1(log_p)


def cost_scale(cost: Array) -> Array:
    """Largest difference that the choice of action can make in one class; the unit of the tie rule.

    Parameters
    ----------
    cost : ndarray of shape (A, K) or (N, A, K)

    Returns
    -------
    ndarray of shape () or (N,)

    Examples
    --------
    >>> float(cost_scale(np.array([[0.0, 50.0], [1.0, 1.0]])))
    49.0
    """
    return np.ptp(cost, axis=-2).max(axis=-1)


def best_action(risks: Array, *, scale: float | Array) -> tuple[Indices, Flags]:
    """Action of least risk; within `TIE_TOLERANCE` times ``scale`` of it the lowest index wins.

    The band is wider than what another batch, another machine or float32 logits change in a risk, so that a row
    gets the same action wherever it is answered.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    scale : float, or ndarray of shape (N,)
        `cost_scale` of the costs.

    Returns
    -------
    action : ndarray of shape (N,)
    tie : ndarray of shape (N,)
        Whether the rule had to choose.

    Examples
    --------
    >>> best_action(np.array([[1.0, 0.9999999], [2.0, 1.0]]), scale=1.0)
    (array([0, 1]), array([ True, False]))
    """
    band = TIE_TOLERANCE * np.asarray(scale)[..., None]
    candidates = risks - risks.min(axis=1, keepdims=True) <= band
    return candidates.argmax(axis=1), candidates.sum(axis=1) > 1


def deferral_value(risks: Array, *, defer: int) -> Array:
    r"""What handing a row over saves against the best other action: :math:`\min_{a \ne d} R_a - R_d`.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    defer : int
        Index of the action that hands over.

    Returns
    -------
    ndarray of shape (N,)
        Negative where deciding is cheaper.

    Examples
    --------
    >>> deferral_value(np.array([[0.5, 0.95, 0.3]]), defer=2)
    array([0.2])

    References
    ----------
    Chow (1970), *On Optimum Recognition Error and Reject Tradeoff*, IEEE Transactions on Information Theory 16.
    """
    others = [action for action in range(risks.shape[1]) if action != defer]
    return np.minimum.reduce(risks[:, others], axis=1) - risks[:, defer]


def decide(
    log_probs: Array,
    cost: Array | Prices,
    *,
    on_ood: int | None = None,
    flagged: Flags | None = None,
    probabilities: Array | None = None,
) -> Decisions:
    """Least-cost action of every row, unless an OOD flag hands the row to another action.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    cost : ndarray of shape (A, K) or (N, A, K), or Prices
        At least two actions. Whoever decides more than once under the same costs has them `priced` before.
    on_ood : int, optional
        Action that flagged rows get. Without it a flag changes no decision.
    flagged : ndarray of shape (N,), optional
        None means that nobody can tell: with ``on_ood`` every row is then handed over.
    probabilities : ndarray of shape (N, K), optional
        Exponentials of ``log_probs``, where somebody has them already.

    Examples
    --------
    >>> costs = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])  # dismiss, biopsy, defer
    >>> taken = decide(np.log([[0.99, 0.01], [0.9, 0.1]]), costs, on_ood=2, flagged=np.array([True, False]))
    >>> taken.action, [REASONS[r] for r in taken.reason], taken.least_cost
    (array([2, 1]), ['ood', 'lowest_risk'], array([0, 1]))
    """
    prices = cost if isinstance(cost, Prices) else priced(cost)
    p = np.exp(log_probs) if probabilities is None else probabilities
    least = _least_of_one if len(p) == 1 and prices.cost.shape[-2] <= FEW_ACTIONS else _least
    risks, floor = _risks(p, log_probs, prices)
    least_cost, margin, reason, known = least(risks, floor, prices.scale)
    if on_ood is None:
        return Decisions(least_cost, risks, margin, reason, least_cost, known, None)
    if flagged is None:
        action, reason = np.full_like(least_cost, on_ood), np.full_like(reason, OOD_UNAVAILABLE)
    else:
        action, reason = np.where(flagged, on_ood, least_cost), np.where(flagged, np.int8(OOD), reason)
    return Decisions(action, risks, margin, reason, least_cost, known, deferral_value(risks, defer=on_ood))


def _risks(p: Array, log_probs: Array, prices: Prices) -> tuple[Array, Array]:
    # Expected cost of every action (N, A), and of whoever knew the class (N,).
    if prices.apart is not None:
        return apart_cost(log_probs.astype(np.float64, copy=False), prices.apart), (p * prices.floor).sum(axis=1)
    if prices.cost.ndim == 3:
        return _weighed(p, prices.cost), (p * prices.floor).sum(axis=1)
    if p.dtype == prices.cost.dtype:
        return (prices.cost @ p.T).T, p @ prices.floor
    # Beside a cost that all actions share, float32 would lose the differences that the tie rule is about.
    parts = np.vstack([prices.cost - prices.floor, prices.floor]).astype(p.dtype) @ p.T
    floor = parts[-1].astype(np.float64)
    return (parts[:-1] + floor).T, floor


def _least(risks: Array, floor: Array, scale: Array) -> tuple[Indices, Array, Reasons, Array]:
    # Actions first: NumPy then reduces all rows at once, not each short row by a call of its own.
    by_action, n = risks.T, len(risks)
    best = np.minimum.reduce(by_action, axis=0)
    gaps = by_action - best
    near, at_best = gaps <= TIE_TOLERANCE * scale, gaps == 0.0
    reason = np.full(n, LOWEST_RISK, dtype=np.int8)
    if np.count_nonzero(near) > n:
        reason[np.add.reduce(near, axis=0) > 1] = TIE
    several = np.add.reduce(at_best, axis=0) > 1 if np.count_nonzero(at_best) > n else None
    np.copyto(gaps, np.inf, where=at_best)
    margin = np.minimum.reduce(gaps, axis=0)
    margin = margin if several is None else np.where(several, 0.0, margin)
    return np.ascontiguousarray(near.T).argmax(axis=1), margin, reason, np.maximum(best - floor, 0.0)


def _least_of_one(risks: Array, floor: Array, scale: Array) -> tuple[Indices, Array, Reasons, Array]:
    values = risks[0].tolist()
    least, runner_up = sorted(values)[:2]
    band = TIE_TOLERANCE * float(scale.flat[0] if isinstance(scale, np.ndarray) else scale)
    near = [action for action, risk in enumerate(values) if risk - least <= band]
    reason = np.array([TIE if len(near) > 1 else LOWEST_RISK], dtype=np.int8)
    return np.array(near[:1]), np.array([runner_up - least]), reason, np.array([max(least - float(floor[0]), 0.0)])


def _weighed(p: Array, cost: Array) -> Array:
    return p @ cost.T if cost.ndim == 2 else np.matmul(cost, p[:, :, None])[:, :, 0]
