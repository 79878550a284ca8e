"""What to do: the action of least expected cost, and when a person decides instead."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Flags, Indices, read_only

TIE_TOLERANCE = 1e-6
FEW_ACTIONS: Final = 16  # of one row: Python's floats beat NumPy's calls up to here

DENSE_CLASSES: Final = 100
"""Up to so many classes a product is as quick as anything that would look for structure in the costs."""

REASONS: Final = ("lowest_risk", "tie", "ood", "ood_unavailable", "path")
LOWEST_RISK, TIE, OOD, OOD_UNAVAILABLE, PATH = range(5)

Reasons = npt.NDArray[np.int8]
Narrow = npt.NDArray[np.float32]


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
        Least risk of the other actions minus that of the action taken: negative where a flag overruled a cheaper one.
        Of a tie, the runner-up's risk minus the best's.
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
    weights : ndarray of shape (A + 1, K) or (N, A + 1, K)
        The costs and below them their floor, so that one product gives all risks and the floor's.
    narrow : ndarray of shape (A + 1, K) or None
        Of many classes, in float32: what the costs exceed the floor by, and the floor.
    """

    cost: Array
    scale: Array
    floor: Array
    apart: OneApart | None
    weights: Array
    narrow: Narrow | None


def priced(cost: Array) -> Prices:
    """What every decision under these costs has in common.

    Parameters
    ----------
    cost : ndarray of shape (A, K) or (N, A, K)
    """
    weights = np.concatenate([cost, cost.min(axis=-2, keepdims=True)], axis=-2)
    priced_by, floor = weights[..., :-1, :], weights[..., -1, :]
    if cost.ndim == 3 or cost.shape[1] <= DENSE_CLASSES:
        return Prices(priced_by, cost_scale(cost), floor, None, weights, None)
    # Beside a cost that all actions share, float32 would lose the differences that the tie rule is about.
    narrow = np.vstack([cost - floor, floor]).astype(np.float32)
    return Prices(priced_by, cost_scale(cost), floor, one_apart(cost), weights, narrow)


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
    by_action = risks.T
    others = np.concatenate([by_action[:defer], by_action[defer + 1 :]])
    return np.minimum.reduce(others, axis=0) - by_action[defer]


def margin_of(risks: Array, action: Indices) -> Array:
    r"""Least risk of the other actions minus that of the action taken: :math:`\min_{b \ne a} R_b - R_a`.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    action : ndarray of shape (N,)

    Returns
    -------
    ndarray of shape (N,)
        Negative where another action was cheaper.

    Examples
    --------
    >>> margin_of(np.array([[0.5, 0.95, 0.3], [0.5, 0.95, 0.3]]), np.array([2, 0]))
    array([ 0.2, -0.2])
    """
    rows = np.arange(len(action))
    others = risks.copy()
    others[rows, action] = np.inf
    return others.min(axis=1) - risks[rows, action]


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
    risks, floor = _risks(p, log_probs, prices)
    if len(p) == 1 and risks.shape[1] <= FEW_ACTIONS:
        return _decide_one(risks, floor, prices, on_ood, flagged)
    least_cost, margin, reason, known = _least(risks, floor, prices.scale)
    if on_ood is None:
        return Decisions(least_cost, risks, margin, reason, least_cost, known, None)
    deferral = deferral_value(risks, defer=on_ood)
    if flagged is None:
        action, reason = np.full_like(least_cost, on_ood), np.full_like(reason, OOD_UNAVAILABLE)
        return Decisions(action, risks, deferral, reason, least_cost, known, deferral)
    action, reason = np.where(flagged, on_ood, least_cost), np.where(flagged, np.int8(OOD), reason)
    margin = np.where(flagged, deferral, margin)  # of the action taken: what a hand-over saves, or costs
    return Decisions(action, risks, margin, reason, least_cost, known, deferral)


def _risks(p: Array, log_probs: Array, prices: Prices) -> tuple[Array, Array]:
    # Expected cost of every action (N, A), and of whoever knew the class (N,).
    if prices.apart is not None:
        return apart_cost(log_probs.astype(np.float64, copy=False), prices.apart), (p * prices.floor).sum(axis=1)
    if prices.cost.ndim == 3:
        both = _weighed(p, prices.weights)
        return both[:, :-1], both[:, -1]
    if prices.narrow is None or p.dtype != prices.narrow.dtype:
        parts = prices.weights.dot(p.T)
        return parts[:-1].T, parts[-1]
    parts = prices.narrow.dot(p.T)
    floor = parts[-1].astype(np.float64)
    return (parts[:-1] + floor).T, floor


def _least(risks: Array, floor: Array, scale: Array) -> tuple[Indices, Array, Reasons, Array]:
    # Actions first: NumPy then reduces all rows at once, not each short row by a call of its own.
    by_action, n = risks.T, len(risks)
    best = np.minimum.reduce(by_action, axis=0)
    gaps = by_action - best
    near = gaps <= TIE_TOLERANCE * scale
    np.copyto(gaps, np.inf, where=near)
    margin, reason = np.minimum.reduce(gaps, axis=0), np.full(n, LOWEST_RISK, dtype=np.int8)
    if np.count_nonzero(near) > n:
        tied = np.flatnonzero(np.add.reduce(near, axis=0) > 1)
        reason[tied] = TIE
        margin[tied] = np.partition(by_action[:, tied], 1, axis=0)[1] - best[tied]
    return np.ascontiguousarray(near.T).argmax(axis=1), margin, reason, np.maximum(best - floor, 0.0)


def _decide_one(risks: Array, floor: Array, prices: Prices, on_ood: int | None, flagged: Flags | None) -> Decisions:
    # One row of few actions, in Python's floats: what NumPy's calls cost would be most of the decision.
    values: list[float] = risks[0].tolist()
    least, runner_up = sorted(values)[:2]
    best, reason = values.index(least), LOWEST_RISK
    if runner_up - least <= (band := TIE_TOLERANCE * prices.scale.item()):
        best, reason = next(a for a, risk in enumerate(values) if risk - least <= band), TIE
    saved = max(least - floor.item(), 0.0)
    least_cost, margin = _ACTIONS[best : best + 1], runner_up - least
    if on_ood is None:
        found = np.array([margin, saved])
        return Decisions(least_cost, risks, found[:1], _REASONS[reason : reason + 1], least_cost, found[1:], None)
    taken = least_cost
    if flagged is None or flagged[0]:
        taken, reason = _ACTIONS[on_ood : on_ood + 1], OOD_UNAVAILABLE if flagged is None else OOD
    at = values[on_ood]
    deferral = (runner_up if at == least else least) - at
    found = np.array([deferral if reason >= OOD else margin, saved, deferral])
    return Decisions(taken, risks, found[:1], _REASONS[reason : reason + 1], least_cost, found[1:2], found[2:])


def _weighed(p: Array, cost: Array) -> Array:
    return p @ cost.T if cost.ndim == 2 else np.matmul(cost, p[:, :, None])[:, :, 0]


# What a decision about one row says in whole numbers is a slice of these: a slice is quicker than an array.
_ACTIONS: Final = read_only(np.arange(FEW_ACTIONS))
_REASONS: Final = read_only(np.arange(len(REASONS), dtype=np.int8))
