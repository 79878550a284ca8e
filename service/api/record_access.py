"""What requests about the record use: readers beside the event loop, and the writer.

Tested in tests/api/v1/test_outcome_routes.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.store.entries import Write
from service.store.reading import Readers


@dataclass(frozen=True, slots=True)
class RecordAccess:
    """Access to the record.

    Attributes
    ----------
    readers : Readers
    keep : callable
        Of a write and a deadline on the clock of the event loop: done once the write is durable; StoreUnavailable,
        DeadlineExceeded.
    """

    readers: Readers
    keep: Callable[[Write, float], Awaitable[None]]
