"""Logistic regression on one or two columns, shared by Platt and beta calibration.

Tested in `tests/core/calibration/test_platt.py`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.core.calibration.descent import line_search
from service.core.numerics import Array, Indices

MAX_ITERATIONS = 100
DECREASE_TOLERANCE = 1e-22
RIDGE = 1e-13  # of the largest curvature: lets columns that never change have a solution


def platt_targets(labels: Indices, weights: Array) -> Array:
    r"""Labels smoothed by a uniform prior: never zero, never one.

    .. math:: t_+ = \frac{n_+ + 1}{n_+ + 2}, \qquad t_- = \frac{1}{n_- + 2}

    Parameters
    ----------
    labels : ndarray of shape (N,)
        0 or 1.
    weights : ndarray of shape (N,)
        With mean one.

    Examples
    --------
    >>> platt_targets(np.array([0, 0, 1]), np.ones(3)).round(4)
    array([0.25  , 0.25  , 0.6667])

    References
    ----------
    Platt (2000), *Probabilistic Outputs for Support Vector Machines*, Advances in Large Margin Classifiers.
    """
    positive = float(weights @ labels)
    negative = float(weights.sum()) - positive
    return np.where(labels == 1, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))


def threshold_separates(x: Array, labels: Indices) -> bool:
    """Whether no row of class 0 lies above one of class 1, and not all rows lie at one point.

    Rows of both classes may share the threshold itself: a steeper slope then still does no row harm.

    Parameters
    ----------
    x : ndarray of shape (N,)
    labels : ndarray of shape (N,)
        0 or 1. Where one of them does not occur, nothing is discriminated.

    Examples
    --------
    >>> threshold_separates(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))
    True
    >>> threshold_separates(np.array([1.0, 2.0]), np.array([1, 1]))
    False
    """
    negative, positive = x[labels == 0], x[labels == 1]
    if not len(negative) or not len(positive):
        return False
    return float(negative.max()) <= float(positive.min()) and float(negative.min()) < float(positive.max())


def fit_logistic(features: Array, targets: Array, weights: Array) -> Array:
    """Slopes, then the intercept, of least log loss, without regularisation, by damped Newton steps.

    Parameters
    ----------
    features : ndarray of shape (N, P)
    targets : ndarray of shape (N,)
        Probabilities of the second class.
    weights : ndarray of shape (N,)
        With mean one.

    Returns
    -------
    ndarray of shape (P + 1,)

    Examples
    --------
    >>> x = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> fit_logistic(x, np.array([0.25, 0.25, 0.75, 0.75]), np.ones(4)).round(6)  # log 3 up from -log 3
    array([ 2.197225, -1.098612])
    """
    unit = np.abs(features).max(axis=0)
    unit[unit == 0.0] = 1.0
    design = np.column_stack([features / unit, np.ones(len(features))])
    loss = LogisticLoss(design, targets, weights / weights.sum())
    return minimise_logistic(loss, parameters=design.shape[1]) / np.append(unit, 1.0)


@dataclass(frozen=True, slots=True)
class LogisticLoss:
    """Mean log loss of a linear logit.

    Attributes
    ----------
    design : ndarray of shape (N, P)
        Features, the last one constant.
    targets : ndarray of shape (N,)
    weights : ndarray of shape (N,)
        Sum to one.
    """

    design: Array
    targets: Array
    weights: Array

    def evaluate(self, point: Array) -> tuple[float, Array]:
        """Loss and gradient."""
        logit = self.design @ point
        value = float(self.weights @ (np.logaddexp(0.0, logit) - self.targets * logit))
        return value, self.design.T @ (self.weights * (_sigmoid(logit) - self.targets))

    def probabilities(self, point: Array) -> Array:
        """Of the second class, shape (N,)."""
        return _sigmoid(self.design @ point)

    def hessian(self, point: Array) -> Array:
        """Second derivatives, a breath of ridge added."""
        p = _sigmoid(self.design @ point)
        curvature = (self.design.T * (self.weights * p * (1.0 - p))) @ self.design
        return curvature + RIDGE * max(float(np.trace(curvature)), RIDGE) * np.eye(len(point))


class Curved(Protocol):
    """A smooth loss of a few parameters."""

    def evaluate(self, point: Array) -> tuple[float, Array]:
        """Loss and gradient."""

    def hessian(self, point: Array) -> Array:
        """Second derivatives, or a positive definite guess of them."""


def minimise_logistic(problem: Curved, *, parameters: int) -> Array:
    """Point of least loss, by damped Newton steps from zero.

    Parameters
    ----------
    problem : Curved
    parameters : int
        How many there are.
    """
    point = np.zeros(parameters)
    value, gradient = problem.evaluate(point)
    for _ in range(MAX_ITERATIONS):
        direction = -np.linalg.solve(problem.hessian(point), gradient).astype(np.float64)
        decrease = -float(gradient @ direction)
        step, value, gradient = line_search(problem.evaluate, point, value, direction, decrease)
        point = point + step * direction
        if decrease <= DECREASE_TOLERANCE or step == 0.0:
            break
    return point


def _sigmoid(logit: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * logit))
