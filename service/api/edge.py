"""The outermost middleware: every request gets its id, one line in the log, and an answer."""

import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.telemetry import Telemetry

# Requested every few seconds; at level INFO their lines would bury the others.
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
CLIENT_DISCONNECTED: Final = 499  # nginx' number, in logs and metrics only
UNMATCHED: Final = "(other)"

log = logging.getLogger("temperance")


class Edge:
    """Outermost middleware: names the request, counts, logs one line, and answers for unexpected errors.

    Parameters
    ----------
    app : ASGI application
    telemetry : Telemetry
    new_id : callable
        Makes request ids; every answer carries its own as `X-Request-Id`, errors too.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id
        # Labels come from routes, so there are few; finding their counters costs more than counting.
        self._requests, self._seconds = cache(telemetry.requests.labels), cache(telemetry.seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, request_id = time.perf_counter(), self._new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        def watch(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            status = CLIENT_DISCONNECTED
        except Exception as error:  # noqa: BLE001  # the one place that answers for unexpected errors
            _log_fault(error, request_id)
            if not status:
                await problems.refusal(scope["path"], problems.internal())(scope, receive, watch)
        self._account(scope, status, time.perf_counter() - started, request_id)

    def _account(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._requests(method, route, status).inc()
        self._seconds(route).observe(seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        log.log(level, "%s %s %s %d %.1f ms", request_id, method, route, status, 1000 * seconds)


def _log_fault(error: Exception, request_id: str) -> None:
    # The frames, never the message: it may hold what a caller sent.
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s unexpected %s\n%s", request_id, type(error).__name__, frames)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
