"""Decision curves across thresholds, and costs across prevalences."""

from dataclasses import dataclass

import numpy as np

from service.core.numerics import Array, Indices


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit per row at every threshold; treating no one is worth 0.

    Attributes
    ----------
    thresholds, model, treat_all : ndarray of shape (T,)
    prevalence : float
        Largest net benefit possible; divided by it the curves are standardised.
    """

    thresholds: Array
    model: Array
    treat_all: Array
    prevalence: float


def net_benefit(
    probabilities: Array, outcomes: np.ndarray, thresholds: Array, *, weights: Array | None = None
) -> Array:
    r"""True positives per row, less false positives at the exchange rate that the threshold implies.

    .. math:: \frac{TP}{n} - \frac{FP}{n} \frac{t}{1 - t} = \pi - \frac{FN + FP \, t / (1 - t)}{n}

    The prevalence less the mean cost when a miss costs 1 and a false alarm :math:`t / (1 - t)`.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
        Of the event; positive where at least the threshold.
    outcomes : ndarray of shape (N,)
    thresholds : ndarray of shape (T,)
        Below 1.
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> net_benefit(np.array([0.9, 0.6, 0.2, 0.1]), np.array([1, 0, 1, 0]), np.array([0.5]))
    array([0.])

    References
    ----------
    Vickers & Elkin (2006), *Decision Curve Analysis*, Medical Decision Making 26.
    """
    w, outcomes = np.ones(len(probabilities)) if weights is None else weights, outcomes.astype(np.bool_)
    hits = _at_least(probabilities[outcomes], w[outcomes], thresholds)
    alarms = _at_least(probabilities[~outcomes], w[~outcomes], thresholds)
    return (hits - alarms * thresholds / (1.0 - thresholds)) / w.sum()


def decision_curve(
    probabilities: Array, outcomes: np.ndarray, thresholds: Array, *, weights: Array | None = None
) -> DecisionCurve:
    """Net benefit of the model and of treating everyone.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
    thresholds : ndarray of shape (T,)
        Below 1.
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> curve = decision_curve(np.array([0.9, 0.1]), np.array([1, 0]), np.array([0.2, 0.5]))
    >>> curve.model, curve.treat_all, curve.prevalence
    (array([0.5, 0.5]), array([0.375, 0.   ]), 0.5)
    """
    everyone = net_benefit(np.ones_like(probabilities), outcomes, thresholds, weights=weights)
    model = net_benefit(probabilities, outcomes, thresholds, weights=weights)
    return DecisionCurve(thresholds, model, everyone, float(np.average(outcomes, weights=weights)))


def prevalence_line(source: Array, k: int, values: Array) -> Array:
    """Prevalences in which class ``k`` takes every given value and the others keep their proportions.

    Parameters
    ----------
    source : ndarray of shape (K,)
    k : int
    values : ndarray of shape (P,)

    Returns
    -------
    ndarray of shape (P, K)

    Examples
    --------
    >>> prevalence_line(np.array([0.5, 0.25, 0.25]), 0, np.array([0.2]))
    array([[0.2, 0.4, 0.4]])
    """
    others = np.where(np.arange(len(source)) == k, 0.0, source)
    line = np.outer(1.0 - values, others / others.sum())
    line[:, k] = values
    return line


def cost_across_prevalence(
    actions: Indices, cost: Array, labels: Indices, prevalences: Array, *, weights: Array | None = None
) -> Array:
    r"""Expected cost of the actions taken, were the classes mixed in other proportions (a cost curve).

    .. math:: \sum_k \pi_k \, \frac{1}{n_k} \sum_{i : y_i = k} C_{a_i k}

    Valid when only the proportions differ; not a number where a class without rows has a share.

    Parameters
    ----------
    actions : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    prevalences : ndarray of shape (P, K)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> costs, mixes = np.array([[0.0, 10.0], [1.0, 1.0]]), np.array([[0.5, 0.5], [0.9, 0.1]])
    >>> cost_across_prevalence(np.array([0, 0, 1]), costs, np.array([0, 1, 1]), mixes)
    array([2.75, 0.55])

    References
    ----------
    Drummond & Holte (2006), *Cost Curves*, Machine Learning 65.
    """
    w = np.ones(len(labels)) if weights is None else weights
    mass = np.bincount(labels, w, minlength=cost.shape[1])
    realised = np.bincount(labels, w * cost[actions, labels], minlength=cost.shape[1])
    per_class = np.where(mass > 0.0, realised / np.where(mass > 0.0, mass, 1.0), np.nan)
    return np.where(prevalences > 0.0, prevalences * per_class, 0.0).sum(axis=1)


def _at_least(values: Array, weights: Array, thresholds: Array) -> Array:
    order = np.argsort(values)
    below = np.concatenate([[0.0], weights[order].cumsum()])
    return below[-1] - below[np.searchsorted(values[order], thresholds, side="left")]
