r"""Evidence that a null stopped holding at some time: a mixture over alternatives and over times of change.

.. math:: E_t = \sum_{\tau} \rho_\tau \sum_j w_j \prod_{s = \tau + 1}^{t} \frac{q_j(y_s)}{q_0(y_s)},
    \qquad \tau = 0 \text{ with } \rho_0 = \tfrac12

Under the null's own prediction :math:`q_0` every factor has mean 1, given what was seen before, so E is a
non-negative martingale that begins at 1. By Ville's inequality it ever reaches :math:`1 / \alpha` with probability
at most α, however often it is looked at. Half of the weight lies on a version that is wrong from its first row; the
other half is spread over later times in proportion to nearly 1 / τ, so that a change after τ rows costs about
:math:`\log \tau` nats, and a long sound life costs nothing that a later change would need.

References
----------
Ville (1939), *Étude critique de la notion de collectif*, Gauthier-Villars.
Ramdas, Grünwald, Vovk & Shafer (2023), *Game-Theoretic Statistics and Safe Anytime-Valid Inference*, Statistical
Science 38.
Herbster & Warmuth (1998), *Tracking the Best Expert*, Machine Learning 32 (weights that move over time).
Shin, Ramdas & Rinaldo (2024), *E-detectors: A Nonparametric Framework for Sequential Change Detection*, New England
Journal of Statistics in Data Science 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array

AT_ONCE: Final = 0.5
"""Weight of a change before the first row."""

LEAK: Final = 0.1
"""Of what is left, this share over t moves into the alternatives before row t + 1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The mixture after t rows; leading axes are processes side by side.

    Attributes
    ----------
    rows : int
        t.
    reserve : ndarray of shape (...)
        Logarithm of the weight on times of change that are still to come.
    capital : ndarray of shape (..., J)
        Logarithm of what every alternative is worth.
    """

    rows: int
    reserve: Array
    capital: Array

    @property
    def log_value(self) -> Array:
        """Logarithm of E, in nats, shape (...)."""
        return np.logaddexp(self.reserve, np.logaddexp.reduce(self.capital, axis=-1))


def begin(log_weights: Array) -> Evidence:
    """The mixture before any row: E = 1.

    Parameters
    ----------
    log_weights : ndarray of shape (..., J)
        Of the alternatives; they sum to one.

    Examples
    --------
    >>> float(begin(np.log([0.5, 0.5])).log_value.round(9)) + 0.0
    0.0
    """
    half = np.log(AT_ONCE)
    return Evidence(0, np.full(log_weights.shape[:-1], np.log1p(-AT_ONCE)), log_weights + half)


def advance(evidence: Evidence, log_ratios: Array, log_weights: Array) -> Evidence:
    """The mixture after one more row.

    Parameters
    ----------
    evidence : Evidence
    log_ratios : ndarray of shape (..., J)
        log q_j(y) - log q_0(y) of the row.
    log_weights : ndarray of shape (..., J)

    Examples
    --------
    >>> weights = np.log([0.5, 0.5])
    >>> round(float(np.exp(advance(begin(weights), np.log([1.5, 0.5]), weights).log_value)), 6)  # a null that holds
    1.0
    """
    t = evidence.rows
    if not t:
        return Evidence(1, evidence.reserve, evidence.capital + log_ratios)
    moved = np.asarray(evidence.reserve + np.log(LEAK / t))[..., None] + log_weights
    capital = np.logaddexp(evidence.capital, moved) + log_ratios
    return Evidence(t + 1, evidence.reserve + np.log1p(-LEAK / t), capital)


@dataclass(frozen=True, slots=True)
class State:
    """A test after some rows: what the next one needs, and no more.

    Attributes
    ----------
    memory : ndarray of shape (..., M)
        What the null's prediction rests on.
    evidence : Evidence
    """

    memory: Array
    evidence: Evidence


def followed(
    state: State, rows: Sequence[npt.NDArray[Any]], step: Callable[[State, npt.NDArray[Any]], State]
) -> tuple[State, Array]:
    """The state after rows, one by one, and log E after each, shape (N,).

    Parameters
    ----------
    state : State
    rows : sequence of ndarray
    step : callable
        The state after one more row.
    """
    log_values = np.empty(len(rows))
    for i, row in enumerate(rows):
        state = step(state, row)
        log_values[i] = state.evidence.log_value
    return state, log_values
