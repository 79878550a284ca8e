import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import DeadlineExceeded, Overloaded
from service.record_errors import StoreUnavailable
from service.store.engine import Store, open_store
from service.store.reading import Readers
from service.store.streams import Stream


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[], Store]:
    return lambda: open_store(f"sqlite://{tmp_path}/audit.db")


def streams(store: Store) -> list[Stream]:
    return store.streams()


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_a_reading_runs_on_another_thread_with_a_connection(connect: Callable[[], Store]) -> None:
    readers = Readers(connect)
    here, seen = threading.get_ident(), []

    def reading(store: Store) -> int:
        seen.append(threading.get_ident())
        return len(store.streams())

    assert await readers.read(reading, deadline=soon()) == 0
    assert seen != [here]
    readers.close()


async def test_a_connection_serves_many_readings_and_one_that_failed_none(connect: Callable[[], Store]) -> None:
    opened = []

    def counted() -> Store:
        opened.append(connect())
        return opened[-1]

    def failing(_: Store) -> None:
        raise StoreUnavailable("the disk reports an error")

    readers = Readers(counted, connections=1)
    for _ in range(3):
        await readers.read(streams, deadline=soon())
    assert len(opened) == 1
    with pytest.raises(StoreUnavailable):
        await readers.read(failing, deadline=soon())
    await readers.read(streams, deadline=soon())
    assert len(opened) == 2
    readers.close()


async def test_a_connection_that_cannot_be_opened_is_tried_again(connect: Callable[[], Store]) -> None:
    attempts = []

    def refused_once() -> Store:
        attempts.append(1)
        if len(attempts) == 1:
            raise StoreUnavailable("the database cannot be opened")
        return connect()

    readers = Readers(refused_once)
    with pytest.raises(StoreUnavailable):
        await readers.read(streams, deadline=soon())
    assert await readers.read(streams, deadline=soon()) == []
    readers.close()


async def test_one_reading_too_many_is_refused_and_none_afterwards(connect: Callable[[], Store]) -> None:
    readers = Readers(connect, connections=1, most_at_once=2)
    gate = threading.Event()
    waiting = [asyncio.ensure_future(readers.read(lambda _: gate.wait(5), deadline=soon())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await readers.read(streams, deadline=soon())
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await readers.read(streams, deadline=soon()) == []
    readers.close()


async def test_a_reading_that_is_late_is_given_up_and_its_connection_kept(connect: Callable[[], Store]) -> None:
    readers = Readers(connect, connections=1)
    gate = threading.Event()
    with pytest.raises(DeadlineExceeded):
        await readers.read(lambda _: gate.wait(5), deadline=asyncio.get_running_loop().time() + 0.02)
    gate.set()
    assert await readers.read(streams, deadline=soon()) == []
    readers.close()
