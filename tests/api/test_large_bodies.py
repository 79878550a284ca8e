"""Large bodies: bounded in bytes, parsed one after the other, and the event loop answers others between them."""

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from service.api.large_bodies import LARGEST, Held, LargeBodies
from service.errors import DeadlineExceeded, Overloaded

LATER = time.monotonic() + 3600.0


class Sender:
    """ASGI's receive: a body in parts."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = list(sizes)

    async def __call__(self) -> Message:
        size = self._sizes.pop(0)
        return {"type": "http.request", "body": b"x" * size, "more_body": bool(self._sizes)}


async def iterations(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_body_is_parsed_in_an_iteration_of_the_loop() -> None:
    bodies, iteration, parsed_in = LargeBodies(), 0, list[int]()

    async def count() -> None:
        nonlocal iteration
        while len(parsed_in) < 20:
            iteration += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.gather(
        *(bodies.parse(lambda _: parsed_in.append(iteration), b"x", deadline=LATER) for _ in range(20))
    )
    await counting
    assert len(set(parsed_in)) == 20
    assert parsed_in == sorted(parsed_in)


async def test_the_largest_are_parsed_on_a_thread_one_after_the_other() -> None:
    bodies, gate, entered, at_once, most = LargeBodies(), threading.Event(), threading.Event(), 0, 0

    def parse(_: bytes) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        entered.set()
        gate.wait(10.0)
        at_once -= 1
        return threading.current_thread().name

    body = b"x" * (LARGEST + 1)
    parsing = [asyncio.ensure_future(bodies.parse(parse, body, deadline=LATER)) for _ in range(3)]
    await asyncio.to_thread(entered.wait, 10.0)
    await iterations(5)
    assert not any(one.done() for one in parsing)
    gate.set()
    assert set(await asyncio.gather(*parsing)) == {"bodies_0"}
    assert most == 1


async def test_a_body_whose_time_is_over_is_not_parsed() -> None:
    parsed: list[bytes] = []
    with pytest.raises(DeadlineExceeded):
        await LargeBodies().parse(parsed.append, b"x", deadline=time.monotonic() - 1.0)
    assert parsed == []


async def test_a_body_at_fault_keeps_no_other_waiting() -> None:
    def parse(body: bytes) -> bytes:
        if body == b"bad":
            raise ValueError("bad")
        return body

    bodies = LargeBodies()
    parsing = (bodies.parse(parse, body, deadline=LATER) for body in (b"a", b"bad", b"b"))
    one, failed, other = await asyncio.gather(*parsing, return_exceptions=True)
    assert (one, str(failed), other) == (b"a", "bad", b"b")


async def test_bodies_that_would_wait_too_long_are_refused_and_one_alone_never_is() -> None:
    bodies, gate = LargeBodies(seconds=0.01), threading.Event()
    bodies.check_wait()
    body = b"x" * (8 * LARGEST)
    parsing = [asyncio.ensure_future(bodies.parse(lambda _: gate.wait(10.0), body, deadline=LATER)) for _ in range(2)]
    await iterations(3)
    with pytest.raises(Overloaded):
        bodies.check_wait()
    gate.set()
    await asyncio.gather(*parsing)
    bodies.check_wait()


async def test_cancelled_bodies_wait_no_more() -> None:
    bodies, gate = LargeBodies(seconds=0.01), threading.Event()
    body = b"x" * (8 * LARGEST)
    parsing = [asyncio.ensure_future(bodies.parse(lambda _: gate.wait(10.0), body, deadline=LATER)) for _ in range(3)]
    await iterations(3)
    for one in parsing:
        one.cancel()
    await asyncio.gather(*parsing, return_exceptions=True)
    bodies.check_wait()
    gate.set()
    assert await bodies.parse(len, body, deadline=LATER) == len(body)


async def test_bytes_of_others_leave_no_room_for_more_than_the_bound() -> None:
    bodies = LargeBodies(most=1000)
    with Held(bodies, Sender(600, 600)) as one, Held(bodies, Sender(300, 300)) as other:
        await one()
        await other()
        with pytest.raises(Overloaded):
            await other()
        with pytest.raises(Overloaded):
            bodies.check_room(200)
        bodies.check_room(100)
    assert bodies.held == 0


async def test_a_body_alone_may_have_more_than_the_bound() -> None:
    bodies = LargeBodies(most=1000)
    with Held(bodies, Sender(900, 900, 900)) as alone:
        for _ in range(3):
            await alone()
        assert bodies.held == 2700


async def test_bytes_that_were_declared_and_did_not_come_hold_nothing() -> None:
    bodies = LargeBodies(most=1000)
    with Held(bodies, Sender(10)), Held(bodies, Sender(1000)) as other:
        await other()
        assert bodies.held == 1000


@given(st.lists(st.tuples(st.lists(st.integers(0, 500), min_size=1, max_size=4), st.booleans()), max_size=12))
def test_after_any_requests_nothing_is_held(requests: list[tuple[list[int], bool]]) -> None:
    bodies = LargeBodies(most=1000)

    async def request(sizes: list[int], *, fails: bool) -> None:
        with Held(bodies, Sender(*sizes)) as held:
            for _ in sizes:
                await held()
                assert bodies.held <= 1000 + max(sizes) * len(sizes)
                await asyncio.sleep(0)
            if fails:
                raise ValueError("broken")

    async def all_of_them() -> None:
        await asyncio.gather(*(request(sizes, fails=fails) for sizes, fails in requests), return_exceptions=True)

    asyncio.run(all_of_them())
    assert bodies.held == 0
