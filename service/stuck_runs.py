"""A run that nothing can stop costs its process, and no other request: the process is given up in good order.

`runtime.watchdog` ends a run between two operators. One operator that takes long goes on, and so does anything else
that holds the event loop. A thread looks for both. When it finds one, the process takes no more requests, answers
those of other models, and ends with an exit code that makes its supervisor replace it.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Counter

from service.api.ending import Ending

LOOK_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 5.0  # a new process takes about as long to be ready: an operator that ends sooner costs less
DRAIN_SECONDS: Final = 20.0  # with the grace below 30: in that time a stuck process is replaced
ANSWER_SECONDS: Final = 2.0  # an event loop that does not turn for so long answers no request
EXIT_CODE: Final = os.EX_SOFTWARE

log = logging.getLogger("temperance")


class StuckRuns:
    """Gives the process up when a run does not end, or when the event loop does not turn.

    Parameters
    ----------
    overdue : callable
        Seconds by which the run that is latest is beyond its deadline.
    ending : Ending
        Of the process. A run does not delay it, so from then on none is looked for.
    seconds : float
        That a request may take, and so an event loop that runs it.
    count : Counter
        Of processes that were given up.
    """

    def __init__(self, overdue: Callable[[], float], ending: Ending, *, seconds: float, count: Counter) -> None:
        self._overdue, self._ending = overdue, ending
        self._most_silent_looks = (seconds + GRACE_SECONDS) / LOOK_SECONDS
        self._count = count
        self._is_given_up = False
        self._over = threading.Event()
        self._turned = threading.Event()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """A thread looks while the context lasts; if the process was given up, it ends once the context is left."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=[loop], name="stuck-runs", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            if self._is_given_up:  # all requests are answered, and Python waits for threads
                _end()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        silent_looks = late_looks = 0
        while not self._over.wait(LOOK_SECONDS):
            # Looks are counted, not seconds alone: a process that was suspended has missed neither.
            silent_looks = 0 if self._turned.is_set() else silent_looks + 1
            self._turned.clear()
            loop.call_soon_threadsafe(self._turned.set)
            if self._ending.is_draining:
                return
            overdue = self._overdue()
            late_looks = late_looks + 1 if overdue > 0.0 else 0
            if overdue > GRACE_SECONDS and late_looks > GRACE_SECONDS / LOOK_SECONDS:
                self._give_up("a run did not end after its deadline")
            elif silent_looks > self._most_silent_looks:
                self._give_up("the event loop was held longer than any request may take")

    def _give_up(self, reason: str) -> None:
        self._is_given_up = True
        self._count.inc()
        log.critical("%s; this process takes no more requests, and ends with exit code %d", reason, EXIT_CODE)
        os.kill(os.getpid(), signal.SIGTERM)  # the server closes its sockets and finishes the requests under way
        if self._turned.wait(ANSWER_SECONDS):
            self._over.wait(DRAIN_SECONDS)
        _end()


def _end() -> None:
    os._exit(EXIT_CODE)
