"""How much a caller may send in a minute: requests, and rows.

The minute slides, second by second: in no sixty seconds is more answered than the quota. A refused request
costs nothing of the quota that it exceeds, so a caller that goes on sending gets what it may, and no less.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from service.access.caller import Caller
from service.access.shared_counts import Kind, SharedCounts
from service.errors import QuotaExceeded

MINUTE: Final = 60.0
GRAINS: Final = 64
"""Of a quota; so w workers together may answer (w - 1) / 64 more than it, when all begin at the same moment."""


class Quotas:
    """Charges callers, and refuses what is more than they may send.

    Parameters
    ----------
    counts : SharedCounts
    requests, rows : int
        That a caller without numbers of its own may send in a minute; 0 for any number.
    clock : callable
        Seconds that only grow, the same in every process.
    """

    def __init__(
        self, counts: SharedCounts, *, requests: int = 0, rows: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts, self._clock = counts, clock
        self._requests, self._rows = requests, rows

    def limits_requests(self, caller: Caller) -> bool:
        """Whether there is a number of requests that a caller may send."""
        return bool(caller.requests or self._requests)

    def charge_request(self, caller: Caller) -> None:
        """Charge one request; QuotaExceeded where it is one too many."""
        limit = caller.requests or self._requests
        if limit:
            self._charge(caller.name, "requests", limit, 1)

    def charge_rows(self, caller: Caller, rows: int) -> None:
        """Charge the rows of a request, before they run; QuotaExceeded where they are too many."""
        limit = caller.rows or self._rows
        if limit:
            self._charge(caller.name, "rows", limit, rows)

    def _charge(self, name: str, kind: Kind, limit: int, amount: int) -> None:
        now = self._clock()
        if self._counts.sent(name, kind, now, grain=limit // GRAINS) + amount > limit:
            by_age = self._counts.by_age(name, kind, now)
            raise _exceeded(kind, limit, amount, seconds_to_wait(limit, amount, by_age, now % 1))
        self._counts.add(name, kind, now, amount)


def seconds_to_wait(limit: int, amount: int, by_age: Sequence[int], part: float) -> float:
    """Seconds until an amount fits into a quota, if nothing else is sent until then.

    Parameters
    ----------
    limit, amount : int
    by_age : sequence of int
        What was sent, by the seconds that it is old.
    part : float
        Of the present second that is over.

    Examples
    --------
    >>> seconds_to_wait(10, 2, [0, 9, 0], 0.25)
    1.75
    """
    excess = sum(by_age) + amount - limit
    if amount > limit:  # it never fits
        return MINUTE
    for age in reversed(range(len(by_age))):
        excess -= by_age[age]
        if excess <= 0:
            return len(by_age) - age - part
    return MINUTE


def _exceeded(kind: Kind, limit: int, amount: int, seconds: float) -> QuotaExceeded:
    advice = "send fewer at a time" if amount > limit else "send more after the seconds in Retry-After"
    detail = f"this caller may send {limit} {kind} in a minute; {advice}"
    return QuotaExceeded(detail, unit=kind, limit=limit, seconds=max(1.0, seconds))
