"""The base of scores without state.

Tested in `tests/core/ood/test_scores.py`.
"""

from typing import ClassVar, Self

from service.core.numerics import Array, Indices


class Stateless:
    """A score that is a formula: nothing to learn, nothing to store."""

    __slots__ = ()

    stateful: ClassVar[bool] = False

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Nothing to learn."""
        del values, labels, logits
        return cls()
