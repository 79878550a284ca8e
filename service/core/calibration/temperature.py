"""Temperature scaling: one number that scales confidence and keeps the ranking within a row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from service.core.numerics import Array, Indices, log_softmax
from service.core.state_checks import check_number

Status = Literal["ok", "separable", "no_signal"]

CHUNK_CELLS = 1 << 18  # rows are taken so that one chunk's temporaries stay in the cache (2 MiB of float64)
LOG_BETA_BOUND = 12.0  # of beta times the largest gap: wide enough that only separable data or rounding reaches it
STEP_TOLERANCE = 1e-10
MAX_ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class Temperature:
    """Log-softmax of the logits divided by T.

    Parameters
    ----------
    temperature : float
        T > 0, never its inverse. Above one it spreads the probabilities, below one it sharpens them.

    References
    ----------
    Guo et al. (2017), *On Calibration of Modern Neural Networks*, ICML.
    """

    free_intercepts: ClassVar[bool] = False
    needs: ClassVar[str] = "any"

    temperature: float

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, above=0.0)

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
        """Temperature of least log loss; see `fit_temperature`."""
        fit = fit_temperature(logits, labels, weights=weights, offset=offset, units=units)
        return cls(fit.calibrator.temperature)

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters: T."""
        del k
        return 1

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether every row's own class has its largest logit: the loss then falls for ever as T goes to 0."""
        return problem_of(logits, labels, weights=weights, offset=offset).status() == "separable"

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K).

        Examples
        --------
        >>> np.exp(Temperature(2.0).apply(np.array([[0.0, 2.0]]))).round(4)
        array([[0.2689, 0.7311]])
        """
        return log_softmax(logits / self.temperature)


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """What `fit_temperature` found.

    Attributes
    ----------
    calibrator : Temperature
    status : {"ok", "separable", "no_signal"}
        ``separable``: every row's own class has its largest logit, so no finite T is best; T is that of targets
        smoothed by 1 / (n + 1), n counting rows, or groups of rows. ``no_signal``: the true class' logit is on average
        no larger than chance; T stays 1 and the result must not be called calibrated.
    iterations : int
    smoothing : float
        Of the targets; 0 unless ``separable``.
    """

    calibrator: Temperature
    status: Status
    iterations: int
    smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class TemperatureProblem:
    """The convex loss of beta = 1 / T over rows whose largest logit is zero.

    .. math:: L(β) = Σ_i w_i [ lse(β z_i + o) - ⟨t_i, β z_i + o⟩ ]

    Attributes
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,)
        Sum to one.
    offset : ndarray of shape (K,)
        Added after scaling: the log ratio of the rows' prevalence to the model's own.
    smoothing : float
        ε of the targets ``(1 - ε) onehot + ε softmax(offset)``, which is uniform without an offset; towards any
        other vector a large offset could leave separable rows without a finite optimum.
    """

    logits: Array
    labels: Indices
    weights: Array
    offset: Array
    smoothing: float = 0.0

    def chunks(self) -> Iterator[tuple[slice, Array, Array]]:
        """Slices of the rows with their logits, the largest at zero, and the mean logit of their target."""
        prevalence = np.exp(log_softmax(self.offset[None]))[0]
        step = max(1, CHUNK_CELLS // self.logits.shape[1])
        for start in range(0, len(self.logits), step):
            rows = slice(start, start + step)
            shifted = self.logits[rows] - self.logits[rows].max(axis=1, keepdims=True)
            own = shifted[np.arange(len(shifted)), self.labels[rows]]
            if self.smoothing:
                own = (1.0 - self.smoothing) * own + self.smoothing * (shifted @ prevalence)
            yield rows, shifted, own

    def rowwise(self, beta: float) -> Iterator[tuple[slice, Array, Array]]:
        """Slope and curvature of every row's loss in beta: the mean and the variance of its logits under p."""
        for rows, shifted, own in self.chunks():
            p = shifted * beta
            p += self.offset
            p -= p.max(axis=1, keepdims=True)
            np.exp(p, out=p)
            p /= p.sum(axis=1, keepdims=True)
            mean = np.einsum("nk,nk->n", p, shifted)
            square = np.einsum("nk,nk,nk->n", p, shifted, shifted)
            yield rows, mean - own, np.maximum(square - mean * mean, 0.0)

    def derivatives(self, beta: float) -> tuple[float, float]:
        """First and second derivative of the loss at ``beta``."""
        slope = curvature = 0.0
        for rows, gradient, hessian in self.rowwise(beta):
            slope += float(self.weights[rows] @ gradient)
            curvature += float(self.weights[rows] @ hessian)
        return slope, curvature

    def slope_at_infinity(self) -> float:
        """Limit of the first derivative for beta to infinity: how far the targets fall short of the largest logit."""
        return -sum(float(self.weights[rows] @ own) for rows, _, own in self.chunks())

    def spread(self) -> float:
        """Largest gap between two logits of a row."""
        return max(float(-shifted.min()) for _, shifted, _ in self.chunks())

    def status(self) -> Status:
        """Whether a finite positive optimum exists: by the sign of the slope at either end, beyond rounding."""
        noise = 1e-12 * self.spread()
        if self.derivatives(0.0)[0] >= -noise:
            return "no_signal"
        return "ok" if self.slope_at_infinity() > noise else "separable"


def problem_of(
    logits: Array, labels: Indices, *, weights: Array | None, offset: Array | None, smoothing: float = 0.0
) -> TemperatureProblem:
    """The loss of T on rows; classes of offset minus infinity are impossible, and left out."""
    w = np.full(len(labels), 1.0 / len(labels)) if weights is None else weights / weights.sum()
    o = np.zeros(logits.shape[1]) if offset is None else offset
    possible = np.isfinite(o)
    if not possible.all():
        logits, labels, o = logits[:, possible], (possible.cumsum() - 1)[labels], o[possible]
    return TemperatureProblem(logits, labels, w, o, smoothing)


def fit_temperature(
    logits: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    offset: Array | None = None,
    units: int | None = None,
) -> TemperatureFit:
    r"""Temperature of least log loss, by a safeguarded Newton iteration.

    The loss is convex in :math:`\beta = 1/T`, so Newton steps are taken there, mapped to :math:`\log\beta`, and
    replaced by a bisection wherever they leave the bracket. The sign of the slope at :math:`\beta = 0` and
    :math:`\beta = \infty` shows beforehand whether a finite positive optimum exists.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
        Class indices; a class may be absent.
    weights : ndarray of shape (N,), optional
        Non-negative, only their ratios matter.
    offset : ndarray of shape (K,), optional
        Added to the scaled logits: ``log(prevalence of these rows / source prevalence of the model)``, so that
        a difference in prevalence does not bend T. Minus infinity: the class cannot occur among these rows.
    units : int, optional
        How many rows, or groups of rows, are independent of each other; without it, all rows.

    Returns
    -------
    TemperatureFit

    Examples
    --------
    >>> logits = np.tile([[2.0, 0.0]], (4, 1))
    >>> fit = fit_temperature(logits, np.array([0, 0, 0, 1]))  # three in four: T = 2 / log(3)
    >>> round(fit.calibrator.temperature, 6), fit.status
    (1.820478, 'ok')
    """
    problem = problem_of(logits, labels, weights=weights, offset=offset)
    status = problem.status()
    if status == "no_signal":
        return TemperatureFit(Temperature(1.0), status, 0)
    smoothing = 1.0 / ((units or len(logits)) + 1) if status == "separable" else 0.0
    return _newton(replace(problem, smoothing=smoothing), status)


def _newton(problem: TemperatureProblem, status: Status) -> TemperatureFit:
    unit = math.log(problem.spread())
    low, high = -LOG_BETA_BOUND - unit, LOG_BETA_BOUND - unit
    log_beta = min(max(0.0, low), high)
    iterations, converged = 0, False
    while not converged and iterations < MAX_ITERATIONS:
        iterations += 1
        beta = math.exp(log_beta)
        slope, curvature = problem.derivatives(beta)
        low, high = (low, log_beta) if slope > 0.0 else (log_beta, high)
        proposal = _log_newton_step(beta, slope, curvature)
        # Convergence is tested before the bracket: at the optimum rounding alone can put the proposal outside it.
        converged = abs(proposal - log_beta) < STEP_TOLERANCE
        log_beta = proposal if converged or low < proposal < high else 0.5 * (low + high)
    return TemperatureFit(Temperature(math.exp(-log_beta)), status, iterations, problem.smoothing)


def _log_newton_step(beta: float, slope: float, curvature: float) -> float:
    proposal = beta - slope / curvature if curvature > 0.0 else -1.0
    return math.log(proposal) if proposal > 0.0 else -math.inf
