"""Interval of T by its likelihood: where the rows are nearly all right, a bootstrap sees too few errors."""

import math
from collections.abc import Callable

import numpy as np

from service.core.calibration.temperature import LOG_BETA_BOUND, TemperatureFit, TemperatureProblem, problem_of
from service.core.intervals import NO_EVENT, likelihood_limit
from service.core.numerics import Array, Indices, logsumexp
from service.core.sampling import effective_rows

STEPS = 50  # of bisection in log T


def likelihood_interval(
    fit: TemperatureFit,
    logits: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    offset: Array | None = None,
    groups: Indices | None = None,
) -> tuple[float, float]:
    r"""95 % interval of T: temperatures whose likelihood is not too far below the best.

    .. math:: \{T : n \, (L(1/T) - \min L) \le c\}

    n is the number of independent rows, or groups, at most; it is less where the slopes of the loss spread more than
    the model expects, as they do where no temperature is right. c is `likelihood_limit`'s, so a few errors that carry
    the whole estimate widen it. Separable rows bound T only from above, rows that are hardly better than no signal only
    from below.

    Parameters
    ----------
    fit : TemperatureFit
        What `fit_temperature` found on the same rows.
    logits, labels, weights, offset
        As given to `fit_temperature`.
    groups : ndarray of shape (N,), optional
        Group of every row, 0..G-1: rows of a patient count as one.

    Returns
    -------
    (low, high) : tuple of float
        0 and infinity where the rows give no bound.

    Examples
    --------
    >>> from service.core.calibration.temperature import fit_temperature
    >>> logits = np.tile([[2.0, 0.0]], (400, 1))
    >>> labels = np.repeat([0, 0, 0, 1], 100)
    >>> low, high = likelihood_interval(fit_temperature(logits, labels), logits, labels)
    >>> round(low, 2), round(high, 2)  # around 2 / log(3) = 1.82
    (1.5, 2.29)

    References
    ----------
    Royall & Tsou (2003), *Interpreting Statistical Evidence by Using Imperfect Models*, JRSS B 65.
    """
    problem = problem_of(logits, labels, weights=weights, offset=offset)
    unit = math.log(problem.spread())
    best = {"ok": -math.log(fit.calibrator.temperature), "no_signal": -math.inf, "separable": LOG_BETA_BOUND - unit}
    centre = best[fit.status]
    limit = _loss(problem, math.exp(centre)) + _allowed(fit, problem, weights, groups)

    def inside(log_beta: float) -> bool:
        return _loss(problem, math.exp(log_beta)) <= limit

    start = -LOG_BETA_BOUND - unit if fit.status == "no_signal" else centre
    low, high = (_end(inside, start, sign * LOG_BETA_BOUND - unit) for sign in (1.0, -1.0))
    return math.exp(-low), math.exp(-high)


def _loss(problem: TemperatureProblem, beta: float) -> float:
    total = -float(problem.weights @ problem.offset[problem.labels])
    for rows, shifted, own in problem.chunks():
        total += float(problem.weights[rows] @ (logsumexp(beta * shifted + problem.offset) - beta * own))
    return total


def _allowed(fit: TemperatureFit, problem: TemperatureProblem, weights: Array | None, groups: Indices | None) -> float:
    """How far the loss may lie above the best."""
    units = effective_rows(len(problem.labels), weights=weights, groups=groups)
    if fit.status == "separable":
        return NO_EVENT / units
    beta = 1.0 / fit.calibrator.temperature
    slopes, curvatures = (np.concatenate(part) for part in list(zip(*problem.rowwise(beta), strict=True))[1:])
    moved = problem.weights * slopes
    together = moved if groups is None else np.bincount(groups, moved).astype(np.float64)
    spread, curvature = float(together @ together), float(problem.weights @ curvatures)
    independent = min(units, curvature / spread) if spread > 0.0 and curvature > 0.0 else units
    return likelihood_limit(together) / independent


def _end(inside: Callable[[float], bool], start: float, bound: float) -> float:
    """Where a run of log betas around the best ends; infinite where it goes on to the bound."""
    if inside(bound):
        return math.copysign(math.inf, bound)
    near, far = start, bound
    for _ in range(STEPS):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if inside(middle) else (near, middle)
    return far
