"""Simulated lives: versions, each with its own calibration set, looked at after every row."""

from dataclasses import dataclass

import numpy as np

from service.core.calibration.likelihood import likelihood_interval
from service.core.calibration.shrinkage import ShrunkTemperature
from service.core.calibration.temperature import fit_temperature
from service.core.numerics import Array, Indices, log_softmax
from service.core.sequential.calibration_drift import (
    FARTHEST,
    STEEPEST,
    advance_calibration,
    log_shifted,
    log_sloped,
)
from service.core.sequential.change_mixture import State, begin
from service.core.sequential.errors_of_fit import intercept_errors, slope_error
from service.core.sequential.lattice import Lattice, lattice
from service.core.sequential.rank_drift import advance_ranks, begin_ranks, bins

SHARPNESS = 1.7
"""Logits of the simulated model are so many times too large."""


@dataclass(frozen=True, slots=True)
class World:
    """Where rows come from.

    Attributes
    ----------
    calibration_rows, rows : int
        Of every version: what it was fitted on, and how long it lives.
    classes : int
    spread, base : float
        Standard deviation of the logits; mean logit of the last class.
    slope, intercept, shift : float
        What the true log-odds become after ``change`` rows, and how far scores move, in standard deviations.
    change : int
    """

    calibration_rows: int = 1000
    rows: int = 2000
    classes: int = 2
    spread: float = 2.0
    base: float = -1.0
    slope: float = 1.0
    intercept: float = 0.0
    shift: float = 0.0
    change: int = 0

    def draw(self, rng: np.random.Generator, rows: int, *, changed: bool = False) -> tuple[Array, Indices]:
        """Logits that are too sharp, and labels."""
        logits = rng.normal(0.0, self.spread, size=(rows, self.classes))
        logits[:, -1] += self.base
        true = (self.slope if changed else 1.0) * logits
        true[:, -1] += self.intercept if changed else 0.0
        labels = (np.exp(log_softmax(true)).cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
        return SHARPNESS * logits, np.minimum(labels, self.classes - 1)


@dataclass(frozen=True, slots=True)
class Fits:
    """What `fit` found for every version: temperatures and standard errors, shape (V,)."""

    temperatures: Array
    slope_errors: Array
    intercept_errors: Array


def fitted(world: World, versions: int, rng: np.random.Generator) -> Fits:
    """A calibration of every version, on rows of its own."""
    found = np.array([_fit(world, rng) for _ in range(versions)])
    return Fits(*found.T)


def _fit(world: World, rng: np.random.Generator) -> tuple[float, float, float]:
    logits, labels = world.draw(rng, world.calibration_rows)
    temperature = ShrunkTemperature.fit(logits, labels).temperature
    low, high = likelihood_interval(fit_temperature(logits, labels), logits, labels)
    low, high = min(low, temperature), max(high, temperature)
    log_probs = log_softmax(logits / temperature)
    brier = float(((np.exp(log_probs) - np.eye(world.classes)[labels]) ** 2).sum(axis=1).mean())
    counts = np.bincount(labels, minlength=world.classes).astype(float)
    errors = intercept_errors(brier, counts / counts.sum(), units=len(labels))
    return temperature, slope_error(temperature, low, high), float(errors[-1])


@dataclass(frozen=True, slots=True)
class Lives:
    """What was seen after every row of every version, shape (rows, V) each.

    Attributes
    ----------
    slope, intercept : ndarray
        Logarithms of E; the intercept is that of the last class.
    log_ratio : ndarray
        Log-likelihood ratio of the slope of ``against`` to 1, on all rows so far.
    """

    slope: Array
    intercept: Array
    log_ratio: Array


def calibration_lives(world: World, versions: int, seed: int, *, against: float = 1.0) -> Lives:
    """Outcomes that are looked at one by one."""
    rng = np.random.default_rng(seed)
    fits = fitted(world, versions, rng)
    slopes = side_by_side([lattice(error, farthest=STEEPEST) for error in fits.slope_errors])
    intercepts = side_by_side([lattice(error, farthest=FARTHEST) for error in fits.intercept_errors])
    by_slope, by_intercept = _begin(slopes), _begin(intercepts)
    values, total = np.empty((3, world.rows, versions)), np.zeros(versions)
    alternatives = np.array([0.0, np.log(against)])
    for t in range(world.rows):
        logits, labels = world.draw(rng, versions, changed=t >= world.change)
        log_probs = log_softmax(logits / fits.temperatures[:, None])
        by_slope = advance_calibration(by_slope, log_sloped(log_probs, labels, slopes.points), slopes)
        log_odds = -np.log(np.expm1(-log_probs[:, -1]))
        events = labels == world.classes - 1
        by_intercept = advance_calibration(by_intercept, log_shifted(log_odds, events, intercepts.points), intercepts)
        total += np.diff(log_sloped(log_probs, labels, alternatives))[:, 0]
        values[:, t] = by_slope.evidence.log_value, by_intercept.evidence.log_value, total
    return Lives(*values)


def score_lives(world: World, versions: int, seed: int, *, alpha: float = 0.05) -> Array:
    """Logarithm of E of ranks after every row, shape (rows, V)."""
    rng, n = np.random.default_rng(seed), world.calibration_rows
    scores = np.sort(rng.normal(size=(versions, n)), axis=1)
    ranks = np.array([int(n * q) for q in (0.25, 0.5, 0.75, 0.9)] + [int(np.ceil((n + 1) * (1 - alpha)))])
    among, edges = bins(ranks, n), scores[:, ranks - 1]
    state, values = begin_ranks(among, (versions,)), np.empty((world.rows, versions))
    for t in range(world.rows):
        new = rng.normal(size=(versions, 1)) + (world.shift if t >= world.change else 0.0)
        state = advance_ranks(state, (new > edges).sum(axis=1), among)
        values[t] = state.evidence.log_value
    return values


def side_by_side(lattices: list[Lattice]) -> Lattice:
    """Lattices of several versions as one, shape (V, J): points of no weight fill it up."""
    most = max(len(one.points) for one in lattices)
    filled = [
        (
            np.pad(one.points, (0, most - len(one.points))),
            np.pad(one.log_null, (0, most - len(one.points)), constant_values=-1e9),
            np.pad(one.log_alternative, (0, most - len(one.points)), constant_values=-1e9),
        )
        for one in lattices
    ]
    points, null, alternative = (np.array(values) for values in zip(*filled, strict=True))
    return Lattice(points, null, alternative)


def _begin(points: Lattice) -> State:
    return State(points.log_null, begin(points.log_alternative))


def first_alarm(log_values: Array, weight: float, *, level: float = 0.01) -> Array:
    """Rows until E reached 1 / (level · weight), infinity where it never did, shape (V,)."""
    reached = log_values >= -np.log(level * weight)
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1.0, np.inf)
