r"""Temperature scaling for few rows: T is pulled towards 1, and biases towards 0, by priors worth less than a few rows.

.. math:: \log T \sim 0.5 \, t_3, \qquad b_k \sim 0.5 \, t_3

Student's t with three degrees of freedom: nearly normal where most models are, and of little weight against rows that
support a temperature or a bias far away. The prior counts rows, or groups of rows, so that its share falls as 1 / n.

References
----------
O'Hagan (1979), *On Outlier Rejection Phenomena in Bayes Inference*, JRSS B 41.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from service.core.calibration import Calibrator
from service.core.calibration.affine import AffineLoss, row_weights
from service.core.calibration.bcts import Bcts
from service.core.calibration.descent import minimise
from service.core.calibration.firth import FIRTH, FirthPlatt
from service.core.calibration.temperature import (
    LOG_BETA_BOUND,
    Temperature,
    TemperatureProblem,
    fit_temperature,
    problem_of,
)
from service.core.numerics import Array, Indices

FREEDOM: Final = 3.0
LOG_TEMPERATURE_SCALE: Final = 0.5
BIAS_SCALE: Final = 0.5
STEP_TOLERANCE: Final = 1e-10
MAX_ITERATIONS: Final = 100


def prior_loss(x: Array, scale: float) -> tuple[float, Array, Array]:
    r"""Negative log-density of Student's t, but for a constant: its sum, its derivative and its second derivative.

    .. math:: \tfrac{ν + 1}{2} \log\Bigl(1 + \tfrac{x^2}{ν s^2}\Bigr)

    Parameters
    ----------
    x : ndarray
    scale : float
        s.

    Examples
    --------
    >>> value, slope, curvature = prior_loss(np.array([0.0]), 0.5)
    >>> value, slope, curvature.round(4)
    (0.0, array([0.]), array([5.3333]))
    """
    spread = FREEDOM * scale**2
    total = spread + x * x
    value = 0.5 * (FREEDOM + 1.0) * float(np.log1p(x * x / spread).sum())
    return value, (FREEDOM + 1.0) * x / total, (FREEDOM + 1.0) * (spread - x * x) / total**2


@dataclass(frozen=True, slots=True)
class ShrunkTemperature(Temperature):
    """A `Temperature` whose logarithm has a prior."""

    @classmethod
    def fit(
        cls,
        logits: Array,
        labels: Indices,
        *,
        weights: Array | None = None,
        offset: Array | None = None,
        units: int | None = None,
    ) -> Self:
        """Temperature of largest posterior density; parameters are those of `fit_temperature`.

        Examples
        --------
        >>> logits = np.tile([[2.0, 0.0]], (4, 1))
        >>> labels = np.array([0, 0, 0, 1])  # three in four: T = 2 / log(3), or 1.82, without a prior
        >>> round(ShrunkTemperature.fit(logits, labels).temperature, 4)
        1.1457
        """
        start = fit_temperature(logits, labels, weights=weights, offset=offset, units=units)
        problem = problem_of(logits, labels, weights=weights, offset=offset)
        if problem.spread() == 0.0:
            return cls(1.0)
        at = -LOG_BETA_BOUND if start.status == "no_signal" else -math.log(start.calibrator.temperature)
        far = LOG_BETA_BOUND if start.status == "separable" else at
        return cls(math.exp(-_balance(problem, at, min(far, 0.0), max(far, 0.0), units or len(labels))))


@dataclass(frozen=True, slots=True)
class ShrunkBcts(Bcts):
    """A `Bcts` whose logarithm of T and biases have priors."""

    @classmethod
    def fit(
        cls,
        logits: Array,
        labels: Indices,
        *,
        weights: Array | None = None,
        offset: Array | None = None,
        units: int | None = None,
    ) -> Self:
        """Temperature and biases of largest posterior density, from those of `ShrunkTemperature`.

        Parameters are those of `Bcts.fit`.

        Examples
        --------
        >>> labels = np.repeat([0, 1], [800, 200])
        >>> np.exp(ShrunkBcts.fit(np.zeros((1000, 2)), labels).apply(np.zeros((1, 2)))).round(2)
        array([[0.8, 0.2]])
        """
        del offset
        n, k = logits.shape
        start = ShrunkTemperature.fit(logits, labels, weights=weights, units=units)
        one, w = np.array(1.0), row_weights(weights, n) / n
        rows = AffineLoss(logits, labels, w, logits.max(axis=1), 1.0, one, 0.0 * one, 0.0)
        loss = _Posterior(rows, 1.0 / (units or n))
        point = minimise(loss.evaluate, np.append(-math.log(start.temperature), np.zeros(k)), loss.curvature(start))
        slope, bias = rows.split(np.append(math.exp(point[0]), point[1:]))
        return cls(float(1.0 / slope), bias)


@dataclass(frozen=True, slots=True)
class _Posterior:
    """Mean log loss over log(1/T) and biases, and the priors worth ``share`` of it."""

    rows: AffineLoss
    share: float

    def evaluate(self, point: Array) -> tuple[float, Array]:
        slope = math.exp(min(point[0], 4.0 * LOG_BETA_BOUND))
        value, gradient = self.rows.evaluate(np.append(slope, point[1:]))
        by_slope, pull, _ = prior_loss(point[:1], LOG_TEMPERATURE_SCALE)
        by_bias, back, _ = prior_loss(point[1:], BIAS_SCALE)
        gradient[0] *= slope
        return value + self.share * (by_slope + by_bias), gradient + self.share * np.append(pull, back)

    def curvature(self, start: Temperature) -> Array:
        slope = 1.0 / start.temperature
        found = self.rows.curvature(np.append(slope, np.zeros(self.rows.logits.shape[1])))
        found[0] *= slope**2
        scales = np.append(LOG_TEMPERATURE_SCALE, np.full(len(found) - 1, BIAS_SCALE))
        return found + self.share * (FREEDOM + 1.0) / (FREEDOM * scales**2)


def _balance(problem: TemperatureProblem, start: float, low: float, high: float, units: int) -> float:
    # Where the pull of the rows on log(1/T) equals that of the prior: it lies between the rows' own optimum and 0.
    at = min(max(start, low), high)
    for _ in range(MAX_ITERATIONS):
        beta = math.exp(at)
        slope, curvature = problem.derivatives(beta)
        _, pull, bend = prior_loss(np.array([at]), LOG_TEMPERATURE_SCALE)
        total = beta * slope + float(pull[0]) / units
        steepness = beta * slope + beta**2 * curvature + float(bend[0]) / units
        low, high = (low, at) if total > 0.0 else (at, high)
        proposal = at - total / steepness if steepness > 0.0 else math.inf
        inside = low < proposal < high
        if abs(proposal - at) < STEP_TOLERANCE or high - low < STEP_TOLERANCE:
            break
        at = proposal if inside else 0.5 * (low + high)
    return at


def effective_units(
    logits: Array,
    labels: Indices,
    *,
    groups: Indices,
    units: int,
    weights: Array | None = None,
    offset: Array | None = None,
) -> int:
    r"""How many independent rows are as informative about T as rows in groups.

    .. math:: n \frac{\sum_g m_g \sum_{i \in g} r_i^2}{\sum_g (\sum_{i \in g} r_i)^2},
              \quad m_g = W_g^2 / \sum_{i \in g} w_i^2

    with r the slopes of the rows' losses at the best T. Copies of a row add no information; rows of a group that
    are independent are as informative as rows of several. Between the number of groups and that of rows.

    Parameters
    ----------
    logits, labels, weights, offset
        As in `fit_temperature`.
    groups : ndarray of shape (N,)
        0..G-1.
    units : int
        n, how many groups have weight.

    Examples
    --------
    >>> logits, labels = np.tile([[2.0, 0.0]], (8, 1)), np.array([0, 0, 0, 1, 0, 0, 1, 0])
    >>> effective_units(np.repeat(logits, 2, axis=0), np.repeat(labels, 2), groups=np.repeat(np.arange(8), 2), units=8)
    8
    """
    temperature = fit_temperature(logits, labels, weights=weights, offset=offset).calibrator.temperature
    problem = problem_of(logits, labels, weights=weights, offset=offset)
    w = problem.weights
    slopes = w * np.concatenate([slope for _, slope, _ in problem.rowwise(1.0 / temperature)])
    masses, squares = np.bincount(groups, w), np.bincount(groups, w * w)
    kish = masses**2 / np.where(squares > 0.0, squares, 1.0)
    together = float(np.sum(np.bincount(groups, slopes) ** 2))
    apart = float(kish @ np.bincount(groups, slopes**2))
    factor = apart / together if together > 0.0 else 1.0
    return round(min(max(units * factor, units), len(labels)))


SHRUNK: Final[dict[str, type[Calibrator]]] = {"temperature": ShrunkTemperature, "bcts": ShrunkBcts, "platt": FirthPlatt}
"""Fits with priors, by the method whose map they fit."""

PRIORS: Final[dict[str, dict[str, float]]] = {
    "temperature": {"freedom": FREEDOM, "log_temperature": LOG_TEMPERATURE_SCALE},
    "bcts": {"freedom": FREEDOM, "log_temperature": LOG_TEMPERATURE_SCALE, "bias": BIAS_SCALE},
    "platt": {"jeffreys": FIRTH},
}
"""What `SHRUNK` fits with: degrees of freedom and scales of Student's t, or the power of Jeffreys' prior."""
