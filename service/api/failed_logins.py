"""Failed logins on record: a few a second at most, so that guesses at credentials cannot fill the store.

Tested in tests/test_record_parts.py.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import orjson

from service.record_errors import StoreUnavailable
from service.store.entries import Event, Write
from service.store.record_writer import Writer

LOGIN_FAILED: Final = "login-failed"
PER_SECOND: Final = 5
"""Of a process; more are counted, and not recorded."""


class FailedLogins:
    """Records requests whose credential was not accepted; nothing of the credential.

    Parameters
    ----------
    writer : Writer
    clock : callable
        The time of day, with its zone.
    count : callable
        Called for every one that is not recorded.
    """

    def __init__(self, writer: Writer, clock: Callable[[], datetime], count: Callable[[], None]) -> None:
        self._writer, self._clock, self._count = writer, clock, count
        self._second, self._number = 0, 0

    def add(self, request_id: str, code: str) -> None:
        """Record one, without waiting for it.

        Parameters
        ----------
        request_id : str
        code : str
            Type of the problem that answered it.
        """
        second = int(time.monotonic())
        self._second, self._number = second, self._number + 1 if second == self._second else 1
        if self._number <= PER_SECOND:
            detail = orjson.dumps({"request_id": request_id, "code": code}).decode()
            with suppress(StoreUnavailable):
                self._writer.submit(Write(events=[Event(int(self._clock().timestamp() * 1e6), LOGIN_FAILED, detail)]))
                return
        self._count()
