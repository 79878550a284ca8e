"""How much a caller may send in a minute: requests, and rows.

The minute slides: of the minute before, the part counts that lies within the last sixty seconds. A refused request
costs nothing of the quota that it exceeds, so a caller that goes on sending gets what it may, and no less.
"""

import time
from collections.abc import Callable
from typing import Final

from service.access.caller import Caller
from service.access.shared_counts import Kind, SharedCounts
from service.errors import QuotaExceeded

MINUTE: Final = 60.0


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
        minutes = self._clock() / MINUTE
        minute = int(minutes)
        current, previous = self._counts.totals(name, kind, minute)
        if current + previous * (1 - (minutes - minute)) + amount > limit:
            raise _exceeded(kind, limit, amount, seconds_to_wait(limit, amount, current, previous, minutes - minute))
        self._counts.add(name, kind, minute, amount)


def seconds_to_wait(limit: int, amount: int, current: int, previous: int, part: float) -> float:
    """Seconds until an amount fits into a quota, if nothing else is sent until then.

    Parameters
    ----------
    limit, amount : int
    current, previous : int
        Sent in this minute and in the one before.
    part : float
        Of this minute that is over.
    """
    if amount > limit:  # it never fits
        return MINUTE
    free = limit - amount - current
    if free >= 0:  # when enough of the minute before lies more than a minute back
        return MINUTE * max(0.0, 1 - free / previous - part)
    return MINUTE * (1 - part + 1 - (limit - amount) / current)


def _exceeded(kind: Kind, limit: int, amount: int, seconds: float) -> QuotaExceeded:
    advice = "send fewer at a time" if amount > limit else "send more after the seconds in Retry-After"
    detail = f"this caller may send {limit} {kind} in a minute; {advice}"
    return QuotaExceeded(detail, unit=kind, limit=limit, seconds=max(1.0, seconds))
