"""The value of decisions: expected against realised cost, against other strategies, and the value of information."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.intervals import mean_interval
from service.core.numerics import Array, Indices


@dataclass(frozen=True, slots=True)
class CostCalibration:
    """Expected and realised cost, action by action; not a number for an action never taken.

    Attributes
    ----------
    count : ndarray of shape (A,)
        Rows on which the action was taken.
    expected, realised : ndarray of shape (A,)
        Mean risk that was predicted, and mean cost given the true classes.
    standard_error : ndarray of shape (A,)
        Of their difference; needs two rows.
    """

    count: Indices
    expected: Array
    realised: Array
    standard_error: Array


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of two strategies on the same rows, with its 95 % interval; a single unit bounds nothing."""

    mean: float
    low: float
    high: float


def cost_calibration(
    risks: Array, actions: Indices, cost: Array, labels: Indices, *, weights: Array | None = None
) -> CostCalibration:
    r"""Whether the realised cost of every action is the one that was expected when it was taken.

    .. math:: \frac{1}{n_a} \sum_{i : a_i = a} R_{ia} \quad\text{and}\quad \frac{1}{n_a} \sum_{i : a_i = a} C_{a y_i}

    Probabilities may be calibrated class by class and still fail here, where decisions are made.

    Parameters
    ----------
    risks : ndarray of shape (N, A)
    actions : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
        Positive.

    Examples
    --------
    >>> costs = np.array([[0.0, 10.0], [1.0, 1.0]])
    >>> found = cost_calibration(np.array([[0.5, 1.0], [0.5, 1.0]]), np.array([0, 0]), costs, np.array([0, 1]))
    >>> found.expected, found.realised
    (array([0.5, nan]), array([ 5., nan]))

    References
    ----------
    Zhao et al. (2021), *Calibrating Predictions to Decisions*, NeurIPS.
    """
    foreseen, incurred = risks[np.arange(len(actions)), actions], cost[actions, labels]
    count, w = np.bincount(actions, minlength=len(cost)), np.ones(len(actions)) if weights is None else weights
    weight, surprise = _sum_by(actions, w, len(cost)), incurred - foreseen
    deviation = w * (surprise - _mean_by(actions, w * surprise, weight)[actions])
    spread = _sum_by(actions, deviation**2, len(cost)) * count / np.maximum(count - 1, 1)
    error = np.where(count > 1, np.sqrt(spread) / np.where(count > 1, weight, 1.0), np.nan)
    expected, realised = (_mean_by(actions, w * values, weight) for values in (foreseen, incurred))
    return CostCalibration(count, expected, realised, error)


def paired_difference(
    costs: Array,
    others: Array,
    *,
    least: Array | None = None,
    most: Array | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Difference:
    """How much more one strategy costs than another on the same rows, with the 95 % interval of `mean_interval`.

    Realised against expected costs of one strategy are such a pair too.

    Parameters
    ----------
    costs, others : ndarray of shape (N,)
        Per row.
    least, most : ndarray of shape (N,), optional
        The smallest and the largest difference that any class of the row would have made, as `difference_bounds` finds
        them. Without them a dear case that did not occur does not widen the interval.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1: rows of a patient count as one draw.

    Examples
    --------
    >>> paired_difference(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]))
    Difference(mean=1.0, low=1.0, high=1.0)
    """
    difference = costs - others
    mean = float(np.average(difference, weights=weights))
    if len(difference) < 2 or (groups is not None and groups.min() == groups.max()):
        return Difference(mean, -math.inf, math.inf)  # one unit shows no spread: no interval at all
    return Difference(mean, *mean_interval(difference, least=least, most=most, weights=weights, groups=groups))


def difference_bounds(actions: Indices, others: Indices, cost: Array) -> tuple[Array, Array]:
    """The smallest and the largest difference in cost that any class of a row would have made, shape (N,) each.

    Parameters
    ----------
    actions, others : ndarray of shape (N,)
        What two strategies do.
    cost : ndarray of shape (A, K)

    Examples
    --------
    >>> difference_bounds(np.array([0, 1]), np.array([1, 1]), np.array([[0.0, 50.0], [1.0, 1.0]]))
    (array([-1.,  0.]), array([49.,  0.]))
    """
    pairs, of_row = np.unique(actions * len(cost) + others, return_inverse=True)
    table = cost[pairs // len(cost)] - cost[pairs % len(cost)]
    return table.min(axis=1)[of_row], table.max(axis=1)[of_row]


def oracle_regret(actions: Indices, cost: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Mean cost beyond that of someone who knows the true class.

    Parameters
    ----------
    actions : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> oracle_regret(np.array([0, 1]), np.array([[0.0, 50.0], [1.0, 3.0]]), np.array([1, 1]))
    23.5
    """
    return float(np.average(cost[actions, labels] - cost.min(axis=0)[labels], weights=weights))


def savings_score(actions: Indices, cost: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Share of the cheapest constant action's cost that was saved: :math:`1 - \bar c / \min_a \bar c_a`.

    Not a number unless that cost is positive: costs need a zero that means "nothing lost" for a share to make sense.

    Parameters
    ----------
    actions : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> savings_score(np.array([0, 1]), np.array([[0.0, 8.0], [2.0, 2.0]]), np.array([0, 1]))
    0.5

    References
    ----------
    Bahnsen, Aouada & Ottersten (2015), *Example-dependent Cost-sensitive Decision Trees*, Expert Systems 42.
    """
    constant = float(np.average(cost[:, labels], axis=1, weights=weights).min())
    realised = float(np.average(cost[actions, labels], weights=weights))
    return 1.0 - realised / constant if constant > 0.0 else math.nan


def dominated_actions(cost: Array) -> list[tuple[int, int]]:
    """Actions that cost at least as much as another in every class and more in some: never worth taking.

    Parameters
    ----------
    cost : ndarray of shape (A, K)

    Returns
    -------
    list of (dominated, by)

    Examples
    --------
    >>> dominated_actions(np.array([[0.0, 5.0], [1.0, 1.0], [1.0, 6.0]]))
    [(2, 0), (2, 1)]
    """
    # Row by row: all pairs at once would be A x A x K, gigabytes for a thousand actions.
    beaten = [np.all(row >= cost, axis=1) & np.any(row > cost, axis=1) for row in cost]
    return [(a, int(b)) for a, by in enumerate(beaten) for b in np.flatnonzero(by)]


def _mean_by(group: Indices, weighted: Array, weight: Array) -> Array:
    """Mean of every group's values, not a number where it has none."""
    total = _sum_by(group, weighted, len(weight))
    return np.where(weight > 0.0, total / np.where(weight > 0.0, weight, 1.0), np.nan)


def _sum_by(group: Indices, values: Array, groups: int) -> Array:
    return np.bincount(group, values, minlength=groups).astype(np.float64)
