import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from service.bundle.sections import Runtime
from service.core.numerics import Array
from service.errors import DeadlineExceeded, Overloaded
from service.runtime.batching import INLINE_SECONDS, Batcher, Run
from service.runtime.rows import Rows

POISON = -1.0


class Doubling:
    """A model that doubles its rows, remembers every run, and fails on poison."""

    def __init__(self, *, gate: threading.Event | None = None) -> None:
        self.runs: list[int] = []
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self._gate = gate

    def __call__(self, rows: Rows, /, *, deadline: float | None = None) -> Array:
        del deadline
        assert isinstance(rows, np.ndarray)
        self.entered.set()
        if self._gate is not None:
            self._gate.wait(10.0)
        self.runs.append(len(rows))
        self.threads.add(threading.current_thread().name)
        if (rows == POISON).any():
            raise ValueError(f"{int((rows == POISON).any(axis=1).argmax())}")
        doubled: Array = 2.0 * rows
        return doubled


def row(value: float, n: int = 1) -> Array:
    return np.full((n, 3), value)


async def ask_together(batcher: Batcher[Array], *rows: Array) -> list[Array | BaseException]:
    return await asyncio.gather(*(batcher.answer(part) for part in rows), return_exceptions=True)


@pytest.fixture(params=["inline", "thread", "auto"])
def execution(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def batcher_of() -> Callable[..., Batcher[Array]]:
    def make(run: Run[Array], **limits: object) -> Batcher[Array]:
        return Batcher(run, Runtime.model_validate(limits))

    return make


async def test_everyone_gets_the_answer_to_their_own_rows(batcher_of, execution) -> None:
    batcher = batcher_of(Doubling(), execution=execution)
    parts = [row(float(i), n=1 + i % 3) for i in range(50)]
    for part, answer in zip(parts, await ask_together(batcher, *parts), strict=True):
        np.testing.assert_array_equal(answer, 2.0 * part)


async def test_requests_that_come_together_share_a_run(batcher_of, execution) -> None:
    run = Doubling()
    await ask_together(batcher_of(run, execution=execution), *(row(1.0) for _ in range(40)))
    assert sum(run.runs) == 40
    assert len(run.runs) <= 2


async def test_a_lone_request_waits_for_no_turn_of_the_loop(batcher_of) -> None:
    batcher = batcher_of(Doubling(), execution="inline")
    for _ in range(3):
        answering = batcher.answer(row(1.0))
        with pytest.raises(StopIteration):
            answering.send(None)  # it would be suspended here if it waited for anything
        await asyncio.sleep(0)


async def test_a_poisoned_row_fails_its_own_request_and_no_other(batcher_of, execution) -> None:
    run = Doubling()
    parts = [row(float(i), n=2) for i in range(1, 17)]
    parts[11] = np.array([[1.0, 1.0, 1.0], [1.0, POISON, 1.0]])
    answers = await ask_together(batcher_of(run, execution=execution), *parts)
    assert isinstance(answers[11], ValueError)
    assert str(answers[11]) == "1"  # the row as its own request counts it
    for i, (part, answer) in enumerate(zip(parts, answers, strict=True)):
        if i != 11:
            np.testing.assert_array_equal(answer, 2.0 * part)
    assert len(run.runs) < 12


async def test_a_run_joins_no_more_rows_than_it_may(batcher_of, execution) -> None:
    run = Doubling()
    batcher = batcher_of(run, execution=execution, batch_rows=8)
    await ask_together(batcher, *(row(1.0, n=3) for _ in range(20)), row(2.0, n=30))
    assert sum(run.runs) == 90
    assert {n for n in run.runs if n > 8} == {30}  # a single request is never cut


async def test_batching_can_be_turned_off(batcher_of, execution) -> None:
    run = Doubling()
    await ask_together(batcher_of(run, execution=execution, batch_rows=1), *(row(1.0) for _ in range(9)))
    assert run.runs == [1] * 9


@pytest.mark.parametrize(("execution", "named"), [("inline", "MainThread"), ("thread", "batches_0")])
async def test_the_manifest_says_where_runs_happen(batcher_of, execution, named) -> None:
    run = Doubling()
    await ask_together(batcher_of(run, execution=execution), *(row(1.0) for _ in range(5)))
    assert run.threads == {named}


async def test_by_itself_a_model_runs_inline_only_while_that_keeps_nobody_waiting(batcher_of) -> None:
    def taking(seconds: float, *, a_row: float) -> Run[Array]:
        def run(rows: Rows, /, *, deadline: float | None = None) -> Array:
            del deadline
            end = time.perf_counter() + seconds + a_row * len(rows)
            while time.perf_counter() < end:
                pass
            return np.asarray(rows)

        return run

    dear, cheap = batcher_of(taking(2.0 * INLINE_SECONDS, a_row=0.0)), batcher_of(taking(0.0, a_row=1e-5))
    dear.warm_up(row(1.0))
    cheap.warm_up(row(1.0))
    assert not dear.inline(1)
    assert cheap.inline(1)
    assert not cheap.inline(1000)


async def test_the_loop_stays_free_while_a_thread_is_at_work(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    answering = asyncio.ensure_future(batcher_of(run, execution="thread").answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    assert not answering.done()
    gate.set()
    np.testing.assert_array_equal(await answering, row(2.0))


async def test_what_queued_while_a_run_was_busy_is_the_next_run(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    batcher = batcher_of(run, execution="thread")
    first = asyncio.ensure_future(batcher.answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    others = [asyncio.ensure_future(batcher.answer(row(2.0))) for _ in range(7)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert run.runs == [1, 7]


async def test_a_full_queue_refuses_and_those_in_it_are_answered(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    batcher = batcher_of(run, execution="thread", queue=3)
    first = asyncio.ensure_future(batcher.answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    others = [asyncio.ensure_future(batcher.answer(row(2.0))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.answer(row(3.0))
    gate.set()
    assert len(await asyncio.gather(first, *others)) == 4
    np.testing.assert_array_equal(await batcher.answer(row(3.0)), row(6.0))


async def test_those_who_have_gone_make_room_in_a_full_queue(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    batcher = batcher_of(run, execution="thread", queue=3)
    first = asyncio.ensure_future(batcher.answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    others = [asyncio.ensure_future(batcher.answer(row(2.0))) for _ in range(3)]
    await asyncio.sleep(0)
    others[0].cancel()
    await asyncio.sleep(0)
    late = asyncio.ensure_future(batcher.answer(row(3.0)))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others[1:], late)
    assert run.runs == [1, 3]


async def test_a_request_whose_time_ran_out_is_told_so_and_never_run(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    batcher = batcher_of(run, execution="thread")
    first = asyncio.ensure_future(batcher.answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    with pytest.raises(DeadlineExceeded):
        await batcher.answer(row(2.0), deadline=time.monotonic() + 0.01)
    gate.set()
    await first
    await batcher.answer(row(3.0))
    assert run.runs == [1, 1]


async def test_a_request_whose_time_is_over_before_its_turn_is_never_run_inline_either(batcher_of) -> None:
    run = Doubling()
    batcher = batcher_of(run, execution="inline")
    past = time.monotonic() - 1.0
    answers = await asyncio.gather(
        batcher.answer(row(1.0)), *(batcher.answer(row(2.0), deadline=past) for _ in range(2)), return_exceptions=True
    )
    assert [type(answer).__name__ for answer in answers] == ["ndarray", "DeadlineExceeded", "DeadlineExceeded"]
    assert run.runs == [1]


async def test_a_request_whose_client_has_gone_is_not_run(batcher_of) -> None:
    gate = threading.Event()
    run = Doubling(gate=gate)
    batcher = batcher_of(run, execution="thread")
    first = asyncio.ensure_future(batcher.answer(row(1.0)))
    await asyncio.to_thread(run.entered.wait, 10.0)
    gone, stays = (asyncio.ensure_future(batcher.answer(row(2.0))) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    gate.set()
    await asyncio.gather(first, stays)
    assert run.runs == [1, 1]


async def test_what_was_done_is_counted(batcher_of, execution) -> None:
    batcher = batcher_of(Doubling(), execution=execution)
    await ask_together(batcher, row(1.0, n=4), row(1.0, n=2))
    assert batcher.tally.rows == 6
    assert 1 <= batcher.tally.runs <= 2
    assert batcher.tally.seconds > 0.0
    assert batcher.tally.last > 0.0
