"""Several workers on the same sockets: one that ends is replaced, on SIGHUP all are, and they end together.

uvicorn's supervisor waits for one thing at a time: while it waits for a worker, it takes no signal and replaces no
other. Here each worker has a task of its own. The supervisor accepts no connection; it holds the sockets, so that those
which wait there outlive a worker.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from uvicorn.config import STARTUP_FAILURE

from service.api import last_connections
from service.api.server import UNWIND_SECONDS, EndTimes
from service.api.worker_messages import CLOSE, DRAIN, LEAVE
from service.api.worker_process import Target, WorkerProcess

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
"""Seconds before another try to replace a worker, where those before have ended soon."""

log = logging.getLogger("temperance")


class WorkersCannotStart(Exception):
    """A first worker has ended before it was ready."""


class Place:
    """One of the workers that there are to be; processes take it one after the other.

    Parameters
    ----------
    target : callable
        What a worker runs.
    times : EndTimes
    """

    def __init__(self, target: Target, times: EndTimes) -> None:
        self._target, self._times = target, times
        self._changes = asyncio.Lock()
        self._serving: WorkerProcess | None = None
        self._pause = 0.0  # before the next try
        self.workers: set[WorkerProcess] = set()  # the one that serves, one that starts, those that leave

    async def keep(self) -> None:
        """Have a worker serve here, as long as the task runs.

        Raises
        ------
        WorkersCannotStart
        """
        async with self._changes:
            self._serving = await self._begun()
        while True:
            await self._serving.over.wait()
            async with self._changes:
                if self._serving.over.is_set():
                    self._serving = await self._replaced(self._serving)

    async def renew(self) -> bool:
        """Let a new worker take the place of the one that serves; False if it cannot, and the old one stays."""
        async with self._changes:
            new = self._started()
            if new is None or not await self._serves(new):
                return False
            old, self._serving = self._serving, new
        if old is not None:
            await self._left(old)
        return True

    async def _begun(self) -> WorkerProcess:
        worker = self._started()
        if worker is not None and await self._serves(worker):
            return worker
        code = None if worker is None else worker.exit_code
        if worker is None or code is None or code >= 0:
            raise WorkersCannotStart
        return await self._replaced(worker)  # a signal has ended it

    async def _replaced(self, old: WorkerProcess) -> WorkerProcess:
        log.warning("worker %s %s; another takes its place", old.pid, _how(old))
        if not old.ended.is_set():
            old.send(LEAVE)
        self._pause = 0.0 if old.has_lasted else self._longer_pause()
        while True:
            await asyncio.sleep(self._pause)
            new = self._started()
            if new is not None and await self._serves(new):
                return new
            self._pause = self._longer_pause()
            log.error("no worker takes the place of %s; the next try is in %g seconds", old.pid, self._pause)

    def _longer_pause(self) -> float:
        return min(2.0 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)

    def _started(self) -> WorkerProcess | None:
        self.workers = {worker for worker in self.workers if not worker.ended.is_set()}
        try:
            worker = WorkerProcess(self._target)
        except OSError as error:
            log.error("a worker cannot be started: %s", error.strerror)  # noqa: TRY400  # the trace says nothing more
            return None
        self.workers.add(worker)
        return worker

    async def _serves(self, worker: WorkerProcess) -> bool:
        if await worker.serves():
            return True
        if not worker.ended.is_set():
            worker.kill()
            await worker.ended.wait()
        return False

    async def _left(self, old: WorkerProcess) -> None:
        old.send(LEAVE)
        await old.end_within(self._times.process + UNWIND_SECONDS)


class Supervisor:
    """Keeps workers until a signal ends them.

    Parameters
    ----------
    target : callable
        What a worker runs.
    workers : int
    listeners : sequence of socket
        That the workers accept from.
    times : EndTimes
    """

    def __init__(self, target: Target, workers: int, listeners: Sequence[socket.socket], times: EndTimes) -> None:
        self._listeners, self._times = listeners, times
        self._places = [Place(target, times) for _ in range(workers)]
        self._ends, self._ends_now, self._renews = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self) -> int:
        """Serve until the end; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._renews.set)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(place.keep()) for place in self._places]
        tasks += [asyncio.create_task(self._renew()), asyncio.create_task(self._ends.wait())]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        errors = [error for task in done if (error := task.exception()) is not None]
        try:
            if errors and not self._ends.is_set():
                raise errors[0]
            await self._end()
        except WorkersCannotStart:
            await self._kill(self._workers())
            return STARTUP_FAILURE
        return 0

    def _terminate(self) -> None:
        (self._ends_now if self._ends.is_set() else self._ends).set()

    def _interrupt(self) -> None:
        if self._ends_now.is_set() or (self._ends.is_set() and not self._times.drain):
            for worker in self._workers():  # who presses Control-C again waits for no client
                worker.kill()
        self._ends_now.set()
        self._ends.set()

    async def _renew(self) -> None:
        while True:
            await self._renews.wait()
            self._renews.clear()
            log.info("workers are replaced one after the other")
            for place in self._places:
                if not await place.renew():
                    log.error("a new worker did not become ready; those that serve stay")
                    break
            else:
                log.info("all workers were replaced")

    async def _end(self) -> None:
        workers = self._workers()
        await self._kill([worker for worker in workers if not worker.ready.is_set()])
        for worker in workers:
            worker.send(DRAIN)
        await self._drain(workers)
        await last_connections.last_accepted(self._listeners)
        for worker in workers:
            worker.send(CLOSE)
        closing = asyncio.create_task(self._close_later())
        await asyncio.gather(*(worker.end_within(self._times.process + UNWIND_SECONDS) for worker in workers))
        closing.cancel()
        last_connections.close(self._listeners)

    async def _drain(self, workers: Sequence[WorkerProcess]) -> None:
        if not self._times.drain or self._ends_now.is_set():
            return
        log.info("not ready; connections are accepted for %g more seconds", self._times.drain)
        ended, now = asyncio.create_task(_all_ended(workers)), asyncio.create_task(self._ends_now.wait())
        await asyncio.wait([ended, now], timeout=self._times.drain, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        now.cancel()

    async def _close_later(self) -> None:
        # Workers close their handles first; one that does not turn would keep clients waiting.
        await asyncio.sleep(2.0 * UNWIND_SECONDS)
        last_connections.close(self._listeners)

    def _workers(self) -> list[WorkerProcess]:
        every = [worker for place in self._places for worker in place.workers]
        return [worker for worker in every if not worker.ended.is_set()]

    async def _kill(self, workers: Sequence[WorkerProcess]) -> None:
        for worker in workers:
            worker.kill()
        with suppress(TimeoutError):
            await asyncio.wait_for(_all_ended(workers), UNWIND_SECONDS)


async def _all_ended(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        await worker.ended.wait()


def _how(worker: WorkerProcess) -> str:
    if not worker.ended.is_set():
        return "must end"
    return f"has ended with exit code {worker.exit_code}"
