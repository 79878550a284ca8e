"""Requests within the process."""

import asyncio
from typing import Any

from service.api.openapi.in_process import Request, send_request, started


class Recorder:
    """An ASGI application that keeps what it is sent."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for end in ("startup", "shutdown"):
                self.seen.append((await receive())["type"])
                await send({"type": f"lifespan.{end}.complete"})
            return
        self.seen.append((scope["method"], scope["path"], (await receive())["body"]))
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b'{"a"', "more_body": True})
        await send({"type": "http.response.body", "body": b": 1}"})


async def test_a_request_is_put_and_its_response_is_whole() -> None:
    app = Recorder()
    received = await send_request(app, Request("post", "/there", b"body"))
    assert app.seen == [("POST", "/there", b"body")]
    assert (received.status, received.document) == (418, {"a": 1})


async def test_an_application_starts_before_and_stops_after() -> None:
    app = Recorder()
    async with started(app):
        app.seen.append("between")
    assert app.seen == ["lifespan.startup", "between", "lifespan.shutdown"]


async def test_the_client_of_a_request_stays_connected_and_sends_nothing_more() -> None:
    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        del scope
        assert (await receive())["body"] == b"once"
        further = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not further.done()
        further.cancel()
        await send({"type": "http.response.start", "status": 200})

    assert (await send_request(waiting, Request("POST", "/", b"once"))).status == 200
