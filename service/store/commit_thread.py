"""The one thread of a process that writes to the store: whatever waits is committed together.

Group commit costs one sync of the disk for all requests that wait for it, and takes no clock: a group is what came
while the last one was written. When the store fails, everything that waits fails with the reason, and the store is
tried again twice a second until it can be written. Tested in tests/store/test_record_writer.py.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from service.errors import ServiceError
from service.log_format import error_lines
from service.record_errors import StoreUnavailable
from service.store.engine import Store
from service.store.submissions import Submission, Use

MOST_TOGETHER: Final = 512  # submissions in one transaction
CHECK_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 5.0
"""Between two looks at chores while nothing is written."""
END_SECONDS: Final = 5.0
UNEXPECTED: Final = "an unexpected error, which the log describes"

log = logging.getLogger("temperance")

Job = Submission | Use | None
"""None is the last one."""
Settle = Callable[[Sequence[Submission], ServiceError | None], None]


class Chore(Protocol):
    """Something that the thread does beside commits: anchors, old replies, measurements."""

    def run(self, store: Store, *, is_last: bool) -> None:
        """Do what is due; ``is_last`` at the end of the process."""


class Observer(Protocol):
    """Takes in what the thread did."""

    def committed(self, submissions: Sequence[Submission], seconds: float) -> None:
        """A group is durable."""

    def fault(self, *, is_up: bool) -> None:
        """The store failed, or can be written again."""


class CommitThread:
    """Owns a connection, from its start to its end.

    Parameters
    ----------
    connect : callable
        Opens the store; called on the thread.
    settle : callable
        Called on the event loop, once for a group, with its submissions and why they are not in the store.
    observer : Observer
    chores : sequence of Chore

    Attributes
    ----------
    fault : str or None
        Why nothing can be written now.
    busy_since : float or None
        When the commit under way began, on the monotonic clock.
    """

    def __init__(
        self, connect: Callable[[], Store], settle: Settle, observer: Observer, chores: Sequence[Chore] = ()
    ) -> None:
        self._connect, self._settle, self._observer, self._chores = connect, settle, observer, chores
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self.fault: str | None = None
        self.busy_since: float | None = None

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
            self._thread.start()

    def put(self, job: Submission | Use) -> None:
        """Hand over a job."""
        self._jobs.put(job)

    def end(self) -> None:
        """Write what waits, do the last chores, close the connection; in `END_SECONDS`."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(END_SECONDS)
            self._thread = None

    # On the thread

    def _work(self) -> None:
        is_over = False
        while not is_over:
            jobs = self._next()
            is_over = None in jobs
            self._do([job for job in jobs if job is not None])
            if self.fault is not None:
                self._recover()
            self._run_chores(is_last=is_over)
        self._disconnect()

    def _next(self) -> list[Job]:
        # The first that comes, and whatever has come by then.
        jobs: list[Job] = []
        with suppress(Empty):
            jobs.append(self._jobs.get(timeout=IDLE_SECONDS if self.fault is None else CHECK_SECONDS))
            while len(jobs) < MOST_TOGETHER and jobs[-1] is not None:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _do(self, jobs: Sequence[Submission | Use]) -> None:
        submissions = [job for job in jobs if isinstance(job, Submission)]
        if submissions:
            self._commit(submissions)
        for job in jobs:  # after the writes that came before them
            if isinstance(job, Use):
                self._use(job)

    def _commit(self, submissions: list[Submission]) -> None:
        self.busy_since = started = time.monotonic()
        failure = self._write(submissions)
        self.busy_since = None
        if failure is None:
            self._observer.committed(submissions, time.monotonic() - started)
        if isinstance(failure, Unexpected) and len(submissions) > 1:
            for submission in submissions:  # one of them fails, and it alone
                self._commit([submission])
            return
        _post(submissions[0].loop, self._settle, submissions, failure)

    def _write(self, submissions: Sequence[Submission]) -> ServiceError | None:
        try:
            self._connected().write([submission.write for submission in submissions])
        except ServiceError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, others wait for this thread
            log.error("a record could not be written", extra={"error_lines": error_lines(error)})  # noqa: TRY400
            self._disconnect()  # whose state is not known any more
            return Unexpected(UNEXPECTED)
        return None

    def _use(self, job: Use) -> None:
        outcome: object = None
        failure: ServiceError | None = None
        try:
            outcome = job.use(self._connected())
        except ServiceError as error:
            failure = self._failed(error) if isinstance(error, StoreUnavailable) else error
        except Exception as error:  # noqa: BLE001  # as above
            log.error("the store could not be used", extra={"error_lines": error_lines(error)})  # noqa: TRY400
            self._disconnect()
            failure = StoreUnavailable(UNEXPECTED)
        _post(job.loop, job.settle, outcome, failure)

    def _connected(self) -> Store:
        if self.fault is not None:
            raise StoreUnavailable(self.fault)
        if self._store is None:
            self._store = self._connect()
        return self._store

    def _disconnect(self) -> None:
        if self._store is not None:
            with suppress(ServiceError):
                self._store.close()
            self._store = None

    def _failed(self, error: ServiceError) -> StoreUnavailable:
        if self.fault is None:
            log.error("records cannot be kept: %s", error.detail)
            self._observer.fault(is_up=False)
        self.fault = error.detail
        return StoreUnavailable(error.detail)

    def _recover(self) -> None:
        try:
            if self._store is None:
                self._store = self._connect()
            self._store.check()
        except ServiceError as error:
            self.fault = error.detail
        except Exception as error:  # noqa: BLE001  # as above
            log.error("the store could not be opened", extra={"error_lines": error_lines(error)})  # noqa: TRY400
            self._disconnect()
        else:
            self.fault = None
            log.info("records can be kept again")
            self._observer.fault(is_up=True)

    def _run_chores(self, *, is_last: bool) -> None:
        for chore in self._chores:
            if self.fault is not None or self._store is None:
                return
            try:
                chore.run(self._store, is_last=is_last)
            except ServiceError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001  # records are kept, whatever a chore meets
                log.error("a chore of the store failed", extra={"error_lines": error_lines(error)})  # noqa: TRY400


class Unexpected(StoreUnavailable):
    """An error that no engine should raise, of one of the writes."""


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # a loop that is closed waits for nothing
        loop.call_soon_threadsafe(call, *arguments)
