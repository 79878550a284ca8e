"""What a model's error rate means when one decision leads to the next: the horizon calculator."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.assessment.selective import clopper_pearson_upper
from service.core.numerics import Array, Indices
from service.core.sampling import effective_rows
from service.core.trajectory import error_bound, horizon_risk, quadratic_bound

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Horizon:
    """The error rate of single steps, compounded over a trajectory.

    Attributes
    ----------
    steps : int
        Length of the trajectory, T.
    recovery : float
        Probability per step of returning to the expert's course after an error.
    error, error_high : float
        Share of these rows whose most probable class is not the true one, and its upper 95 % confidence limit.
    error_room : float
        Largest error rate that the mean log loss of these rows leaves room for.
    off_course, off_course_high : float
        Expected steps off course out of T at these two rates.
    bound : float
        Largest excess cost of imitation at ``error_high`` without recovery, for costs per step in [0, 1].
    """

    steps: int
    recovery: float
    error: float
    error_high: float
    error_room: float
    off_course: float
    off_course_high: float
    bound: float


def look_ahead(
    log_probs: Array,
    labels: Indices,
    *,
    steps: int,
    recovery: float,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Horizon:
    """Error rate of rows on the expert's own course, compounded over a horizon.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
        The expert's actions.
    steps : int
    recovery : float
    weights : ndarray of shape (N,), optional
        Positive.
    groups : ndarray of shape (N,), optional
        Rows of one trajectory, which are not independent.
    """
    error = float(np.average(log_probs.argmax(axis=1) != labels, weights=weights))
    independent = max(1, math.floor(effective_rows(len(labels), weights=weights, groups=groups) + 1e-9))
    high = clopper_pearson_upper(math.ceil(error * independent - 1e-9), independent, confidence=LEVEL)
    loss = np.average(-log_probs[np.arange(len(labels)), labels], weights=weights)
    return Horizon(
        steps,
        recovery,
        error,
        high,
        error_bound(float(loss)),
        horizon_risk(error, steps, recovery=recovery),
        horizon_risk(high, steps, recovery=recovery),
        quadratic_bound(high, steps),
    )
