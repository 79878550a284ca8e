"""Tests that may be looked at after every row: e-processes, by name."""

from typing import ClassVar, Final, Protocol

from service.core.numerics import Array, Indices
from service.core.sequential.calibration_drift import Intercept, Slope
from service.core.sequential.change_mixture import State
from service.core.sequential.rank_drift import Ranks


class SequentialTest(Protocol):
    """A null that rows are compared with one by one; E >= 1 / α is evidence against it at level α, at any time."""

    needs: ClassVar[str]
    """``probabilities``: log-probabilities (N, K) and labels; or ``scores`` (N,)."""

    def begin(self) -> State:
        """Before any row: E = 1."""

    def follow(self, state: State, values: Array, labels: Indices) -> tuple[State, Array]:
        """The state after more rows, and log E after each, shape (N,).

        Parameters
        ----------
        state : State
        values : ndarray of shape (N, K) or (N,)
            What ``needs`` names.
        labels : ndarray of shape (N,)
        """


TESTS: Final[dict[str, type[SequentialTest]]] = {"slope": Slope, "intercept": Intercept, "ranks": Ranks}
