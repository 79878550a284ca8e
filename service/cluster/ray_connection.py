"""The application behind Ray's HTTP server: what that does otherwise than ours, set right where it can be."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID: Final = b"x-request-id"
NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
"""Our own server adds it to every answer."""


class RayConnection:
    """ASGI middleware between Ray's HTTP server and the application.

    Ray cancels a request whose client disconnects. The application has an end of its own for it, which keeps its record
    complete: it goes on, sees the disconnect, and writes nothing. Ray adds an `X-Request-Id` to every answer, so the
    application's own is left out; they are equal where the request had a valid one or none.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = _Sending(send)
        running = asyncio.ensure_future(_run(self._app, scope, receive, sending))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            sending.is_open = False
            raise


class _Sending:
    __slots__ = ("_send", "is_open")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_open = True

    async def __call__(self, message: Message) -> None:
        if not self.is_open:
            return
        if message["type"] == "http.response.start":
            others = (header for header in message.get("headers", ()) if header[0] != REQUEST_ID)
            message = {**message, "headers": [*others, NO_SNIFF]}
        await self._send(message)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
