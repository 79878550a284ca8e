"""The outermost middleware: every request gets its id, one line in the log, and an answer."""

import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.correlation import NONE, Correlation, correlation_of, identity
from service.telemetry import Telemetry

# Requested every few seconds; at level INFO their lines would bury the others.
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
CLIENT_DISCONNECTED: Final = 499  # nginx' number, in logs and metrics only
UNMATCHED: Final = "(other)"

log = logging.getLogger("temperance")


class Edge:
    """Outermost middleware: names the request, counts, logs one line, and answers for unexpected errors.

    What others read of a request is in its state: ``request_id``, our id; ``correlation``, the caller's; ``started``,
    ``body_deadline`` and ``deadline``, when it came, when its body and when its answer are due, in seconds on the
    monotonic clock.

    Parameters
    ----------
    app : ASGI application
    telemetry : Telemetry
    new_id : callable
        Makes request ids; every answer carries its own as `Temperance-Id`, errors too.
    seconds : float
        That an answer may take, from the first byte of the request that the application sees.
    body_seconds : float
        That the body of a request may take, of these.
    """

    def __init__(
        self, app: ASGIApp, telemetry: Telemetry, new_id: Callable[[], str], *, seconds: float, body_seconds: float
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._seconds_to_answer, self._seconds_to_read = seconds, min(seconds, body_seconds)
        # Labels come from routes, so there are few; finding their counters costs more than counting.
        self._requests, self._seconds = cache(telemetry.requests.labels), cache(telemetry.seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = self._named(scope)
        status = 0

        def watch(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *identity(state["request_id"], state["correlation"])]
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            status = CLIENT_DISCONNECTED
        except Exception as error:  # noqa: BLE001  # the one place that answers for unexpected errors
            _log_fault(error, state["request_id"])
            if not status:
                await problems.answer(problems.internal(), scope, receive, watch)
        self._account(scope, status)

    def _named(self, scope: Scope) -> dict[str, Any]:
        state: dict[str, Any] = scope.setdefault("state", {})
        started = time.monotonic()
        state["request_id"], state["correlation"] = self._new_id(), correlation_of(scope["headers"])
        state["started"], state["deadline"] = started, started + self._seconds_to_answer
        state["body_deadline"] = started + self._seconds_to_read
        return state

    def _account(self, scope: Scope, status: int) -> None:
        state = scope["state"]
        seconds = time.monotonic() - state["started"]
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._requests(method, route, status).inc()
        self._seconds(route).observe(seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        line = (state["request_id"], method, route, status, 1000 * seconds, _suffix(state["correlation"]))
        log.log(level, "%s %s %s %d %.1f ms%s", *line)


def _suffix(correlation: Correlation) -> str:
    if correlation is NONE:
        return ""
    request_id, traceparent = correlation
    named = (("x_request_id", request_id), ("traceparent", traceparent))
    return "".join(f" {name}={value}" for name, value in named if value is not None)


def _log_fault(error: Exception, request_id: str) -> None:
    # The frames, never the message: it may hold what a caller sent.
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s unexpected %s\n%s", request_id, type(error).__name__, frames)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
