"""Whether more requests come than one event loop can even refuse in the usual way.

A request that is admitted or refused as usual costs the loop a tenth of a millisecond. When so many come that the loop
falls behind, every one of them waits, probes too. Then requests are refused by the protocol, for a third of that.
"""

import asyncio
import logging
import time
from typing import Final

LOOK_SECONDS: Final = 0.01
LATE_SECONDS: Final = 0.025  # by which a look comes too late: no single request holds the loop for longer
MANY: Final = 100  # requests since the last look: fewer are not why the loop is late
LOOKS: Final = 2  # one after the other: what piled up while the loop was held once is answered as usual
QUIET_SECONDS: Final = 10.0  # between two lines of the log

log = logging.getLogger("temperance")


class LoopLoad:
    """Looks how late the loop does what is due, for as long as requests come."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._logged_at = 0.0
        self._requests = self._late_looks = 0

    def is_high(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Count a request; whether the loop has fallen behind."""
        self._requests += 1
        if self._timer is None:
            self._wait(loop)
        return self._late_looks >= LOOKS

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + LOOK_SECONDS
        self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, requests = time.monotonic(), self._requests
        self._requests, self._timer = 0, None
        is_late = now - self._due > LATE_SECONDS and requests >= MANY
        self._late_looks = self._late_looks + 1 if is_late else 0
        if self._late_looks == LOOKS and now - self._logged_at > QUIET_SECONDS:
            self._logged_at = now
            log.warning("more requests come than can be read; some are refused unread, and not logged")
        if requests:
            self._wait(loop)
