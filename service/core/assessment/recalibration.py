"""Calibration-in-the-large, and Cox's calibration intercept and slope."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.assessment.chance import chance_bound
from service.core.intervals import Z
from service.core.numerics import Array, Indices

LOGIT_LIMIT = 40.0  # beyond it a float64 probability is 0 or 1
ROUNDING = 1e-12  # of a sum of losses: below it a last step would be halved for noise, a hundred times over


@dataclass(frozen=True, slots=True)
class Cox:
    r"""Recalibration line of one event: :math:`\mathrm{logit}\, P(y) = a + b\, \mathrm{logit}\, p`; right is (0, 1).

    Attributes
    ----------
    intercept, slope : float
        Below 0: predicted too often. Below 1: over-confident. The slope is infinite when a threshold on the
        probabilities separates the events without error, and not a number when it is undetermined.
    intercept_error, slope_error : float
        Standard errors.
    """

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float


@dataclass(frozen=True, slots=True)
class InTheLarge:
    """Mean prediction against frequency, class by class.

    Attributes
    ----------
    predicted, observed : ndarray of shape (K,)
    noise : ndarray of shape (K,)
        How far apart chance carries them, either way, if the probabilities are right: `chance_bound`.
    """

    predicted: Array
    observed: Array
    noise: Array


def calibration_in_the_large(
    log_probs: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    z: float = Z,
) -> InTheLarge:
    """Whether every class is predicted as often as it occurs.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional
    z : float
        Normal quantile of one tail of the noise.

    Examples
    --------
    >>> large = calibration_in_the_large(np.log(np.full((4, 2), 0.5)), np.array([0, 0, 0, 1]))
    >>> large.predicted, large.observed, large.noise.round(2)
    (array([0.5, 0.5]), array([0.75, 0.25]), array([0.48, 0.48]))
    """
    p, either = np.exp(log_probs), np.broadcast_to([0.0, 1.0], (len(labels), 2))
    count = np.bincount(labels, weights, minlength=p.shape[1])
    states = (np.stack([1.0 - own, own], axis=1) for own in np.minimum(p, 1.0).T)
    noise = [chance_bound(either, own, weights=weights, groups=groups, z=z) for own in states]
    return InTheLarge(np.average(p, axis=0, weights=weights), count / count.sum(), np.array(noise))


def class_log_odds(log_probs: Array, k: int) -> Array:
    r"""Log-odds of one class: :math:`\log p_k - \log(1 - p_k)`, within ±`LOGIT_LIMIT`.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    k : int

    Examples
    --------
    >>> class_log_odds(np.log([[0.8, 0.2], [1.0, 1e-30]]), 1).round(4)
    array([ -1.3863, -40.    ])
    """
    others = np.exp(np.delete(log_probs, k, axis=1)).sum(axis=1)
    return np.clip(log_probs[:, k] - np.log(np.maximum(others, 1e-300)), -LOGIT_LIMIT, LOGIT_LIMIT)


def cox(
    log_odds: Array,
    outcomes: np.ndarray,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    steps: int = 100,
) -> Cox:
    r"""Maximum-likelihood recalibration line: logistic regression on the log-odds, by damped Newton steps.

    With weights or groups the standard errors are those of the jackknife, which assumes neither equal weights nor
    independent rows.

    Parameters
    ----------
    log_odds : ndarray of shape (N,)
        Finite.
    outcomes : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
        Positive.
    groups : ndarray of shape (N,), optional
        0..G-1.
    steps : int
        At most so many; a handful suffice.

    Examples
    --------
    >>> logit = np.log([4.0, 0.25]).repeat(10)
    >>> line = cox(logit, np.arange(20) % 10 < np.array([6, 4]).repeat(10))
    >>> round(line.intercept, 6) + 0.0, round(line.slope, 6)
    (0.0, 0.292481)

    References
    ----------
    Cox (1958), *Two Further Applications of a Model for Binary Regression*, Biometrika 45.
    Albert & Anderson (1984), *On the Existence of Maximum Likelihood Estimates in Logistic Regression*, Biometrika 71.
    Lipsitz, Dear & Zhao (1994), *Jackknife Estimators of Variance for Parameter Estimates from Estimating Equations
    with Applications to Clustered Survival Data*, Biometrics 50.
    """
    y = outcomes.astype(np.float64)
    w = np.ones(len(y)) if weights is None else weights * (len(y) / weights.sum())
    degenerate = _without_estimate(log_odds, y)
    if degenerate is not None:
        return degenerate
    centre, scale = log_odds.mean(), log_odds.std()
    design = np.stack([np.ones_like(y), (log_odds - centre) / scale], axis=1)
    line, covariance = _logistic(design, y, w, steps=steps)
    if weights is not None or groups is not None:
        p = _sigmoid(design @ line)
        covariance = _jackknife(design, w * (y - p), w * p * (1.0 - p), groups)
    back = np.array([[1.0, -centre / scale], [0.0, 1.0 / scale]])
    intercept, slope = back @ line
    if groups is not None and groups.min() == groups.max():
        return Cox(float(intercept), float(slope), math.inf, math.inf)  # one group: nothing to compare it with
    errors = np.sqrt(np.diag(back @ covariance @ back.T))
    return Cox(float(intercept), float(slope), float(errors[0]), float(errors[1]))


def _without_estimate(x: Array, y: Array) -> Cox | None:
    """Lines for which the likelihood has no finite maximum."""
    if y.min() == y.max() or x.min() == x.max():
        return Cox(math.nan, math.nan, math.inf, math.inf)
    yes, no = x[y == 1.0], x[y == 0.0]
    if yes.min() >= no.max():
        return Cox(math.nan, math.inf, math.inf, math.inf)
    return Cox(math.nan, -math.inf, math.inf, math.inf) if yes.max() <= no.min() else None


def _logistic(design: Array, y: Array, w: Array, *, steps: int) -> tuple[Array, Array]:
    """Coefficients and their covariance."""
    line = np.zeros(design.shape[1])
    loss = _loss(design @ line, y, w)
    for _ in range(steps):
        p = _sigmoid(design @ line)
        newton = np.linalg.solve(_information(design, p, w), design.T @ (w * (y - p)))
        step, bound = 1.0, loss * (1.0 + ROUNDING)
        while (tried := _loss(design @ (line + step * newton), y, w)) > bound and step > 1e-10:
            step /= 2.0
        line, gained, loss = line + step * newton, loss - tried, tried
        if gained <= 1e-15 * loss and np.abs(newton).max() <= 1e-9:
            break
    return line, np.linalg.inv(_information(design, _sigmoid(design @ line), w)).astype(np.float64)


def _information(design: Array, p: Array, w: Array) -> Array:
    """Kept invertible where only a few rows overlap and all others are certain; the optimum stays where it is."""
    return (design * (w * p * (1.0 - p))[:, None]).T @ design + 1e-12 * np.eye(design.shape[1])


def _jackknife(design: Array, residual: Array, information: Array, groups: Indices | None) -> Array:
    r"""Covariance from leaving every group out, by one Newton step each: :math:`(I - I_g)^{-1} s_g`.

    Groups that decide the line hide their own residuals: intervals of the plain sandwich cover .92 to .93 where 20 to
    60 groups hold the rows, those of this one .93 to .95.
    """
    parts = design[:, :, None] * (design * information[:, None])[:, None, :]
    scores, own = design * residual[:, None], parts.reshape(len(parts), 4)
    if groups is not None:
        scores, own = _by_group(scores, groups), _by_group(own, groups)
    rest = own.sum(axis=0).reshape(2, 2) + 1e-12 * np.eye(2) - own.reshape(-1, 2, 2)
    moves = np.linalg.solve(rest, scores[:, :, None])[:, :, 0]
    return moves.T @ moves * ((len(moves) - 1.0) / len(moves))


def _by_group(columns: Array, groups: Indices) -> Array:
    return np.stack([np.bincount(groups, column) for column in columns.T], axis=1)


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -z))


def _loss(z: Array, y: Array, w: Array) -> float:
    return float(w @ (np.logaddexp(0.0, z) - y * z))
