"""Requests to an ASGI application in this process."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Scope

from service.access.caller import ANONYMOUS
from service.api.correlation import NONE

REQUEST_ID: Final = "01900000-0000-7000-8000-000000000000"
SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes
    ----------
    method, path : str
    body : bytes
    headers : dict of str to str
    """

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """A response."""

    status: int
    body: bytes

    @property
    def document(self) -> Any:
        """Its JSON; None where it is something else."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


async def send_request(app: ASGIApp, request: Request) -> Response:
    """The response to one request."""
    messages: list[Message] = []
    sent = asyncio.Event()

    async def receive() -> Message:
        if sent.is_set():
            await asyncio.Event().wait()  # the client stays connected
        sent.set()
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(_scope(request), receive, send)
    return Response(messages[0]["status"], b"".join(message.get("body", b"") for message in messages[1:]))


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """An application that has started, and is stopped afterwards."""
    running, ending = asyncio.Event(), asyncio.Event()
    events = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> Message:
        if running.is_set():
            await ending.wait()
        return {"type": next(events)}

    async def send(message: Message) -> None:
        del message
        running.set()

    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    lifespan = asyncio.ensure_future(app(scope, receive, send))
    await running.wait()
    try:
        yield app
    finally:
        ending.set()
        await lifespan


def _scope(request: Request) -> Scope:
    now = time.monotonic()
    headers = {"content-type": "application/json", "content-length": str(len(request.body)), **request.headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method.upper(),
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
        "state": {
            "request_id": REQUEST_ID,
            "correlation": NONE,
            "caller": ANONYMOUS,
            "started": now,
            "body_deadline": now + SECONDS,
            "deadline": now + SECONDS,
        },
    }
