"""Answers to what never becomes a request: bytes that are no HTTP, or that do not arrive in time.

Tested in `tests/api/test_http_protocol.py`.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api import problems
from service.api.correlation import NONE, identity
from service.api.edge import METHODS, UNMATCHED
from service.api.http_errors import MethodNotAllowed
from service.api.loop_load import Overload
from service.errors import Overloaded, ServiceError
from service.telemetry import Telemetry

REFUSALS: Final = "refusals"
"""Under this key the application hands them to its server, in the state of its lifespan."""
KEEP_ALIVE: Final = b"keep-alive"

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger("temperance")


class Refusals:
    """Makes the answers, and counts and logs each as the application does its own.

    Parameters
    ----------
    telemetry : Telemetry
    new_id : callable
        Makes request ids.
    overload : Overload
        Kept up by the application.
    """

    def __init__(self, telemetry: Telemetry, new_id: Callable[[], str], overload: Overload) -> None:
        self.overload = overload
        self._new_id = new_id
        self._requests, self._codes = cache(telemetry.requests.labels), cache(telemetry.refusals.labels)
        self._turn = 0

    def answer(self, error: ServiceError, *, method: str, path: str, default_headers: Headers = ()) -> bytes:
        """The answer to one request, as it is written; the last of its connection.

        Parameters
        ----------
        error : ServiceError
        method : str
        path : str
            As far as it has arrived; it decides the form of the answer, and is in no log.
        default_headers : sequence of (name, value)
            Those that the server gives every answer.
        """
        request_id = self._new_id()
        headers = _ALLOWED if isinstance(error, MethodNotAllowed) else _CLOSE
        response = problems.refusal(path, error, request_id=request_id, headers=dict(headers))
        self._account(error, request_id, method if method in METHODS else "OTHER", response.status_code)
        fields = [
            *(field for field in default_headers if field[0] != KEEP_ALIVE),
            *response.raw_headers,
            *identity(request_id, NONE),
        ]
        head = [STATUS_LINE[response.status_code], *(b"%s: %s\r\n" % field for field in fields), b"\r\n"]
        return b"".join([*head, b"" if method == "HEAD" else bytes(response.body)])

    def overloaded(self, target: bytes, default_headers: Headers) -> bytes:
        """The answer to a request that there is no time to read; its connection stays open. It is counted, not logged.

        Parameters
        ----------
        target : bytes
            Of the request; it decides the form of the answer.
        default_headers : sequence of (name, value)
        """
        self._requests("POST", UNMATCHED, 503).inc()
        self._codes(Overloaded.code).inc()
        self._turn = (self._turn + 1) % len(UNREAD_SECONDS)  # those who are refused together come back apart
        parts = _unread(is_v2=target.startswith(b"/v2/"), seconds=UNREAD_SECONDS[self._turn])
        fields = b"".join(b"%s: %s\r\n" % field for field in default_headers)
        return STATUS_LINE[503] + fields + self._new_id().encode().join(parts)

    def _account(self, error: ServiceError, request_id: str, method: str, status: int) -> None:
        self._requests(method, UNMATCHED, status).inc()
        self._codes(error.code).inc()
        fields = {"request_id": request_id, "method": method, "route": UNMATCHED, "status": status, "code": error.code}
        log.info("refused", extra=fields)


@cache
def _unread(*, is_v2: bool, seconds: float) -> list[bytes]:
    """An answer without its status line, split where the request's id belongs."""
    error = Overloaded("more requests come than can be read; try again later", seconds=seconds)
    response = problems.refusal("/v2" if is_v2 else "/v1", error, request_id=_ID)
    fields = [*response.raw_headers, *identity(_ID, NONE)]
    head = [*(b"%s: %s\r\n" % field for field in fields), b"\r\n"]
    return b"".join([*head, bytes(response.body)]).split(_ID.encode())


_ID: Final = "00000000-0000-7000-8000-000000000000"  # as long as any
UNREAD_SECONDS: Final = (1.0, 2.0, 3.0)
_CLOSE: Final = {"Connection": "close"}
_ALLOWED: Final = {**_CLOSE, "Allow": "GET, HEAD, OPTIONS, POST"}
