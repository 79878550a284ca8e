"""Whether more requests have come than one turn of the event loop can answer, be it with a refusal.

A request that is admitted or refused as usual costs the loop a tenth of a millisecond. When thousands come at once,
all of them wait for each other, probes too, and the models' threads wait for the loop. So while some are refused
anyway, those beyond a number in one turn are refused unread, by the protocol, for a fifth of that.

Tested in `tests/api/test_http_protocol.py` and `tests/load/test_overload.py`.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

MOST_REQUESTS: Final = 50  # in one turn: some 10 ms
LASTING_SECONDS: Final = 1.0  # for which one refusal shows that others will be refused
QUIET_SECONDS: Final = 10.0  # between two lines of the log

log = logging.getLogger("temperance")


@dataclass(slots=True)
class Overload:
    """What the application last did about too many requests.

    Attributes
    ----------
    refused_at : float
        When it last refused one for want of time, on the monotonic clock.
    """

    refused_at: float = float("-inf")


class LoopLoad:
    """Counts the requests of every turn of the event loop of the process."""

    def __init__(self) -> None:
        self._begun = 0
        self._logged_at = float("-inf")

    def is_high(self, loop: asyncio.AbstractEventLoop, overload: Overload) -> bool:
        """Count a request whose head has come; whether it is to be refused unread."""
        if not self._begun:
            loop.call_soon(self._turn)  # it runs once all that has come is read, before the first request is answered
        self._begun += 1
        if self._begun <= MOST_REQUESTS or (now := time.monotonic()) - overload.refused_at > LASTING_SECONDS:
            return False
        self._log(now)
        return True

    def _turn(self) -> None:
        self._begun = 0

    def _log(self, now: float) -> None:
        if now - self._logged_at >= QUIET_SECONDS:
            self._logged_at = now
            log.warning("more requests come than can be read; some are refused unread, and not logged")
