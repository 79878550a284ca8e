"""One worker as its supervisor sees it: it starts, it is ready, it is silent, it has ended.

Tested in `tests/api/test_supervisor.py`.
"""

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from service.api.worker_messages import READY, REPLACE

SILENT_SECONDS: Final = 30
"""For which a worker may send nothing."""
REPLACE_SECONDS: Final = 0.5
"""After which a worker that must be replaced is: where all processes get SIGTERM, the supervisor has had it by then."""
START_SECONDS: Final = 600
"""In which a worker must be ready, as long as it is not silent: it loads every model."""
LASTING_SECONDS: Final = 2.0
"""A worker that ends sooner is likely to end so again."""
_LOOK_SECONDS: Final = 1.0

log = logging.getLogger("temperance")

Target = Callable[[socket.socket], None]


class WorkerProcess:
    """A process that serves; made on a running event loop.

    Parameters
    ----------
    target : callable
        What it runs, with its end of the connection to the supervisor.

    Attributes
    ----------
    ready : asyncio.Event
        Set once it accepts connections.
    ended : asyncio.Event
        Set once it is no more.
    over : asyncio.Event
        Set once it has ended or must be replaced.
    ready_at : float
        When it accepted connections, on the clock of the event loop.

    Raises
    ------
    OSError
        If no process can be started.
    """

    def __init__(self, target: Target) -> None:
        self.ready, self.ended, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._loop, self._silent_looks, self.ready_at = asyncio.get_running_loop(), 0, 0.0
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        theirs.setblocking(False)
        self._process = _SPAWN.Process(target=target, args=(theirs,))
        try:
            with theirs:
                _start(self._process)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)
        self._loop.add_reader(self._process.sentinel, self._end)
        self._loop.call_later(_LOOK_SECONDS, self._look)

    @property
    def pid(self) -> int | None:
        """Of its process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that has ended it; None before."""
        return self._process.exitcode

    @property
    def has_lasted(self) -> bool:
        """Whether it has served for some time."""
        return self.ready.is_set() and self._loop.time() - self.ready_at > LASTING_SECONDS

    async def serves(self) -> bool:
        """Whether it accepts connections; False if it has ended before, or needs too long."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ready, self.over)]
        await asyncio.wait(waits, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.ready.is_set() and not self.over.is_set()

    def send(self, word: bytes) -> None:
        """Send a message; a process that is no more gets none."""
        with suppress(OSError):
            self._socket.send(word)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    async def end_within(self, seconds: float) -> None:
        """Wait for its end, and then end it."""
        try:
            await asyncio.wait_for(self.ended.wait(), seconds)
        except TimeoutError:
            log.error("worker %s does not end and is killed", self.pid)  # noqa: TRY400  # the trace says nothing more
            self.kill()
            await self.ended.wait()

    def _receive(self) -> None:
        try:
            words = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        self._silent_looks = 0
        if READY in words:
            self.ready_at = self._loop.time()
            self.ready.set()
        if REPLACE in words:
            self._loop.call_later(REPLACE_SECONDS, self.over.set)
        if not words:
            self._loop.remove_reader(self._socket)

    def _look(self) -> None:
        # Looks are counted, not seconds: a service that was suspended has not been silent.
        self._silent_looks += 1
        if self._silent_looks * _LOOK_SECONDS > SILENT_SECONDS:
            log.error("worker %s has been silent for %d seconds and is killed", self.pid, SILENT_SECONDS)
            self.kill()
        elif not self.ended.is_set():
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._process.join()
        self.ended.set()
        self.over.set()


def _start(process: multiprocessing.process.BaseProcess) -> None:
    # Control-C in a terminal reaches every process. Workers start with it blocked; it is for the supervisor alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_SPAWN: Final = multiprocessing.get_context("spawn")
