"""No calibration: the model's own posterior, normalised."""

from dataclasses import dataclass
from typing import ClassVar, Self

from service.core.numerics import Array, Indices, log_softmax


@dataclass(frozen=True, slots=True)
class Identity:
    """Log-softmax and nothing else; what an uncalibrated version serves."""

    free_intercepts: ClassVar[bool] = False
    needs: ClassVar[str] = "any"

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
        """Nothing to learn."""
        del logits, labels, weights, offset, units
        return cls()

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters: none."""
        del k
        return 0

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Never: nothing is fitted."""
        del logits, labels, weights, offset
        return False

    def apply(self, logits: Array) -> Array:
        """Log-probabilities of raw logits, shape (N, K).

        Examples
        --------
        >>> import numpy as np
        >>> np.exp(Identity().apply(np.array([[0.0, 0.0]])))
        array([[0.5, 0.5]])
        """
        return log_softmax(logits)
