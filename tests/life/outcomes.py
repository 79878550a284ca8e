"""What became of every request of a load: the kinds of ending, and their table.

Times are of the monotonic clock, which all processes of a machine share.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt


class Ending(IntEnum):
    """How a request ended; every request ends in exactly one way."""

    ANSWERED = 0  # with status 200
    REFUSED = 1  # nothing listened
    RESET = 2  # before the first byte of an answer
    CLOSED = 3  # in order, without an answer
    CUT = 4  # within an answer
    OVERLOADED = 5  # 503 `overloaded`: refused by the load, not by the life of a process
    ERROR = 6  # any other 5xx
    OTHER = 7  # any other status
    UNANSWERED = 8  # not within the client's patience


OF_THE_CONNECTION: Final = frozenset({Ending.REFUSED, Ending.RESET, Ending.CLOSED, Ending.CUT})
"""After these a client sends a request that is safe to repeat once more."""

NOTHING: Final = -1
"""Answer of a request that has none."""

FIELDS: Final = np.dtype(
    [("begun", "f8"), ("done", "f8"), ("first", "u1"), ("final", "u1"), ("status", "u2"), ("answer", "i4")]
)
"""Of a request: when it was begun and done, the ends of its first and its last try, its status, its answer's place."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """All requests of a load, in the order in which they were done.

    Attributes
    ----------
    requests : ndarray of shape (N,)
        Of `FIELDS`.
    answers : sequence of bytes
        Every distinct answer with status 200, without ids and times.
    """

    requests: npt.NDArray[np.void]
    answers: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def first(self) -> Counter[Ending]:
        """How many first tries ended in each way: what a client without a retry sees."""
        return _counted(self.requests["first"])

    @property
    def final(self) -> Counter[Ending]:
        """How many requests ended in each way, with one retry where the client has one."""
        return _counted(self.requests["final"])

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """From the beginning of each to its end, shape (N,)."""
        return np.asarray(self.requests["done"] - self.requests["begun"], dtype=np.float64)

    def between(self, start: float, end: float) -> "Outcomes":
        """Those that were begun in an interval."""
        begun = self.requests["begun"]
        return Outcomes(self.requests[(begun >= start) & (begun < end)], self.answers)


def lost(counts: Counter[Ending]) -> int:
    """Requests without an answer of their own: neither 200 nor refused by the load."""
    return counts.total() - counts[Ending.ANSWERED] - counts[Ending.OVERLOADED]


def shown(counts: Counter[Ending]) -> str:
    """Whatever is no answer, by kind."""
    found = [f"{counts[kind]} {kind.name.lower()}" for kind in Ending if kind is not Ending.ANSWERED and counts[kind]]
    return ", ".join(found) or "0"


def _counted(column: npt.NDArray[np.uint8]) -> Counter[Ending]:
    kinds, counts = np.unique(column, return_counts=True)
    return Counter({Ending(int(kind)): int(count) for kind, count in zip(kinds, counts, strict=True)})
