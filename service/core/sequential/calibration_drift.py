r"""Whether outcomes still agree with calibrated probabilities, row by row, for as long as a version lives.

Two families of one parameter bend the probabilities p of a row; zero leaves them as they are.

.. math:: q_\theta(y) \propto p_y^{\exp \theta} \ \text{(slope)}, \qquad
    q_\theta(y) \propto p_y \, e^{\theta [y = k]} \ \text{(intercept of class k)}

T that is too large by a factor of c is a slope of θ = log c. The null is not θ = 0: calibration rows are finite, so
even a sound version has θ ~ N(0, σ²), σ the standard error of its fit and a tolerance (`lattice`). The null's
prediction of the next outcome is the mixture over that distribution, given the outcomes before; alternatives are the
points themselves, in `change_mixture`.

Validity. θ is a location: over calibration sets, what was fitted less what is true is normal with standard deviation
σ, to first order, whatever the true value is. Averaged over calibration sets, outcomes therefore follow the null's
mixture, E has mean 1 at every time, and the chance that a version with its calibration rows ever reaches 1 / α is at
most α. As rows grow without end, E tends to the ratio of the two weights of the true θ: an alarm then needs a deviation
of about 3.5 σ, however long the version lives. Outcomes are compared given the inputs, so other inputs alone raise
nothing.

References
----------
Cox (1958), *Two Further Applications of a Model for Binary Regression*, Biometrika 45.
Robbins (1970), *Statistical Methods Related to the Law of the Iterated Logarithm*, Annals of
Mathematical Statistics 41.
Pérez-Ortiz, Lardy, de Heide & Grünwald (2024), *E-Statistics, Group Invariance and Anytime-Valid Testing*, Annals of
Statistics 52 (a right Haar mixture in the null is valid for every value of the nuisance parameter).
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.sequential.change_mixture import State, advance, begin, followed
from service.core.sequential.lattice import Lattice, lattice

STEEPEST: Final = 3.0
"""Logarithm of the largest slope: twenty times as steep, or as flat."""

FARTHEST: Final = 6.0
"""Largest intercept, in logits."""

CELLS: Final = 1 << 18
"""Rows are bent together so that so many numbers stay in the cache."""

SURE: Final = 40.0
"""Beyond it a probability is 0 or 1 in float64."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Whether probabilities are neither over- nor under-confident.

    Attributes
    ----------
    points : Lattice
        Of the logarithm of the slope.
    """

    needs: ClassVar[str] = "probabilities"

    points: Lattice

    @classmethod
    def of(cls, error: float) -> Self:
        """The test of a version, ``error`` being the standard error of its log T."""
        return cls(lattice(error, farthest=STEEPEST))

    def begin(self) -> State:
        """Before any outcome."""
        return begin_calibration(self.points)

    def follow(self, state: State, values: Array, labels: Indices) -> tuple[State, Array]:
        """The state after more rows, and log E after each; ``values`` are log-probabilities (N, K)."""
        step = max(1, CELLS // (values.shape[1] * len(self.points.points)))
        parts = [slice(start, start + step) for start in range(0, len(values), step)]
        rows = [row for part in parts for row in log_sloped(values[part], labels[part], self.points.points)]
        return _follow(state, rows, self.points)


@dataclass(frozen=True, slots=True)
class Intercept:
    """Whether one class occurs as often as its probabilities say.

    Attributes
    ----------
    points : Lattice
        Of the intercept, in logits.
    of_class : int
    """

    needs: ClassVar[str] = "probabilities"

    points: Lattice
    of_class: int

    @classmethod
    def of(cls, error: float, of_class: int) -> Self:
        """The test of a version, ``error`` being the standard error of the class' log-odds, on average."""
        return cls(lattice(error, farthest=FARTHEST), of_class)

    def begin(self) -> State:
        """Before any outcome."""
        return begin_calibration(self.points)

    def follow(self, state: State, values: Array, labels: Indices) -> tuple[State, Array]:
        """The state after more rows, and log E after each; ``values`` are log-probabilities (N, K)."""
        own = values[:, self.of_class]
        others = np.logaddexp.reduce(np.delete(values, self.of_class, axis=1), axis=1)
        log_odds = np.clip(own - others, -SURE, SURE)
        rows = list(log_shifted(log_odds, labels == self.of_class, self.points.points))
        return _follow(state, rows, self.points)


def _follow(state: State, rows: list[Array], points: Lattice) -> tuple[State, Array]:
    return followed(state, rows, lambda now, row: advance_calibration(now, row, points))


def begin_calibration(points: Lattice) -> State:
    """Before any outcome: the null's weights of the points, normalised logarithms, are what it remembers."""
    return State(points.log_null, begin(points.log_alternative))


def advance_calibration(state: State, log_likelihoods: Array, points: Lattice) -> State:
    """After one more outcome.

    Parameters
    ----------
    state : State
    log_likelihoods : ndarray of shape (..., J)
        Of the outcome at every point: `log_sloped` or `log_shifted`.
    points : Lattice
    """
    joint = state.memory + log_likelihoods
    predicted = np.logaddexp.reduce(joint, axis=-1, keepdims=True)
    evidence = advance(state.evidence, log_likelihoods - predicted, points.log_alternative)
    return State(joint - predicted, evidence)


def log_sloped(log_probs: Array, labels: Indices, points: Array) -> Array:
    r"""Logarithm of the probability of each row's label at every slope, shape (N, J).

    .. math:: e^\theta \log p_y - \log \sum_k p_k^{\exp \theta}

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    points : ndarray of shape (J,) or (N, J)

    Examples
    --------
    >>> np.exp(log_sloped(np.log([[0.2, 0.8]]), np.array([1]), np.log([1.0, 2.0]))).round(4)
    array([[0.8   , 0.9412]])
    """
    slopes = np.exp(points)
    bent = log_probs[:, None, :] * slopes[..., None]
    own = log_probs[np.arange(len(labels)), labels]
    return own[:, None] * slopes - np.logaddexp.reduce(bent, axis=-1)


def log_shifted(log_odds: Array, events: Flags, points: Array) -> Array:
    r"""Logarithm of the probability of each row's event, or of none, at every intercept, shape (N, J).

    Parameters
    ----------
    log_odds : ndarray of shape (N,)
        Of the event, as predicted.
    events : ndarray of shape (N,)
        Whether it occurred.
    points : ndarray of shape (J,) or (N, J)

    Examples
    --------
    >>> np.exp(log_shifted(np.array([0.0]), np.array([True]), np.log([1.0, 4.0]))).round(4)
    array([[0.5, 0.8]])
    """
    shifted = log_odds[:, None] + points
    return -np.logaddexp(0.0, np.where(events[:, None], -shifted, shifted))
