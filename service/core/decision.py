"""What to do: the action of least expected cost, and when a person decides instead."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Flags, Indices

TIE_TOLERANCE = 1e-6

REASONS: Final = ("lowest_risk", "tie", "ood", "ood_unavailable")
LOWEST_RISK, TIE, OOD, OOD_UNAVAILABLE = range(4)


@dataclass(frozen=True, slots=True)
class Decisions:
    """One decision per row.

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
    """

    action: Indices
    risks: Array
    margin: Array
    reason: npt.NDArray[np.int8]
    least_cost: Indices


def expected_cost(log_probs: Array, cost: Array) -> Array:
    r"""Conditional risk of every action.

    .. math:: R(a \mid x) = \sum_k C_{ak} \, p(k \mid x)

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    cost : ndarray of shape (A, K)
        ``cost[action, class]``: rows are what we do, columns what is true.

    Examples
    --------
    >>> expected_cost(np.log([[0.85, 0.15]]), np.array([[0.0, 10.0], [1.0, 0.0]]))
    array([[1.5 , 0.85]])

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI.
    """
    return np.exp(log_probs) @ cost.T


def cost_scale(cost: Array) -> float:
    """Largest difference that the choice of action can make in one class; the unit of the tie rule.

    Parameters
    ----------
    cost : ndarray of shape (A, K)

    Examples
    --------
    >>> cost_scale(np.array([[0.0, 50.0], [1.0, 1.0]]))
    49.0
    """
    return float(np.ptp(cost, axis=0).max())


def best_action(risks: Array, *, scale: float) -> tuple[Indices, Flags]:
    """Action of least risk; within `TIE_TOLERANCE` times ``scale`` of it the lowest index wins.

    The band is wider than what another batch, another machine or float32 logits change in a risk, so that a row
    gets the same action wherever it is answered.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    scale : float
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
    candidates = risks - risks.min(axis=1, keepdims=True) <= TIE_TOLERANCE * scale
    return candidates.argmax(axis=1), candidates.sum(axis=1) > 1


def decide(log_probs: Array, cost: Array, *, on_ood: int | None = None, flagged: Flags | None = None) -> Decisions:
    """Least-cost action of every row, unless an OOD flag hands the row to another action.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    cost : ndarray of shape (A, K)
        At least two actions.
    on_ood : int, optional
        Action that flagged rows get. Without it a flag changes no decision.
    flagged : ndarray of shape (N,), optional
        None means that nobody can tell: with ``on_ood`` every row is then handed over.

    Examples
    --------
    >>> costs = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])  # dismiss, biopsy, defer
    >>> taken = decide(np.log([[0.99, 0.01], [0.9, 0.1]]), costs, on_ood=2, flagged=np.array([True, False]))
    >>> taken.action, [REASONS[r] for r in taken.reason], taken.least_cost
    (array([2, 1]), ['ood', 'lowest_risk'], array([0, 1]))
    """
    risks = expected_cost(log_probs, cost)
    least_cost, tie = best_action(risks, scale=cost_scale(cost))
    first_two = np.partition(risks, 1, axis=1)
    margin = first_two[:, 1] - first_two[:, 0]
    reason = np.where(tie, TIE, LOWEST_RISK).astype(np.int8)
    if on_ood is None:
        return Decisions(least_cost, risks, margin, reason, least_cost)
    handed_over = np.ones(len(risks), dtype=np.bool_) if flagged is None else flagged
    reason[handed_over] = OOD_UNAVAILABLE if flagged is None else OOD
    return Decisions(np.where(handed_over, on_ood, least_cost), risks, margin, reason, least_cost)
