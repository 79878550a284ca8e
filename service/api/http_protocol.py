"""HTTP/1.1 on one connection: uvicorn's protocol on httptools, strict and bounded in bytes and in time.

The parser knows the grammar. Here is what it leaves open: how much a head may hold and how long it may take, what a
server must refuse though it can be read, and what a connection owes to requests that come close together. Whatever is
refused here is answered in the form of the service's other errors, counted and logged.
"""

import asyncio
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.api import request_head
from service.api.connection_scan import ConnectionScan
from service.api.http_errors import MalformedHttp, MethodNotAllowed, RequestTimeout
from service.api.http_limits import FRESH_SECONDS, LINGER_SECONDS, MOST_FRAMING, MOST_PIPELINED, MOST_UNREAD, HttpLimits
from service.api.lingering import LingeringProtocol, WholeAnswers
from service.api.loop_load import LoopLoad
from service.api.refusals import KEEP_ALIVE, REFUSALS, Refusals
from service.errors import BodyTooLarge, Draining, ServiceError

_ONE_HOP: Final = frozenset({b"upgrade", b"http2-settings"})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class StrictHttpProtocol(LingeringProtocol):
    """One connection.

    Parameters
    ----------
    config : uvicorn.Config
    server_state : ServerState
    app_state : dict
        State of the application's lifespan; its `Refusals` and its `Ending` are there.
    limits : HttpLimits
    scan : ConnectionScan
    load : LoopLoad
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
        load: LoopLoad,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits=limits, scan=scan)
        self.load = load
        self._refusals: Refusals = app_state[REFUSALS]
        self.url = b""
        # Where the connection is: between requests, within a head, within a body.
        self._waits, self._has_begun, self._in_head, self._is_whole = True, False, False, True
        self._since = self.loop.time()  # when began what is awaited: a request, its head, the rest of a dropped body
        self._answered: RequestResponseCycle | None = None  # whose answer is being made
        self._failure: ServiceError | None = None  # after which nothing can be read any more
        # Bytes of the last read and of the body; fields that decide how a request is read, and those found in order.
        self._fed = self._data = 0
        self._is_chunked = self._chunk_is_new = self._keeps_after_body = False
        self._before_chunk, self._most_chunk = 0, limits.chunk_bytes
        self._watched: list[tuple[bytes, bytes]] = []
        self._checked: list[tuple[bytes, bytes]] | None = None
        self._closing_at = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        if self._answered is not None:
            _disconnect(self._answered)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._fed = len(data)
        self.received += self._fed
        if self._failure is not None or self._ended_at is not None:
            self.drop()
            return
        if self._waits and data.find(request_head.FIRST_LINE_END, 0, request_head.MOST_URL) < 0:
            self._check_first_line(data)
        rest = self._feed(data)
        while rest is not None:
            rest = self._feed(self._without_upgrade(rest))
        if self._in_head or self._waits:
            self._check_head_so_far()
        elif self._is_chunked:
            self._check_chunks(data)

    def _check_first_line(self, data: bytes) -> None:
        if not self._has_begun and request_head.OTHER_PROTOCOL.match(data):
            self._fail(MalformedHttp("send HTTP/1.1"))

    def _check_head_so_far(self) -> None:
        if self._waits and not self._has_begun:
            self._has_begun, self._since = True, self.loop.time()
        most = self.limits.header_bytes
        if self.received > most + request_head.MOST_URL and self._failure is None:
            is_url = len(self.url) > request_head.MOST_URL
            self._fail(request_head.too_long() if is_url else request_head.too_large(most))

    def _check_chunks(self, data: bytes) -> None:
        if self._failure is not None or self.cycle.response_complete:
            return
        if self.received - self._data > self.limits.header_bytes + MOST_FRAMING:
            self._fail(MalformedHttp("send larger chunks, without extensions"))
        elif self._chunk_is_new and request_head.chunk_size(data, self._data - self._before_chunk) > self._most_chunk:
            self._fail(BodyTooLarge(f"send at most {self._most_chunk} bytes in a chunk"))
        self._chunk_is_new = False

    def _feed(self, data: bytes) -> bytes | None:
        # What follows the head of an upgrade, for the parser stops there.
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._fail(request_head.meaning_of(error, data))
        return None

    def _without_upgrade(self, rest: bytes) -> bytes:
        # The parser reads no body after an upgrade. None is made here, so the request begins again without its wish:
        # what would be its body must not be read as the next request.
        lines = [b"%s: %s\r\n" % field for field in self.headers if field[0] not in _ONE_HOP]
        version = self.parser.get_http_version().encode()
        first = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._fed = 0
        return b"".join([first, *lines, b"\r\n", rest])

    # The parser's events

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.url, self.headers, self._watched = b"", [], []
        self._in_head, self._is_chunked, self.expect_100_continue = True, False, False
        self.received, self._data = self._fed, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or behind the body, where it is dropped."""
        if self._in_head:
            name = name.lower()
            if name in request_head.WATCHED:
                self._watched.append((name, value))
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: the application is called, or will be after the answers before."""
        parser = self.parser
        method, version = parser.get_method(), parser.get_http_version()
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise MethodNotAllowed("this server is no proxy")
            request_head.check_upgrade(self.headers)
            return
        self.url = request_head.target_of(self.url, method)
        self._check_head(version)
        is_first = self.cycle is None or self.cycle.response_complete
        if method == b"POST" and self._is_too_much(version) and is_first:
            self._refuse_unread()
            return
        self.cycle = self._cycle(method.decode(), version)
        self._in_head = self._waits = self._has_begun = self._is_whole = False
        if is_first:
            self._answered = self.cycle
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _is_too_much(self, version: str) -> bool:
        if not self.load.is_high(self.loop, self._refusals.overload) or version != "1.1":
            return False
        return self.parser.should_keep_alive() and not (self._ending.is_leaving or self.expect_100_continue)

    def _refuse_unread(self) -> None:
        # Its body, if it is small, is read over; the connection stays open.
        self.cycle, self._since = _REFUSED, self.loop.time()
        self._in_head = self._waits = self._has_begun = self._is_whole = False
        self.server_state.total_requests += 1
        self.direct.write(self._refusals.overloaded(self.url, self.server_state.default_headers))

    def _check_head(self, version: str) -> None:
        most = self.limits.header_bytes
        if len(self.headers) > request_head.MOST_FIELDS or not 0 < self.received <= most:
            request_head.check_size(self.headers, most)
        # Nearly every request of a connection has the fields of the one before.
        if version != "1.1" or self._watched != self._checked:
            self._check_watched(version)
        if self._ended_at is not None or len(self.pipeline) >= MOST_PIPELINED:
            raise MalformedHttp("await an answer before sending more requests")

    def _check_watched(self, version: str) -> None:
        request_head.check_version(version)
        request_head.check_watched(self._watched, version)
        names = [name for name, _ in self._watched]
        self._is_chunked = b"transfer-encoding" in names
        expects = (b"expect", b"100-continue") in [(n, v.lower()) for n, v in self._watched]
        self.expect_100_continue = expects and version == "1.1"  # RFC 9110, section 10.1.1
        self._checked = self._watched if names == [b"host"] else None

    def _cycle(self, method: str, version: str) -> RequestResponseCycle:
        keeps = version != "1.0" and self.parser.should_keep_alive()
        cycle = WholeAnswers(
            scope=self._scope(method, version),  # type: ignore[arg-type]  # as uvicorn makes it
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keeps,
            on_response=self.on_response_complete,
        )
        if self._ending.is_leaving or not keeps:
            _make_last(cycle)
        elif self.expect_100_continue:
            # Whether a body still follows an answer without "100 Continue" cannot be known.
            self._keeps_after_body, cycle.keep_alive = True, False
        return cycle

    def _scope(self, method: str, version: str) -> dict[str, Any]:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "method": method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
        }

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

    def on_chunk_header(self) -> None:
        """The size of a chunk."""
        self._chunk_is_new, self._before_chunk = True, self._data

    def on_chunk_complete(self) -> None:
        """The last byte of a chunk."""
        self._chunk_is_new = False

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        if self.parser.should_upgrade():
            return
        self._is_whole, self.url = True, b""
        self.received = self._fed = 0
        cycle, keeps = self.cycle, self._keeps_after_body
        self._keeps_after_body = False
        if cycle.response_complete:
            self._await_request()
            return
        if keeps and not (cycle.response_started or self._ending.is_leaving):
            cycle.keep_alive = True
        cycle.more_body = False
        cycle.message_event.set()

    # Answers

    def on_response_complete(self) -> None:
        """An answer is written; the next request is begun or awaited."""
        self.server_state.total_requests += 1
        self._answered = None
        if self._ended_at is not None:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._answered, app = self.pipeline.pop()
            self._start_asgi_task(self._answered, app)
        elif self._failure is not None:
            self._refuse(self._failure)
        elif self._is_whole:
            self._await_request()
        else:
            self._since = self.loop.time()

    def _await_request(self) -> None:
        self._waits, self._has_begun, self._since = True, self._in_head, self.loop.time()

    def _fail(self, failure: ServiceError) -> None:
        """Read no more; answers that are owed are given first, in their order."""
        self._failure = failure
        if self._in_head or self.cycle is None or self._is_whole:
            if self._answered is None:
                self._refuse(failure)
        elif self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
        elif self._answered is None:
            self.end()
        else:
            _disconnect(self._answered)
            if self._answered.response_started:
                self.end()
            else:
                self._refuse(failure)

    def _refuse(self, failure: ServiceError) -> None:
        if self.transport.is_closing():
            return
        method = self.parser.get_method().decode() if self.url else ""
        path = self.url.partition(b"?")[0].decode("latin-1")
        default = self.server_state.default_headers
        self.direct.write(self._refusals.answer(failure, method=method, path=path, default_headers=default))
        self.end()

    # The end

    def end(self, *, is_outstanding: bool = False) -> None:
        """Close, once the client has what was written to it."""
        super().end(is_outstanding=is_outstanding or not self._is_whole or self._failure is not None)

    def shutdown(self) -> None:
        """The process listens no more: what is under way is finished, and the connection ends."""
        self._closing_at = self.loop.time()
        if self.has_ended:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            _make_last(self.cycle)
        elif self._waits:
            self._check_wait(self._closing_at)

    def check(self, now: float) -> None:
        """End whatever has waited for too long by ``now``, a time of the event loop."""
        super().check(now)
        if self._ended_at is not None:
            return
        if self._waits:
            self._check_wait(now)
        elif not self._is_whole:
            self._check_body(now)

    def _check_wait(self, now: float) -> None:
        limits, patience, waited = self.limits, self._ending.patience, now - self._since
        is_over = patience is not None and now - self._closing_at >= patience.head
        if not self._has_begun:
            usual, least = (limits.header_seconds, FRESH_SECONDS) if self.cycle is None else (limits.keep_alive, 0.0)
            if waited >= usual or (is_over and waited >= least):
                self.end_unused()
        elif waited > limits.header_seconds:
            self._fail(RequestTimeout(f"send the head of a request within {limits.header_seconds:g} seconds"))
        elif is_over:
            self._fail(Draining("the process ends; send the request again"))

    def _check_body(self, now: float) -> None:
        if self.cycle.response_complete:
            if now - self._since > LINGER_SECONDS:
                self.end()
        elif (patience := self._ending.patience) is not None and now - self._closing_at > patience.body:
            self._fail(RequestTimeout("the process ends, and the body has not arrived"))


class _Refused:
    """In place of the cycle of a request that the application never sees."""

    response_complete = True
    message_event = asyncio.Event()  # set when the connection is lost; nothing waits for it


_REFUSED: Final = cast("RequestResponseCycle", _Refused())


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _make_last(cycle: RequestResponseCycle) -> None:
    cycle.keep_alive = False
    cycle.default_headers = [field for field in cycle.default_headers if field[0] != KEEP_ALIVE]
