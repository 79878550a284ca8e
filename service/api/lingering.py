"""How a connection ends: its last answer arrives, whatever the client still sends, and whether or not it reads.

A connection that is closed while its client sends is reset, and a reset takes with it what the client has not read. So
only our half is closed, and for a while what comes is read and dropped (RFC 9112, section 9.6).

Tested in `tests/api/test_http_protocol.py`.
"""

import asyncio
import select
import socket
from contextlib import suppress
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.connection_scan import ConnectionScan
from service.api.ending import ENDING, Ending
from service.api.http_limits import LINGER_SECONDS, MOST_UNREAD, HttpLimits


class _Outlet(asyncio.Transport):
    """The transport as those know it who answer: closing it is the protocol's, and a head leaves with its body."""

    def __init__(self, transport: asyncio.Transport, protocol: "LingeringProtocol") -> None:
        super().__init__()
        self._transport, self._protocol = transport, protocol
        self._holds, self._head = False, b""

    def hold(self) -> None:
        """Keep what is written next until more is."""
        self._holds = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._holds:
            self._holds, self._head = False, bytes(data)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._protocol.end()

    def abort(self) -> None:
        self._protocol.abort()

    def is_closing(self) -> bool:
        return self._protocol.has_ended or self._transport.is_closing()


class WholeAnswers(RequestResponseCycle):
    """uvicorn's exchange of one request, whose answer leaves in one write.

    A process that is killed between two writes leaves half an answer, which no proxy can ask another server for again.
    One whose application fails between the two leaves none.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer; see ASGI."""
        outlet = cast("_Outlet", self.transport)
        if message["type"] == "http.response.start":
            outlet.hold()
        elif self.scope["method"] == "HEAD":  # uvicorn writes nothing more
            outlet.write(b"")
        await super().send(message)


class LingeringProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end of its own.

    Parameters
    ----------
    config : uvicorn.Config
    server_state : ServerState
    app_state : dict
        State of the application's lifespan; its `Ending` is there.
    limits : HttpLimits
    scan : ConnectionScan
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: HttpLimits,
        scan: ConnectionScan,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits, self._scan = limits, scan
        self._ending: Ending = app_state[ENDING]
        self.direct = cast("asyncio.Transport", None)
        self.received = 0  # bytes of this request, as far as they are counted; after the end, those that are dropped
        self._ended_at: float | None = None
        self._unsent, self._moved_at = 0, self.loop.time()

    @property
    def has_ended(self) -> bool:
        """Whether the last answer is written, and nothing but the end of the connection is awaited."""
        return self._ended_at is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected."""
        super().connection_made(transport)
        self.direct, self.transport = transport, _Outlet(transport, self)
        self._scan.add(self, self.loop)
        if self._ending.patience is not None:  # after a handshake, for instance
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._ended_at = self.loop.time()
        self._scan.remove(self)
        super().connection_lost(exc)

    def end(self, *, is_outstanding: bool = False) -> None:
        """Close, once the client has what was written to it.

        Parameters
        ----------
        is_outstanding : bool
            Whether it may still send more of what it has begun.
        """
        if self._ended_at is not None:
            return
        self._ended_at, self.received = self.loop.time(), 0
        if not (is_outstanding or self.has_unread()):
            self.direct.close()
            return
        self.flow.resume_reading()
        if self.direct.can_write_eof():
            self.direct.write_eof()

    def end_unused(self) -> None:
        """Close a connection on which no request is awaited any more, unless one has just arrived.

        The client must learn of it at once: what it sends after that is lost, and the event loop closes a connection
        only after all that it has to do before.
        """
        if self.has_unread():
            return
        if self.scheme == "http":  # TLS ends with a message of its own
            # The client may have been faster, and there may be no descriptor left.
            with suppress(OSError), socket.fromfd(self._descriptor(), socket.AF_INET, socket.SOCK_STREAM) as same:
                same.shutdown(socket.SHUT_WR)
        self.end()

    def abort(self) -> None:
        """Close at once."""
        self._ended_at = self.loop.time()
        self.direct.abort()

    def drop(self) -> None:
        """Bytes have come that are of no use."""
        if self.received > MOST_UNREAD:
            self.abort()

    def check(self, now: float) -> None:
        """End whatever has waited for too long by ``now``, a time of the event loop."""
        is_over = self._ended_at is not None and now - self._ended_at > LINGER_SECONDS
        if self._is_stalled(now) or (is_over and not self._unsent):
            self.abort()

    def has_unread(self) -> bool:
        """Whether bytes lie in the socket: the loop may have been busy while a request arrived."""
        poll = select.poll()
        poll.register(self._descriptor(), select.POLLIN)
        return bool(poll.poll(0))

    def _descriptor(self) -> int:
        number: int = self.direct.get_extra_info("socket").fileno()
        return number

    def _is_stalled(self, now: float) -> bool:
        unsent = self.direct.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        most = self.limits.stalled_seconds if self._ending.patience is None else LINGER_SECONDS
        return now - self._moved_at > most
