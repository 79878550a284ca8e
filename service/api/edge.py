"""The outermost middleware: every request gets its id, one line in the log, and an answer."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.correlation import correlation_of, identity
from service.api.loop_load import Overload
from service.api.request_record import Answered, line_of, traced
from service.errors import Overloaded
from service.log_format import error_lines
from service.telemetry import Telemetry, TracedRequest

# Requested every few seconds; at level INFO their lines would bury the others.
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
CLIENT_DISCONNECTED: Final = 499  # nginx' number, in logs and metrics only
UNMATCHED: Final = "(other)"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""That metrics, logs and traces name; any other is `OTHER`."""

_NOTHING: Final[Mapping[str, object]] = {}

log = logging.getLogger("temperance")


class Edge:
    """Outermost middleware: names the request, counts, logs one line, and answers for unexpected errors.

    What others read of a request is in its state: ``request_id``, our id; ``correlation``, the caller's; ``started``,
    ``body_deadline`` and ``deadline``, when it came, when its body and when its answer are due, in seconds on the
    monotonic clock. Others add ``caller``; ``code`` of the problem that answers it; ``answer``, where a model answered.

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
    shared : mapping, optional
        What the server finds in the state of the lifespan.
    trace : callable, optional
        Takes in every request that was answered; None where nothing is traced.
    overload : Overload, optional
        Keeps when a request was last refused because too many came.
    """

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        new_id: Callable[[], str],
        *,
        seconds: float,
        body_seconds: float,
        shared: Mapping[str, object] = _NOTHING,
        trace: Callable[[TracedRequest], None] | None = None,
        overload: Overload | None = None,
    ) -> None:
        self._app = app
        self._overload = overload or Overload()
        self._shared = shared
        self._new_id = new_id
        self._seconds_to_answer, self._seconds_to_read = seconds, min(seconds, body_seconds)
        # Labels come from routes, so there are few; finding their counters costs more than counting.
        self._requests, self._seconds = cache(telemetry.requests.labels), cache(telemetry.seconds.labels)
        self._refusals, self._trace = cache(telemetry.refusals.labels), trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            scope.setdefault("state", {}).update(self._shared)
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
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        answered = Answered(method, route, status, state["started"], time.monotonic())
        self._requests(method, route, status).inc()
        self._seconds(route).observe(answered.ended - answered.started)
        if "code" in state:
            self._refusals(state["code"]).inc()
            if state["code"] == Overloaded.code:
                self._overload.refused_at = answered.ended
        if self._trace is not None:
            self._trace(traced(answered, state))
        level = logging.DEBUG if route in PROBES else logging.INFO
        if log.isEnabledFor(level):
            log.handle(line_of(level, answered, state))


def _log_fault(error: Exception, request_id: str) -> None:
    # Never the error itself: its message may hold what a caller sent, and a handler of another's would write it.
    log.error("unexpected error", extra={"request_id": request_id, "error_lines": error_lines(error)})
