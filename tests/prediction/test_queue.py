import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from service.errors import DeadlineExceeded, Overloaded
from service.prediction.answer import Part
from service.prediction.joint_answer import Result
from service.prediction.query import Query
from service.runtime.rows import Fields
from service.runtime.timing import INLINE_SECONDS, RunTime
from tests.prediction.doubling import POISON, Asking, Counted, Doubling, answer, queue_of, row, together, turns

Start = Callable[..., Any]


async def test_each_request_gets_the_answer_to_its_own_rows(execution) -> None:
    parts = [row(float(i), n=1 + i % 3) for i in range(50)]
    answers = await together(queue_of(execution=execution), Asking(Doubling()), *parts)
    for part, found in zip(parts, answers, strict=True):
        np.testing.assert_array_equal(found, 2.0 * part)


async def test_requests_that_come_together_share_a_run(execution) -> None:
    model = Doubling()
    await together(queue_of(execution=execution), Asking(model), *(row(1.0) for _ in range(40)))
    assert sum(model.runs) == 40
    assert len(model.runs) <= 2


async def test_requests_that_wait_are_counted_until_they_run_fail_or_leave(
    blocked: Doubling, gate: threading.Event, started: Start
) -> None:
    counts = Counted()
    queue, query = queue_of(counts, execution="thread"), Asking(blocked)
    first = await started(queue, blocked)
    others = [asyncio.ensure_future(answer(queue, query, row(value))) for value in (1.0, 2.0, POISON)]
    await turns()
    assert counts.waiting == 3
    others[0].cancel()
    gate.set()
    await asyncio.gather(first, *others, return_exceptions=True)
    assert (counts.waiting, counts.most_waiting) == (0, 3)


async def test_requests_with_other_queries_share_the_run_and_no_more(execution) -> None:
    model, queue = Doubling(), queue_of(execution=execution)
    one, other = Asking(model), Asking(model)
    requests = [answer(queue, (one, other)[i % 2], row(float(i), n=1 + i % 2)) for i in range(20)]
    for i, found in enumerate(await asyncio.gather(*requests)):
        np.testing.assert_array_equal(found, row(2.0 * i, n=1 + i % 2))
    assert len(model.runs) <= 2
    assert (sum(one.concluded), sum(other.concluded)) == (10, 20)
    assert len(one.concluded) <= 2
    assert len(other.concluded) <= 2


async def test_a_query_that_does_not_join_is_concluded_request_by_request(execution) -> None:
    model = Doubling()
    query = Asking(model, joins=False)
    answers = await together(queue_of(execution=execution), query, *(row(float(i), n=2) for i in range(8)))
    assert query.concluded == [2] * 8
    assert len(model.runs) <= 2
    np.testing.assert_array_equal(answers[5], row(10.0, n=2))


async def test_a_lone_request_waits_for_no_turn_of_the_loop() -> None:
    queue, query = queue_of(execution="inline"), Asking(Doubling())
    for _ in range(3):
        answering = answer(queue, query, row(1.0))
        with pytest.raises(StopIteration):
            answering.send(None)  # it would be suspended here if it waited for anything
        await asyncio.sleep(0)


async def test_a_faulty_row_fails_its_own_request_and_no_other(execution) -> None:
    model = Doubling()
    parts = [row(float(i), n=2) for i in range(1, 17)]
    parts[11] = np.array([[1.0, 1.0, 1.0], [1.0, POISON, 1.0]])
    answers = await together(queue_of(execution=execution), Asking(model), *parts)
    assert isinstance(answers[11], ValueError)
    assert str(answers[11]) == "1"  # the row as its own request counts it
    for i, (part, found) in enumerate(zip(parts, answers, strict=True)):
        if i != 11:
            np.testing.assert_array_equal(found, 2.0 * part)
    assert len(model.runs) < 12


async def test_a_query_that_fails_fails_no_other(execution) -> None:
    model, queue = Doubling(), queue_of(execution=execution)
    good, bad = Asking(model), Asking(model, fails=True)
    requests = [answer(queue, bad if i == 3 else good, row(float(i))) for i in range(6)]
    found = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(one).__name__ for one in found] == ["RuntimeError" if i == 3 else "ndarray" for i in range(6)]


async def test_a_run_joins_no_more_rows_than_it_may(execution) -> None:
    model = Doubling()
    queue = queue_of(execution=execution, batch_rows=8)
    await together(queue, Asking(model), *(row(1.0, n=3) for _ in range(20)), row(2.0, n=30))
    assert sum(model.runs) == 90
    assert {n for n in model.runs if n > 8} == {30}  # a single request is never cut


async def test_batching_can_be_turned_off(execution) -> None:
    model = Doubling()
    await together(queue_of(execution=execution, batch_rows=1), Asking(model), *(row(1.0) for _ in range(9)))
    assert model.runs == [1] * 9


async def test_rows_that_are_not_alike_are_run_apart_whatever_their_order(execution) -> None:
    def tensor(width: int) -> Fields:
        return Fields(row(1.0), {"x": np.zeros((1, width))})

    model = Doubling()
    queue = queue_of(execution=execution)
    await together(queue, Asking(model), *(tensor(2 + i % 2) for i in range(12)))
    assert sum(model.runs) == 12
    assert len(model.runs) <= 3


@pytest.mark.parametrize(("execution", "named"), [("inline", "MainThread"), ("thread", "predictions_0")])
async def test_the_manifest_says_where_runs_happen(execution, named) -> None:
    model = Doubling()
    await together(queue_of(execution=execution), Asking(model), *(row(1.0) for _ in range(5)))
    assert model.threads == {named}


def test_by_itself_a_queue_runs_inline_only_what_keeps_no_other_request_waiting() -> None:
    expensive, cheap = Doubling(run_time=RunTime(2.0 * INLINE_SECONDS)), Doubling(run_time=RunTime(0.0, 1e-5))
    queue = queue_of()
    assert not queue.inline(cast("Any", expensive), 1)
    assert queue.inline(cast("Any", cheap), 1)
    assert not queue.inline(cast("Any", cheap), 1000)


async def test_the_loop_stays_free_while_a_thread_is_at_work(blocked, gate, started) -> None:
    queue = queue_of(execution="thread")
    first = await started(queue, blocked)
    assert not first.done()
    assert not queue.immediate(cast("Any", blocked), 1)
    gate.set()
    np.testing.assert_array_equal(await first, row(2.0))


async def test_what_queued_while_a_run_was_busy_is_the_next_run(blocked, gate, started) -> None:
    queue = queue_of(execution="thread")
    first = await started(queue, blocked)
    others = [asyncio.ensure_future(answer(queue, Asking(blocked), row(2.0))) for _ in range(7)]
    await turns()
    gate.set()
    await asyncio.gather(first, *others)
    assert blocked.runs == [1, 7]


async def test_a_full_queue_refuses_and_those_in_it_are_answered(blocked, gate, started) -> None:
    queue = queue_of(execution="thread", queue=3)
    first = await started(queue, blocked)
    others = [asyncio.ensure_future(answer(queue, Asking(blocked), row(2.0))) for _ in range(3)]
    await turns()
    with pytest.raises(Overloaded):
        await answer(queue, Asking(blocked), row(3.0))
    gate.set()
    assert len(await asyncio.gather(first, *others)) == 4
    np.testing.assert_array_equal(await answer(queue, Asking(blocked), row(3.0)), row(6.0))


async def test_disconnected_clients_make_room_in_a_full_queue_and_are_not_run(blocked, gate, started) -> None:
    queue = queue_of(execution="thread", queue=3)
    first = await started(queue, blocked)
    others = [asyncio.ensure_future(answer(queue, Asking(blocked), row(2.0))) for _ in range(3)]
    await turns()
    others[0].cancel()
    await turns()
    late = asyncio.ensure_future(answer(queue, Asking(blocked), row(3.0)))
    await turns()
    gate.set()
    await asyncio.gather(first, *others[1:], late)
    assert blocked.runs == [1, 3]


async def test_a_request_whose_time_ran_out_is_refused_and_never_run(blocked, gate, started) -> None:
    queue = queue_of(execution="thread")
    first = await started(queue, blocked)
    with pytest.raises(DeadlineExceeded):
        await answer(queue, Asking(blocked), row(2.0), deadline=time.monotonic() + 0.01)
    gate.set()
    await first
    await answer(queue, Asking(blocked), row(3.0))
    assert blocked.runs == [1, 1]


async def test_a_request_whose_time_is_over_before_it_comes_is_never_run_inline_either() -> None:
    queue, model, past = queue_of(execution="inline"), Doubling(), time.monotonic() - 1.0
    query = Asking(model)
    late = (answer(queue, query, row(2.0), deadline=past) for _ in range(2))
    answers = await asyncio.gather(answer(queue, query, row(1.0)), *late, return_exceptions=True)
    assert [type(found).__name__ for found in answers] == ["ndarray", "DeadlineExceeded", "DeadlineExceeded"]
    assert model.runs == [1]


async def test_no_request_depends_on_one_that_was_cancelled(execution) -> None:
    queue, query = queue_of(execution=execution), Asking(Doubling())
    await together(queue, query, *(row(1.0) for _ in range(3)))
    waiting = [asyncio.create_task(answer(queue, query, row(2.0))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5.0)
    assert [type(one).__name__ for one in found[1:]] == ["ndarray", "ndarray"]
    np.testing.assert_array_equal(await asyncio.wait_for(answer(queue, query, row(3.0)), 5.0), row(6.0))


async def test_requests_without_end_do_not_keep_each_other_waiting() -> None:
    done: list[int] = []
    queue, query = queue_of(execution="inline", batch_rows=64), Asking(Doubling())

    async def ask(number: int) -> None:
        await answer(queue, query, row(1.0))
        done.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(256):
            group.create_task(ask(number))
            if number % 4 == 0:
                await asyncio.sleep(0)
        assert done  # some were answered while others still came


async def test_a_joint_answer_is_counted_once_with_all_its_parts(execution) -> None:
    counts = Counted()
    queue = queue_of(counts, execution=execution)
    await together(queue, Asking(Doubling()), *(row(1.0, n=1 + i % 3) for i in range(9)))
    assert sorted(counts.parts) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


async def test_requests_answered_together_share_one_joint_answer() -> None:
    queue, query = queue_of(execution="thread"), Asking(Doubling())
    parts = [Part(str(i), 1) for i in range(5)]
    results: Sequence[Result] = await asyncio.gather(*(queue.answer(cast("Query", query), row(1.0), p) for p in parts))
    assert {id(joint) for joint, _ in results} == {id(results[0][0])}
    assert [joint.parts[place] for joint, place in results] == parts


async def test_what_was_done_is_tallied(execution) -> None:
    model = Doubling()
    await together(queue_of(execution=execution), Asking(model), row(1.0, n=4), row(1.0, n=2), row(POISON))
    assert model.tally.rows == 6
    assert model.tally.failures >= 1
    assert model.tally.seconds > 0.0
    assert model.tally.last > 0.0


async def test_a_queue_keeps_no_model_in_memory(execution) -> None:
    model = Doubling()
    queue, held = queue_of(execution=execution), weakref.ref(model)
    await together(queue, Asking(model), *(row(1.0) for _ in range(3)))
    del model
    await asyncio.to_thread(gc.collect)
    assert held() is None


async def test_an_answer_holds_the_times_of_its_stages(execution) -> None:
    before = time.monotonic()
    queue, query = queue_of(execution=execution), Asking(Doubling())
    requests = (queue.answer(cast("Query", query), row(1.0), Part(str(i), 1)) for i in range(3))
    for joint, place in await asyncio.gather(*requests):
        started, ran, concluded = joint.timings
        assert before <= joint.queued[place] <= started <= ran <= concluded <= time.monotonic()
