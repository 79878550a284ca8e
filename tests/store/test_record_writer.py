"""The writer, its thread and what is handed to it, over a store in memory that can be made to fail."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from service.errors import DeadlineExceeded
from service.record_errors import StoreUnavailable
from service.store import commit_thread
from service.store.engine import Store
from service.store.entries import Event, Write
from service.store.record_writer import Writer
from service.store.submissions import Submission

SOON = 30.0


class Memory:
    """A store that keeps its groups, and fails for as long as it is given a reason."""

    def __init__(self) -> None:
        self.groups: list[list[Write]] = []
        self.reason: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_closed = False

    def write(self, writes: Sequence[Write]) -> None:
        self.gate.wait(SOON)
        self.check()
        if any(event.kind == "broken" for write in writes for event in write.events):
            raise TypeError("no engine takes this")
        self.groups.append(list(writes))

    def check(self) -> None:
        if self.reason is not None:
            raise StoreUnavailable(self.reason)

    def close(self) -> None:
        self.is_closed = True


class Seen:
    """What the thread reports."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.ups: list[bool] = []

    def committed(self, submissions: Sequence[Submission], seconds: float) -> None:
        assert seconds >= 0.0
        self.sizes.append(len(submissions))

    def fault(self, *, is_up: bool) -> None:
        self.ups.append(is_up)


@asynccontextmanager
async def writing(store: Memory, seen: Seen | None = None, **bounds: Any) -> AsyncIterator[Writer]:
    writer = Writer(lambda: cast("Store", store), seen or Seen(), **bounds)
    async with writer.running():
        try:
            yield writer
        finally:
            store.gate.set()


def entry(kind: str = "alias") -> Write:
    return Write(events=[Event(0, kind, "{}")])


def soon() -> float:
    return asyncio.get_running_loop().time() + SOON


async def until_it_is_up(writer: Writer) -> None:
    deadline = soon()
    while writer.fault is not None:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_what_waits_together_is_committed_together():
    store, seen = Memory(), Seen()
    async with writing(store, seen) as writer:
        store.gate.clear()
        submissions = [writer.submit(entry()) for _ in range(20)]
        store.gate.set()
        await asyncio.gather(*[submission.durable(soon()) for submission in submissions])
    assert sum(seen.sizes) == 20
    assert len(seen.sizes) <= 2  # the first alone, or all
    assert store.is_closed


async def test_entries_are_written_in_the_order_in_which_they_came():
    store = Memory()
    async with writing(store) as writer:
        last = [writer.submit(entry(f"k{i}")) for i in range(50)][-1]
        await last.durable(soon())
    assert [write.events[0].kind for group in store.groups for write in group] == [f"k{i}" for i in range(50)]


async def test_while_the_store_fails_everything_fails_with_its_reason_and_is_accepted_again_after():
    store, seen = Memory(), Seen()
    async with writing(store, seen) as writer:
        store.reason = "the disk is full"
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await writer.submit(entry()).durable(soon())
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            writer.submit(entry())
        store.reason = None
        await until_it_is_up(writer)
        await writer.submit(entry()).durable(soon())
    assert seen.ups == [False, True]


async def test_an_entry_that_no_engine_takes_fails_alone():
    store = Memory()
    async with writing(store) as writer:
        store.gate.clear()
        good, broken, other = (writer.submit(entry(kind)) for kind in ("alias", "broken", "alias"))
        store.gate.set()
        await asyncio.gather(good.durable(soon()), other.durable(soon()))
        with pytest.raises(StoreUnavailable, match="unexpected"):
            await broken.durable(soon())
        assert writer.fault is None


async def test_more_than_may_wait_is_refused_at_once():
    store = Memory()
    async with writing(store, most_waiting=3) as writer:
        store.gate.clear()
        for _ in range(3):
            writer.submit(entry())
        with pytest.raises(StoreUnavailable, match="too much"):
            writer.submit(entry())
        assert writer.waiting == 3


async def test_more_bytes_than_may_wait_are_refused_at_once():
    async with writing(Memory(), most_bytes=100) as writer:
        with pytest.raises(StoreUnavailable, match="too much"):
            writer.submit(entry())


async def test_who_waits_is_let_go_at_its_deadline_and_the_entry_is_written_all_the_same():
    store = Memory()
    async with writing(store) as writer:
        store.gate.clear()
        submission = writer.submit(entry())
        with pytest.raises(DeadlineExceeded):
            await submission.durable(asyncio.get_running_loop().time() + 0.01)
        store.gate.set()
        await submission.durable(soon())
    assert len(store.groups) == 1


async def test_one_who_gives_up_takes_nothing_from_the_others():
    store = Memory()
    async with writing(store) as writer:
        store.gate.clear()
        submission = writer.submit(entry())
        first, second = submission.durable(soon()), submission.durable(soon())
        first.cancel()
        store.gate.set()
        await second
    assert len(store.groups) == 1


async def test_what_waits_at_the_end_is_written():
    store = Memory()
    async with writing(store) as writer:
        submissions = [writer.submit(entry()) for _ in range(3)]
    await asyncio.sleep(0)
    assert sum(map(len, store.groups)) == 3
    assert all(submission.is_done for submission in submissions)


async def test_another_use_of_the_connection_comes_after_the_writes_before_it():
    store = Memory()
    async with writing(store) as writer:
        writer.submit(entry())
        assert await writer.use(lambda used: len(cast("Memory", used).groups)) == 1


async def test_a_chore_that_fails_does_not_end_the_thread():
    class Broken:
        def run(self, store: Store, *, is_last: bool) -> None:
            del store, is_last
            raise TypeError("a chore of a test")

    store = Memory()
    async with writing(store, chores=[Broken()]) as writer:
        await writer.submit(entry()).durable(soon())
        await writer.submit(entry()).durable(soon())
    assert len(store.groups) == 2


async def test_a_store_that_fails_while_nothing_is_written_is_found_out(monkeypatch):
    monkeypatch.setattr(commit_thread, "IDLE_SECONDS", 0.02)
    store = Memory()
    async with writing(store) as writer:
        store.reason = "the disk is full"
        deadline = soon()
        while writer.fault is None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        assert writer.fault == "the disk is full"
        store.reason = None
        await until_it_is_up(writer)
