"""Out-of-distribution scores (larger = further from the training data) and rules, by name."""

from typing import ClassVar, Final, Protocol, Self

from service.core.numerics import Array, Indices
from service.core.ood.mahalanobis import Mahalanobis
from service.core.ood.nll import Nll


class Score(Protocol):
    """A score with its fitted state, if it has any: its dataclass fields, all arrays, are what `state.npz` stores."""

    needs: ClassVar[str]
    """``logits``, ``features``, or ``probabilities``: log-probabilities up to a constant of the row, as logits are."""
    stateful: ClassVar[bool]
    """Whether `fit` learns from rows; thresholds then need other rows."""

    @classmethod
    def fit(cls, values: Array, labels: Indices) -> Self:
        """The score learned from training rows, shape (N, K) or (N, F), and their classes, shape (N,)."""

    def score(self, values: Array) -> Array:
        """One score per row, shape (N,)."""


SCORES: Final[dict[str, type[Score]]] = {"nll": Nll, "mahalanobis": Mahalanobis}
RULES: Final[tuple[str, ...]] = ("range",)
