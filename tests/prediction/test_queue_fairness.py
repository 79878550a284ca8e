"""Whom the queue serves first, whom it refuses, and that nothing is left behind."""

import asyncio
import threading
import time
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle.runtime_options import Runtime
from service.errors import DeadlineExceeded, Overloaded
from service.prediction.queue import Queue
from service.runtime.timing import INLINE_SECONDS, RunTime
from tests.prediction.doubling import POISON, Asking, Counted, Doubling, answer, queue_of, row, turns

SLOW = RunTime(0.0, 10.0 * INLINE_SECONDS)


def bounded(run_time: RunTime = SLOW, *, seconds: float = 0.25, **limits: object) -> Queue:
    return Queue(Runtime.model_validate(limits), Counted(), run_time, seconds=seconds)


async def test_one_caller_with_many_requests_does_not_delay_another(blocked, gate, started) -> None:
    queue, order = queue_of(execution="thread", batch_rows=4), list[str]()
    first = await started(queue, blocked)

    async def ask(caller: str) -> None:
        await answer(queue, Asking(blocked), row(2.0), caller=caller)
        order.append(caller)

    asked = [asyncio.ensure_future(ask("noisy")) for _ in range(40)]
    await turns()
    asked += [asyncio.ensure_future(ask("quiet")) for _ in range(3)]
    await turns()
    gate.set()
    await asyncio.gather(first, *asked)
    assert order[:8].count("quiet") == 3


async def test_requests_of_one_caller_are_run_in_the_order_of_arrival(blocked, gate, started) -> None:
    queue, order = queue_of(execution="thread", batch_rows=4), list[int]()
    first = await started(queue, blocked)

    async def ask(number: int) -> None:
        await answer(queue, Asking(blocked), row(float(number)))
        order.append(number)

    asked = [asyncio.ensure_future(ask(number)) for number in range(30)]
    await turns()
    gate.set()
    await asyncio.gather(first, *asked)
    assert order == list(range(30))


async def test_what_waits_and_runs_is_what_admission_looks_at(blocked, gate, started) -> None:
    queue = bounded(execution="thread")
    queue.admit(1000, caller="a")
    first = await started(queue, blocked)
    waiting = [asyncio.ensure_future(answer(queue, Asking(blocked), row(2.0), caller="a")) for _ in range(30)]
    await turns()
    with pytest.raises(Overloaded):
        queue.admit(1, caller="a")
    queue.admit(1, caller="b")
    for one in waiting[:20]:
        one.cancel()
    await turns()
    queue.admit(1, caller="a")
    gate.set()
    await asyncio.gather(first, *waiting[20:])
    assert queue.backlog.is_short
    assert sum(blocked.runs) == 11


async def test_a_request_that_cannot_be_answered_in_time_is_refused_and_not_queued() -> None:
    model = Doubling(run_time=RunTime(0.0, 10.0))
    with pytest.raises(Overloaded):
        await answer(bounded(RunTime(0.0, 10.0)), Asking(model), row(1.0), deadline=time.monotonic() + 1.0)
    assert model.runs == []


@pytest.mark.parametrize("run_time", [SLOW, RunTime(0.0, 0.6 * INLINE_SECONDS)])
async def test_the_first_run_on_the_thread_ends_no_request_late(run_time: RunTime) -> None:
    gate = threading.Event()
    model = Doubling(gate=gate, run_time=run_time)
    queue, deadline = bounded(run_time), time.monotonic() + 0.05
    requests = (answer(queue, Asking(model), row(1.0, n=2), deadline=deadline) for _ in range(2))
    found = await asyncio.gather(*requests, return_exceptions=True)
    gate.set()
    assert [type(one) for one in found] == [DeadlineExceeded] * 2
    assert time.monotonic() < deadline + 5.0


Step = tuple[str, float, int, bool]

steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([1.0, 2.0, POISON]), st.integers(1, 9), st.booleans()),
    max_size=25,
)


@settings(deadline=None)
@given(steps, st.sampled_from(["inline", "thread"]))
def test_after_any_arrivals_answers_failures_and_disconnected_clients_nothing_is_left(
    script: list[Step], execution: str
) -> None:
    queue, model = bounded(seconds=1e9, execution=execution, batch_rows=8), Doubling(run_time=SLOW)

    async def play() -> list[Any]:
        requests: list[asyncio.Future[Any]] = []
        for caller, value, rows, leaves in script:
            request = asyncio.ensure_future(answer(queue, Asking(model), row(value, n=rows), caller=caller))
            requests.append(request)
            await asyncio.sleep(0)
            if leaves:
                request.cancel()
        return await asyncio.gather(*requests, return_exceptions=True)

    found = asyncio.run(play())
    for outcome, (_, value, rows, leaves) in zip(found, script, strict=True):
        left = leaves and isinstance(outcome, asyncio.CancelledError)
        assert left or (isinstance(outcome, ValueError) if value == POISON else len(outcome) == rows)
    assert queue.backlog.is_short
    assert queue.backlog.wait("a", 1) == 0.0
    assert len(cast("Any", queue)._waiting) == 0
