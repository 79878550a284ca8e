"""What an operator changes on disk is taken over while the service runs: models every so often, all of it on SIGHUP.

Tested in tests/test_hangup.py, tests/test_main.py and tests/api/test_tls.py.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from service.api.tls import Tls
from service.log_format import error_lines
from service.runtime.reload import Reloaded, Reloader
from service.telemetry import Telemetry

log = logging.getLogger("temperance")

PAUSE_SECONDS: Final = 1.0
"""Between the end of a watch by an error and the next one."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at what is on disk, and counts what comes of it.

    Attributes
    ----------
    reloader : Reloader
    telemetry : Telemetry
    seconds : float
        Between two looks; 0 for none but the first and those on SIGHUP.
    tls : Tls or None
    pause : float
        Seconds between the end of a watch by an error and the next one.
    """

    reloader: Reloader
    telemetry: Telemetry
    seconds: float
    tls: Tls | None = None
    pause: float = PAUSE_SECONDS

    async def supervised(self, hangup: asyncio.Event) -> None:
        """Watch for as long as the process serves; a watch that an error ends is logged, and followed by another."""
        while True:
            try:
                await self._watch(hangup)
            except Exception as error:  # noqa: BLE001  # whatever it is, later changes must be followed
                log.error(UNSEEN, extra={"error_lines": error_lines(error)})  # noqa: TRY400  # the lines hold no message
                await asyncio.sleep(self.pause)

    async def _watch(self, hangup: asyncio.Event) -> None:
        await self._look(self.reloader.poll)  # what changed while the models were loaded
        while True:
            try:
                await asyncio.wait_for(hangup.wait(), self.seconds or None)
            except TimeoutError:
                await self._look(self.reloader.poll)
            else:
                hangup.clear()
                if self.tls is not None:
                    self.tls.reload()
                await self._look(self.reloader.reload)

    async def _look(self, look: Callable[[], list[Reloaded]]) -> None:
        for reloaded in await asyncio.to_thread(look):
            result = "ok" if reloaded.refusal is None else "refused"
            self.telemetry.reloads.labels(reloaded.name, result).inc()
        self.telemetry.last_look.set(time.time())


@asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[None]:
    """While the context lasts, models are looked at every so often; on SIGHUP at once, and so is the certificate.

    Signals reach the main thread alone: where the loop runs in another, as in Ray's actors, SIGHUP is not for it.
    """
    loop, hangup = asyncio.get_running_loop(), asyncio.Event()
    hears = threading.current_thread() is threading.main_thread()
    if hears:
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
    task = asyncio.create_task(watch.supervised(hangup))
    try:
        yield
    finally:
        task.cancel()
        watch.reloader.end()
        if hears:
            loop.remove_signal_handler(signal.SIGHUP)


UNSEEN: Final = "the models could not be looked at; what is loaded is served on, and they are looked at again"
