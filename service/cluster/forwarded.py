"""A request and its answer as values that travel between processes, and the application run on them.

What travels is what came: method, path, header fields and body, byte for byte. Who sends a request is found from them
by the application that answers it, and by nothing that a forwarder adds.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

CARRIED: Final = ("http_version", "method", "scheme", "path", "raw_path", "query_string", "client", "server")
"""Of a scope. Its state is not: that is made by the process which answers."""
TYPE: Final = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "root_path": ""}


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A whole request.

    Attributes
    ----------
    scope : dict of str to object
        Its members that are carried.
    headers : tuple of (bytes, bytes)
    body : bytes
    """

    scope: dict[str, Any]
    headers: Headers
    body: bytes

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> "Forwarded":
        """What came."""
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        return cls({name: scope[name] for name in CARRIED if name in scope}, headers, body)

    def asgi(self) -> Scope:
        """The scope of an application that is to answer it."""
        return {**TYPE, **self.scope, "headers": list(self.headers), "state": {}}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes
    ----------
    status : int
    headers : tuple of (bytes, bytes)
    body : bytes
    replica : str
        Which replica gave it.
    """

    status: int
    headers: Headers
    body: bytes
    replica: str = ""

    async def send(self, send: Send) -> None:
        """Send it to the client."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body})

    def of(self, replica: str) -> "Reply":
        """The same, as a replica's."""
        return replace(self, replica=replica)

    def with_body(self, body: bytes) -> "Reply":
        """The same with another body."""
        others = tuple(header for header in self.headers if header[0] != b"content-length")
        return replace(self, headers=(*others, (b"content-length", str(len(body)).encode())), body=body)


@dataclass(slots=True)
class Exchange:
    """A connection of values: the application reads one request from it, and writes one answer to it.

    Attributes
    ----------
    body : bytes or None
        None once it was read.
    left : Event
        Set when the client disconnects.
    started : Message or None
        How the answer begins.
    parts : list of bytes
    """

    body: bytes | None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    started: Message | None = None
    parts: list[bytes] = field(default_factory=list)

    async def receive(self) -> Message:
        """The body, then the end of the connection, once it comes."""
        body, self.body = self.body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take in a part of the answer."""
        if message["type"] == "http.response.start":
            self.started = message
        else:
            self.parts.append(message.get("body", b""))

    def reply(self) -> Reply | None:
        """The answer; None where the application gave none, since the client had left."""
        if self.started is None:
            return None
        headers = tuple((bytes(name), bytes(value)) for name, value in self.started["headers"])
        return Reply(self.started["status"], headers, b"".join(self.parts))


class Forwardable:
    """An application that answers requests which come as values.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running: set[asyncio.Task[None]] = set()

    async def answer(self, request: Forwarded) -> Reply | None:
        """The answer; a caller that is cancelled is, to the application, a client that disconnects."""
        exchange = Exchange(request.body)
        running = asyncio.ensure_future(_run(self._app, request.asgi(), exchange.receive, exchange.send))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            exchange.left.set()
            raise
        return exchange.reply()


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
