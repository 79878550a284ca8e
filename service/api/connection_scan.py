"""One timer for all connections of a process: what waits too long is found by looking at all of them, twice a second.

A timer for every request costs more than reading its head does. Tested in `tests/api/test_http_protocol.py`.
"""

import asyncio
from typing import Final, Protocol

SECONDS: Final = 0.5


class Connection(Protocol):
    """What is looked at."""

    def check(self, now: float) -> None:
        """End whatever has waited for too long by ``now``, a time of the event loop."""


class ConnectionScan:
    """Looks at all connections for as long as there are any."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Look at this one too, until it is removed."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(SECONDS, self._look, loop)

    def remove(self, connection: Connection) -> None:
        """Look at it no more."""
        self._open.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # The next look is certain before anything below can fail.
        self._timer = loop.call_later(SECONDS, self._look, loop) if self._open else None
        now = loop.time()
        for connection in tuple(self._open):
            connection.check(now)
