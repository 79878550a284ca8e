"""Decisions: the action of least expected cost, and deferral to a person."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.core.costs import OneApart, Prices, base_of, class_ranges, priced
from service.core.numerics import Array, Flags, Indices

TIE_TOLERANCE = 1e-6

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
    return risk_of(np.exp(log_probs), cost)


def risk_of(probabilities: Array, cost: Array) -> Array:
    r"""`expected_cost` of probabilities.

    .. math:: R(a \mid x) = c_a + \sum_k p(k \mid x) (C_{ak} - c_a), \quad c_a = C_{a, \arg\min_k |C_{ak}|}

    Probabilities sum to one only to rounding. So written, a cost that is the same in every class is the risk, to the
    last digit, and no other risk has more rounding than the products' own.

    Parameters
    ----------
    probabilities : ndarray of shape (N, K)
    cost : ndarray of shape (A, K) or (N, A, K)

    Returns
    -------
    ndarray of shape (N, A)

    Examples
    --------
    >>> risk_of(np.array([[0.1, 0.2, 0.7]]), np.array([[0.0, 1.0, 2.0], [0.3, 0.3, 0.3]]))
    array([[1.6, 0.3]])
    """
    base = base_of(cost)
    return base[..., 0] + _product(probabilities, cost - base)


def apart_cost(log_probs: Array, apart: OneApart) -> Array:
    r"""Conditional risk of every action without the product: O(A) per row in place of O(AK).

    .. math:: R(a \mid x) = d_a \, p(k_a \mid x) + c_a \, (1 - p(k_a \mid x))

    Written as the cost nearer to 0 and what the other adds, like `risk_of`. The complement comes from ``expm1``, so
    that the risk of a sure answer keeps its digits. With 1000 classes under 0/1 costs a row takes 25 µs where the
    product takes 140, and 1000 rows take 22 ms instead of 60 (one thread).

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    apart : OneApart

    Examples
    --------
    >>> from service.core.costs import one_apart
    >>> apart_cost(np.log([[0.5, 0.25, 0.25]]), one_apart(1.0 - np.eye(3)))
    array([[0.5 , 0.75, 0.75]])
    """
    log_p, more = log_probs[:, apart.place], apart.there - apart.usual
    nearer = np.abs(apart.usual) < np.abs(apart.there)
    if not nearer.any():  # 0/1 costs: one exponential will do
        return apart.there + more * np.expm1(log_p)
    return np.where(nearer, apart.usual + more * np.exp(log_p), apart.there + more * np.expm1(log_p))


def best_action(risks: Array, *, scale: float | Array) -> tuple[Indices, Flags]:
    """Action of least risk; within `TIE_TOLERANCE` times ``scale`` of it the lowest index wins.

    The band is wider than what another batch, another machine or float32 logits change in a risk, so that a row
    gets the same action on every machine; and it follows what is at stake for the row: a cost of a class that
    is as good as impossible does not widen it.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    scale : float, or ndarray of shape (N,)
        What is at stake: the expectation of `class_ranges`, or that of the class that is known.

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


def drowned(cost: Array) -> list[tuple[int, int, int]]:
    """Classes in which two actions differ by so little that the tie rule takes them for equal, were the class sure.

    Of every such class one pair: the class, then both actions, the lower index first.

    Parameters
    ----------
    cost : ndarray of shape (A, K)

    Examples
    --------
    >>> drowned(np.array([[0.0, 1e9], [1.0, 1.0], [3.0, 3.0]]))
    [(1, 1, 2)]
    """
    order = np.argsort(cost, axis=0, kind="stable")
    gaps = np.diff(np.take_along_axis(cost, order, axis=0), axis=0)
    near = (gaps > 0.0) & (gaps <= TIE_TOLERANCE * class_ranges(cost))
    at = near.argmax(axis=0)
    pairs = ((int(k), sorted(order[at[k] : at[k] + 2, k].tolist())) for k in np.flatnonzero(near.any(axis=0)))
    return [(k, first, second) for k, (first, second) in pairs]


def deferral_value(risks: Array, *, defer: int) -> Array:
    r"""What deferring a row saves against the best other action: :math:`\min_{a \ne d} R_a - R_d`.

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
        At least two actions. Costs that decide more than once are `priced` before.
    on_ood : int, optional
        Action that flagged rows get. Without it a flag changes no decision.
    flagged : ndarray of shape (N,), optional
        None means unknown: with ``on_ood`` every row is then handed over.
    probabilities : ndarray of shape (N, K), optional
        Exponentials of ``log_probs``, where the caller has them already.

    Examples
    --------
    >>> costs = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])  # dismiss, biopsy, defer
    >>> taken = decide(np.log([[0.99, 0.01], [0.9, 0.1]]), costs, on_ood=2, flagged=np.array([True, False]))
    >>> taken.action, [REASONS[r] for r in taken.reason], taken.least_cost
    (array([2, 1]), ['ood', 'lowest_risk'], array([0, 1]))
    """
    prices = cost if isinstance(cost, Prices) else priced(cost)
    p = np.exp(log_probs) if probabilities is None else probabilities
    risks, regrets, stakes = weighed(p, log_probs, prices)
    least_cost, margin, reason, known = _least(risks, regrets, stakes)
    if on_ood is None:
        return Decisions(least_cost, risks, margin, reason, least_cost, known, None)
    deferral = deferral_value(risks, defer=on_ood)
    if flagged is None:
        action, reason = np.full_like(least_cost, on_ood), np.full_like(reason, OOD_UNAVAILABLE)
        return Decisions(action, risks, deferral, reason, least_cost, known, deferral)
    action, reason = np.where(flagged, on_ood, least_cost), np.where(flagged, np.int8(OOD), reason)
    margin = np.where(flagged, deferral, margin)  # of the action taken: what a hand-over saves, or costs
    return Decisions(action, risks, margin, reason, least_cost, known, deferral)


def regret(log_probs: Array, prices: Prices) -> tuple[Array, Array]:
    r"""What every action is expected to cost more than knowing the class, and what is at stake.

    .. math:: \sum_k p(k \mid x) (C_{ak} - \min_b C_{bk}), \quad \sum_k p(k \mid x) (\max_b C_{bk} - \min_b C_{bk})

    Two actions' regrets differ by what their risks differ by, without the digits that costs they share take away.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    prices : Prices

    Returns
    -------
    regrets : ndarray of shape (N, A)
    stakes : ndarray of shape (N,)
        The unit of the tie rule.
    """
    _, regrets, stakes = weighed(np.exp(log_probs), log_probs, prices)
    return regrets.T, stakes


def weighed(p: Array, log_probs: Array, prices: Prices) -> tuple[Array, Array, Array]:
    """Expected costs (N, A), and what decides: regrets as of `regret` (A, N), stakes (N,).

    Parameters
    ----------
    p, log_probs : ndarray of shape (N, K)
    prices : Prices
    """
    actions = prices.base.shape[-2]
    if prices.apart is not None:
        risks = apart_cost(log_probs.astype(np.float64, copy=False), prices.apart)
        floor, stakes = _many(p, prices)[actions:].dot(p.T).astype(np.float64, copy=False)
        return risks, risks.T - floor if floor.any() else risks.T, stakes
    if prices.cost.ndim == 3:
        both = _product(p, prices.weights)
        return prices.base[..., 0] + both[:, actions:-1], both[:, :actions].T, both[:, -1]
    if prices.narrow is None or prices.constant is None:
        parts = prices.weights.dot(p.T)
        return (prices.base + parts[actions:-1]).T, parts[:actions], parts[-1]
    parts = _many(p, prices).dot(p.T).astype(np.float64, copy=False)
    risks = parts[:actions] + parts[actions]
    risks[prices.constant] = prices.base[prices.constant]
    return risks.T, parts[:actions], parts[-1]


def _many(p: Array, prices: Prices) -> npt.NDArray[Any]:
    # The weights of many classes, as wide as the probabilities are.
    narrow = prices.narrow
    return prices.weights if narrow is None or p.dtype != narrow.dtype else narrow


def _least(risks: Array, regrets: Array, stakes: Array) -> tuple[Indices, Array, Reasons, Array]:
    # Actions first: NumPy then reduces all rows at once, not each short row by a call of its own.
    by_action, n = risks.T, len(risks)
    best = np.minimum.reduce(regrets, axis=0)
    gaps = regrets - best
    near = gaps <= TIE_TOLERANCE * stakes
    if regrets.base is not risks:  # where regrets are the risks themselves, their gaps are too
        gaps = by_action - np.minimum.reduce(by_action, axis=0)
    np.copyto(gaps, np.inf, where=near)
    margin, reason = np.minimum.reduce(gaps, axis=0), np.full(n, LOWEST_RISK, dtype=np.int8)
    if np.count_nonzero(near) > n:
        tied = np.flatnonzero(np.add.reduce(near, axis=0) > 1)
        reason[tied] = TIE
        two = np.partition(by_action[:, tied], 1, axis=0)[:2]
        margin[tied] = two[1] - two[0]
    return np.ascontiguousarray(near.T).argmax(axis=1), margin, reason, np.maximum(best, 0.0)


def _product(p: Array, cost: Array) -> Array:
    return p @ cost.T if cost.ndim == 2 else np.matmul(cost, p[:, :, None])[:, :, 0]
