"""HTTP/1.1 on one connection: uvicorn's protocol on httptools, strict and bounded in bytes and in time.

The parser knows the grammar. Here is what it leaves open: how much a head may hold and how long it may take, what a
server must refuse though it can be read, and how a connection ends so that its last answer arrives. Whatever is refused
here is answered in the form of the service's other errors, counted and logged.
"""

import asyncio
import select
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api import request_head
from service.api.connection_scan import ConnectionScan
from service.api.http_errors import MalformedHttp, MethodNotAllowed, RequestTimeout
from service.api.http_limits import LINGER_SECONDS, MOST_FRAMING, MOST_PIPELINED, MOST_UNREAD, HttpLimits
from service.api.refusals import KEEP_ALIVE, REFUSALS, Refusals
from service.errors import Draining, ServiceError

_ONE_HOP: Final = frozenset({b"upgrade", b"http2-settings"})


class _Outlet(asyncio.Transport):
    """The transport, as those know it who answer: closing it is the protocol's, which lets the answer arrive first."""

    def __init__(self, transport: asyncio.Transport, protocol: "StrictHttpProtocol") -> None:
        super().__init__()
        self._transport, self._protocol = transport, protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._protocol.end()

    def is_closing(self) -> bool:
        return self._protocol.has_ended or self._transport.is_closing()


class StrictHttpProtocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    config : uvicorn.Config
    server_state : ServerState
    app_state : dict
        State of the application's lifespan; its `Refusals` are there.
    limits : HttpLimits
    scan : ConnectionScan
    """

    def __init__(  # uvicorn's, and two more
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
        self._limits, self._scan = limits, scan
        self._refusals: Refusals = app_state[REFUSALS]
        self._raw: asyncio.Transport = cast("asyncio.Transport", None)
        self.url = b""
        # Where the connection is: between requests, within a head, within a body, at its end.
        self._waits, self._in_head, self._has_begun, self._is_whole = True, False, False, True
        self._since = self.loop.time()  # what is awaited now: the next request, its head, the end of a dropped body
        self._answered: RequestResponseCycle | None = None  # whose answer is being made
        self._failure: ServiceError | None = None  # after which nothing can be read any more
        self._ended_at: float | None = None
        self._draining_since: float | None = None
        # What it has sent: bytes of this request, of the last read, of data in the body; fields that need a check.
        self._received = self._fed = self._data = 0
        self._is_chunked = self._keeps_after_body = False
        self._watched: list[tuple[bytes, bytes]] = []
        self._checked: list[tuple[bytes, bytes]] | None = None
        self._unsent, self._moved_at = 0, self._since

    @property
    def has_ended(self) -> bool:
        """Whether the last answer is written, and nothing but the end of the connection is awaited."""
        return self._ended_at is not None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected."""
        super().connection_made(transport)
        self._raw, self.transport = transport, _Outlet(transport, self)
        self._scan.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._ended_at = self.loop.time()
        self._scan.remove(self)
        if self._answered is not None:
            _disconnect(self._answered)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._fed = len(data)
        self._received += self._fed
        if self._ended_at is not None or self._failure is not None:
            self._drop()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._fail(request_head.meaning_of(error, data))
        if self._in_head or self._waits or self._is_chunked:
            self._check_received()

    def _drop(self) -> None:
        if self._received > MOST_UNREAD:
            self._abort()

    def _check_received(self) -> None:
        if self._failure is not None:
            return
        if self._in_head or self._waits:
            if self._waits and not self._has_begun:
                self._has_begun, self._since = True, self.loop.time()
            if self._received > self._limits.header_bytes + request_head.MOST_URL:
                is_url = len(self.url) > request_head.MOST_URL if self._in_head else False
                most = self._limits.header_bytes
                self._fail(request_head.too_long() if is_url else request_head.too_large(most))
        elif self._received - self._data > self._limits.header_bytes + MOST_FRAMING:
            self._fail(MalformedHttp("send larger chunks, without extensions"))

    def _ignore_upgrade(self, rest: bytes) -> None:
        # The parser reads no body after an upgrade. None is made here, so the request begins again without its wish:
        # what would be its body must not be read as the next request.
        while rest is not None:
            lines = [b"%s: %s\r\n" % field for field in self.headers if field[0] not in _ONE_HOP]
            first = b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            data = b"".join([first, *lines, b"\r\n", rest])
            self._fed = 0
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                self._fail(request_head.meaning_of(error, data))
            return

    # The parser's events

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head, self._is_chunked = True, False
        self._received, self._data = self._fed, 0
        self._watched = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or behind the body, where it is dropped."""
        if not self._in_head:
            return
        name = name.lower()
        if name in request_head.WATCHED:
            self._watched.append((name, value))
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: the application is called."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MethodNotAllowed("this server is no proxy")
            return
        self._check_head()
        is_first = self.cycle is None or self.cycle.response_complete
        super().on_headers_complete()
        self._in_head = self._waits = self._has_begun = self._is_whole = False
        if is_first:
            self._answered = self.cycle
        if self.expect_100_continue:
            # Whether the body still comes after an answer without "100 Continue" cannot be known.
            self._keeps_after_body, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self._draining_since is not None or not self.cycle.keep_alive:
            _make_last(self.cycle)

    def _check_head(self) -> None:
        if self.has_ended:
            raise MalformedHttp("the connection ends")
        most = self._limits.header_bytes
        if len(self.headers) > request_head.MOST_FIELDS or not 0 < self._received <= most:
            request_head.check_size(self.headers, most)
        self.url = request_head.target_of(self.url, self.parser.get_method())
        version = self.parser.get_http_version()
        # Nearly every request of a connection has the fields of the one before.
        if version != "1.1" or self._watched != self._checked:
            self._check_watched(version)
        if len(self.pipeline) >= MOST_PIPELINED:
            raise MalformedHttp("await an answer before sending more requests")

    def _check_watched(self, version: str) -> None:
        request_head.check_version(version)
        request_head.check_watched(self._watched, version)
        names = [name for name, _ in self._watched]
        self._is_chunked = b"transfer-encoding" in names
        self.expect_100_continue = (b"expect", b"100-continue") in [(n, v.lower()) for n, v in self._watched]
        self._checked = self._watched if names == [b"host"] else None

    def on_body(self, body: bytes) -> None:
        """Bytes of a body."""
        self._data += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            if self._data > MOST_UNREAD:
                self.end()
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        if self.parser.should_upgrade():
            return
        self._is_whole = True
        self._received = self._fed = 0
        self.url = b""
        if self.cycle.response_complete:
            self._await_request()
            return
        if self.expect_100_continue and not self.cycle.response_started and self._draining_since is None:
            self.cycle.keep_alive = self._keeps_after_body
        self.cycle.more_body = False
        self.cycle.message_event.set()

    # Answers

    def on_response_complete(self) -> None:
        """An answer is written; the next request is begun or awaited."""
        self.server_state.total_requests += 1
        self._answered = None
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._answered, app = self.pipeline.pop()
            self._start_asgi_task(self._answered, app)
        elif self._failure is not None:
            self._refuse(self._failure)
        elif self._draining_since is not None and self._is_whole:
            self.end()
        else:
            self._since = self.loop.time()
            if self._is_whole:
                self._await_request()

    def _await_request(self) -> None:
        self._waits, self._has_begun, self._since = True, self._in_head, self.loop.time()

    def _fail(self, failure: ServiceError) -> None:
        """Read no more; answers that are owed are given first, in their order."""
        self._failure = failure
        if self._in_head or self.cycle is None or self._is_whole:
            if self._answered is None:
                self._refuse(failure)
            return
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
        elif self._answered is None or self._answered.response_started:
            self.end()
        else:
            _disconnect(self._answered)
            self._answered = None
            self._refuse(failure)

    def _refuse(self, failure: ServiceError) -> None:
        if self.transport.is_closing():
            return
        method = self.parser.get_method().decode() if self.url else ""
        path = self.url.partition(b"?")[0].decode("latin-1")
        default = self.server_state.default_headers
        self._raw.write(self._refusals.answer(failure, method=method, path=path, default_headers=default))
        self.end()

    # The end

    def end(self) -> None:
        """Close, once the client has what was written to it.

        A connection that is closed while its client still sends is reset, and a reset takes the answer with it. So only
        our half is closed, and for a while what comes is read and dropped.
        """
        if self._ended_at is not None:
            return
        self._ended_at, self._received = self.loop.time(), 0
        if self._is_whole and self._failure is None and not self._has_unread():
            self._raw.close()
            return
        self.flow.resume_reading()
        if self._raw.can_write_eof():
            self._raw.write_eof()

    def _abort(self) -> None:
        self._ended_at = self.loop.time()
        self._raw.abort()

    def shutdown(self) -> None:
        """The process ends: what is under way is finished, nothing new is begun."""
        self._draining_since = self.loop.time()
        if self.has_ended:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            _make_last(self.cycle)
        elif self._has_begun:
            self._fail(Draining("the process ends; send the request again"))
        elif self._waits and not self._has_unread():
            self.end()

    def check(self, now: float) -> None:
        """End whatever has waited for too long by ``now``, a time of the event loop."""
        if self._is_stalled(now):
            self._abort()
        elif self._ended_at is not None:
            if now - self._ended_at > LINGER_SECONDS and not self._unsent:
                self._abort()
        elif self._waits:
            self._check_wait(now)
        elif not self._is_whole:
            self._check_body(now)

    def _is_stalled(self, now: float) -> bool:
        unsent = self._raw.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        most = self._limits.stalled_seconds if self._draining_since is None else LINGER_SECONDS
        return now - self._moved_at > most

    def _check_wait(self, now: float) -> None:
        waited, limits = now - self._since, self._limits
        if self._has_begun:
            if waited > limits.header_seconds:
                self._fail(RequestTimeout(f"send the head of a request within {limits.header_seconds:g} seconds"))
            return
        most = limits.header_seconds if self.cycle is None else limits.keep_alive
        if waited > (most if self._draining_since is None else 0.0) and not self._has_unread():
            self.end()

    def _check_body(self, now: float) -> None:
        if self.cycle.response_complete:
            if now - self._since > LINGER_SECONDS:
                self.end()
        elif self._draining_since is not None and now - self._draining_since > LINGER_SECONDS:
            self._fail(RequestTimeout("the process ends, and the body has not arrived"))

    def _has_unread(self) -> bool:
        # The loop may have been busy while a request arrived: then it is no time to close.
        poll = select.poll()
        poll.register(self._raw.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _make_last(cycle: RequestResponseCycle) -> None:
    cycle.keep_alive = False
    cycle.default_headers = [field for field in cycle.default_headers if field[0] != KEEP_ALIVE]
