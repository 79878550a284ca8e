"""Workers under their supervisor: started, replaced, renewed and ended; with real servers in `test_serving.py`."""

import asyncio
import errno
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from uvicorn.config import STARTUP_FAILURE

from service.api.server import EndTimes
from service.api.supervisor import Place, Supervisor, WorkersCannotStart
from service.api.worker_messages import DRAIN
from tests import workers

TIMES = EndTimes(drain=0.0, deadline=0.5)


def files(folder: Path, pattern: str = "*") -> int:
    return len(list(folder.glob(pattern)))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def serving(place: Place) -> set[int]:
    """Processes that are ready and have not ended."""
    return {worker.pid or 0 for worker in place.workers if worker.ready.is_set() and not worker.ended.is_set()}


@asynccontextmanager
async def kept(target: Callable[..., None], folder: Path) -> AsyncIterator[Place]:
    """A place whose worker is ready, or was ready and has been replaced already."""
    place = Place(partial(target, folder), TIMES)
    keeping = asyncio.create_task(place.keep())
    try:
        await until(lambda: bool(serving(place)) or keeping.done() or files(folder) > 1)
        yield place
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        for worker in place.workers:
            worker.kill()
            await worker.ended.wait()


async def test_a_first_worker_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkersCannotStart):
        await Place(partial(workers.end_at_once, tmp_path), TIMES).keep()
    assert files(tmp_path) == 1


async def test_workers_that_cannot_be_started_end_the_service_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("service.api.worker_process.socket.socketpair", no_more_files)
    supervisor = Supervisor(partial(workers.serve, tmp_path), 3, [], TIMES)
    assert await supervisor.run() == STARTUP_FAILURE
    del supervisor
    gc.collect()  # asyncio tells of errors that nothing has looked at
    assert {record.getMessage() for record in caplog.records} == {"a worker cannot be started: Too many open files"}


def no_more_files() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    async with kept(workers.serve, tmp_path) as place:
        (first,) = serving(place)
        os.kill(first, signal.SIGKILL)
        await until(lambda: serving(place) > set() and first not in serving(place))


async def test_workers_that_end_at_once_are_replaced_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    began = time.monotonic()  # a worker that ends so soon may never be seen to serve
    async with kept(workers.end_once_ready, tmp_path):
        await until(lambda: files(tmp_path) >= 5)
        assert time.monotonic() - began > 0.25 + 0.5 + 1.0 + 2.0


async def test_a_replacement_that_cannot_start_is_tried_again_until_it_can(tmp_path: Path) -> None:
    async with kept(workers.serve_once, tmp_path) as place:
        (first,) = serving(place)
        os.kill(first, signal.SIGKILL)
        await until(lambda: files(tmp_path, "failed-*") >= 2)
        (tmp_path / "repaired").touch()
        await until(lambda: bool(serving(place)))


async def test_a_new_worker_is_ready_before_the_old_one_leaves(tmp_path: Path) -> None:
    async with kept(workers.serve, tmp_path) as place:
        (first,) = serving(place)
        renewed = asyncio.create_task(place.renew())
        while not renewed.done():
            assert serving(place)
            await asyncio.sleep(0.01)
        assert await renewed
        assert serving(place)
        assert not psutil.pid_exists(first)


async def test_the_old_worker_stays_where_the_new_one_cannot_start(tmp_path: Path) -> None:
    async with kept(workers.serve_once, tmp_path) as place:
        first = serving(place)
        assert not await place.renew()
        assert serving(place) == first


async def test_a_worker_that_does_not_leave_is_killed_in_time(tmp_path: Path) -> None:
    async with kept(workers.ignore_everything, tmp_path) as place:
        (first,) = serving(place)
        began = time.monotonic()
        assert await place.renew()
        assert first not in serving(place)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(("number", "least", "most"), [(signal.SIGTERM, 3.0, 60.0), (signal.SIGINT, 0.0, 3.0)])
async def test_a_signal_ends_all_workers_after_the_time_for_balancers(
    number: signal.Signals, least: float, most: float, tmp_path: Path
) -> None:
    supervisor = Supervisor(partial(workers.serve, tmp_path), 2, [], EndTimes(drain=3.0, deadline=0.5))
    running = asyncio.create_task(supervisor.run())
    await until(lambda: files(tmp_path) == 2)
    await asyncio.sleep(0.2)  # for what the workers have sent
    began = time.monotonic()
    os.kill(os.getpid(), number)
    assert await running == 0
    assert least <= time.monotonic() - began < most
    assert files(tmp_path, f"*-{DRAIN.decode()}") == 2


async def test_a_second_signal_ends_the_time_for_balancers(tmp_path: Path) -> None:
    supervisor = Supervisor(partial(workers.serve, tmp_path), 1, [], EndTimes(drain=60.0, deadline=0.5))
    running = asyncio.create_task(supervisor.run())
    await until(lambda: files(tmp_path) == 1)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: files(tmp_path, f"*-{DRAIN.decode()}") == 1 or running.done())
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 20) == 0


@pytest.mark.long
async def test_a_worker_that_is_silent_is_killed_and_replaced(tmp_path: Path) -> None:
    async with kept(workers.ignore_everything, tmp_path) as place:
        (first,) = serving(place)
        began = time.monotonic()
        while first in serving(place):
            assert time.monotonic() - began < 60
            await asyncio.sleep(0.1)
        await until(lambda: bool(serving(place)))
