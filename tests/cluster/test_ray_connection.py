"""Behind Ray's HTTP server: what it cancels goes on, and what it adds is there once."""

import asyncio

import pytest

from service.cluster.ray_connection import RayConnection

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"x-request-id", b"1"), (b"temperance-id", b"1")],
}


async def nothing():
    return {"type": "http.request", "body": b""}


async def test_the_request_id_is_left_to_ray_and_no_sniff_is_added():
    sent = []

    async def app(scope, receive, send):
        await send(START)

    async def send(message):
        sent.append(message)

    await RayConnection(app)(SCOPE, nothing, send)
    assert sent[0]["headers"] == [(b"temperance-id", b"1"), (b"x-content-type-options", b"nosniff")]


async def test_a_request_that_ray_cancels_goes_on_and_sends_nothing_more():
    sent, steps = [], []
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        began.set()
        await goes_on.wait()
        await send(START)
        steps.append("recorded")

    async def send(message):
        sent.append(message)

    answering = asyncio.create_task(RayConnection(app)(SCOPE, nothing, send))
    await began.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    goes_on.set()
    while not steps:
        await asyncio.sleep(0)
    assert sent == []


async def test_a_lifespan_passes():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await RayConnection(app)({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
