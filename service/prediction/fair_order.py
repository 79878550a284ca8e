"""The order in which requests of several callers are served: start-time fair, first come first served for one."""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

MOST_IDLE: Final = 1024  # callers that are remembered beside as many as items wait: those that sent last


Entry = tuple[float, int, Item]
"""Virtual time at which an item starts, how many came before it, and the item."""


class FairOrder(Generic[Item]):
    r"""Items by start-time fair queueing: each caller gets an equal share of what is served, whatever it sends.

    An item starts, in virtual time, when its caller's last one ends, or now if that is over: :math:`S = \max(V, F)`,
    :math:`F = S + size`. The least start is served first, and V is the start of what was served last. The items of a
    single caller keep the order in which they came.

    References
    ----------
    Goyal, Vin & Cheng (1997), *Start-time Fair Queueing: A Scheduling Algorithm for Integrated Services Packet
    Switching Networks*, IEEE/ACM Transactions on Networking 5(5).
    """

    def __init__(self) -> None:
        self._heap: list[Entry[Item]] = []
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._heap)

    def push(self, item: Item, *, caller: str, size: float) -> None:
        """Add an item of a caller.

        Parameters
        ----------
        item : Item
        caller : str
        size : float
            What serving it takes, in any unit.
        """
        start = self._ends.pop(caller, 0.0)  # it is then the last that sent
        if start < self._now:  # noqa: PLR1730  # `max` takes as long as all else here
            start = self._now
        self._ends[caller] = start + size
        self._count += 1
        heappush(self._heap, (start, self._count, item))
        if len(self._ends) > MOST_IDLE + len(self._heap):
            del self._ends[next(iter(self._ends))]

    def pop(self) -> Entry[Item]:
        """Take the first item: it is served, or put back."""
        return heappop(self._heap)

    def serve(self, entry: Entry[Item]) -> None:
        """An item that was taken is served, and those before it."""
        if entry[0] > self._now:  # noqa: PLR1730  # `max` takes as long as all else here
            self._now = entry[0]

    def put_back(self, entries: Iterable[Entry[Item]]) -> None:
        """Give items that were taken their places again."""
        for entry in entries:
            heappush(self._heap, entry)

    def remove(self, is_over: Callable[[Item], bool]) -> None:
        """Take away the items of which this holds."""
        self._heap = [entry for entry in self._heap if not is_over(entry[2])]
        heapify(self._heap)

    def items(self) -> list[Item]:
        """All that wait, in no order."""
        return [entry[2] for entry in self._heap]

    def restart(self) -> None:
        """Nothing waits and nothing is served: what callers had before counts no more."""
        self._ends.clear()
        self._now = 0.0
