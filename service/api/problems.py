"""Errors on the wire: RFC 9457 problems, one status per kind of error, never a value that the caller sent."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.access.access_errors import IssuerUnavailable
from service.api.http_errors import HeadersTooLarge, MalformedHttp, MethodNotAllowed, RequestTimeout, UriTooLong
from service.errors import (
    MOST_FAULTS,
    BodyTooLarge,
    BundleError,
    DeadlineExceeded,
    Fault,
    Forbidden,
    LoadFailed,
    MalformedBody,
    ModelOutputInvalid,
    NotFound,
    NotReady,
    Overloaded,
    QuotaExceeded,
    RepositoryClosed,
    RequestError,
    ServiceError,
    Unauthenticated,
    UnsupportedMediaType,
)
from service.record_errors import AuditUnavailable, IdempotencyInProgress, StoreUnavailable

STATUS: Final[dict[type[ServiceError], int]] = {
    ServiceError: 500,
    RequestError: 422,
    MalformedHttp: 400,
    HeadersTooLarge: 431,
    UriTooLong: 414,
    RequestTimeout: 408,
    MalformedBody: 400,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    MethodNotAllowed: 405,
    NotFound: 404,
    ModelOutputInvalid: 422,
    NotReady: 503,
    LoadFailed: 409,
    Overloaded: 503,
    IssuerUnavailable: 503,
    AuditUnavailable: 503,
    StoreUnavailable: 503,
    IdempotencyInProgress: 409,
    RepositoryClosed: 403,
    Unauthenticated: 401,
    Forbidden: 403,
    QuotaExceeded: 429,
    DeadlineExceeded: 504,
    BundleError: 503,
}
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS: Final = 10  # the keys of an issuer are not looked for more often


async def answer(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with an error; its state has its ``request_id``."""
    scope["state"]["code"] = error.code
    response = refusal(scope["path"], error, request_id=scope["state"]["request_id"])
    await response(scope, receive, send)


def refusal(
    path: str,
    error: ServiceError,
    *,
    request_id: str | None = None,
    status: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error in the form of the protocol of ``path``: a problem, or under `/v2` what its clients read."""
    if not is_v2(path):
        return problem(error, request_id=request_id, status=status, headers=headers)
    taken = V2_TAKES if isinstance(error, UnsupportedMediaType) else {}
    extra = {"Cache-Control": "no-store", **_advice(error), **taken, **(headers or {})}
    return Response(orjson.dumps({"error": error.detail}), status or status_of(error), extra, "application/json")


def is_v2(path: str) -> bool:
    """Whether a path is of the Open Inference Protocol, whose clients read errors of another form."""
    return path == "/v2" or path.startswith("/v2/")


def status_of(error: ServiceError) -> int:
    """Status of the most specific ancestor that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    error: ServiceError,
    *,
    request_id: str | None = None,
    status: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The answer that tells a caller what was wrong, where, and what to do.

    Parameters
    ----------
    error : ServiceError
    request_id : str, optional
        Our id of the request.
    status : int, optional
        In place of that of the error's kind.
    headers : dict of str to str, optional
        Beside those of the error's kind.
    """
    code = status or status_of(error)
    body: dict[str, object] = {
        "type": f"urn:temperance:problem:{error.code}",
        "title": error.title,
        "status": code,
        "detail": error.detail,
    }
    if request_id is not None:
        body["instance"] = f"urn:uuid:{request_id}"
    if error.faults:
        body["errors"] = [_entry(fault) for fault in error.faults[:MOST_FAULTS]]
    extra = {"Cache-Control": "no-store", **_advice(error), **(headers or {})}
    return Response(orjson.dumps(body), code, extra, MEDIA_TYPE)


def pointer(path: Sequence[str | int]) -> str:
    """RFC 6901 pointer to a place in the request.

    Examples
    --------
    >>> pointer(("instances", 3, "worst area/perimeter"))
    '/instances/3/worst area~1perimeter'
    """
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def on_service_error(request: Request, error: Exception) -> Response:
    """Handler for everything the service raises on purpose."""
    return _refused(request, error if isinstance(error, ServiceError) else internal())


def on_http_error(request: Request, error: Exception) -> Response:
    """Handler for what the router refuses, unknown paths and methods; and the answer to OPTIONS."""
    if not isinstance(error, HTTPException) or error.status_code != 405:
        return _refused(request, NotFound.of_a_path())
    allow = allowed((error.headers or {}).get("Allow", "").split(", "))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allow})
    return _refused(request, MethodNotAllowed(f"this method is not answered here; allowed: {allow}"), Allow=allow)


def allowed(methods: Iterable[str]) -> str:
    """The methods of a route as the header `Allow` has them: in one order, with OPTIONS, which every route answers."""
    return ", ".join(sorted({*filter(None, methods), "OPTIONS"}))


def _refused(request: Request, error: ServiceError, **headers: str) -> Response:
    scope = request.scope
    scope["state"]["code"] = error.code
    return refusal(scope["path"], error, request_id=scope["state"]["request_id"], headers=headers)


def internal() -> ServiceError:
    """What a caller learns of a fault that is ours: that it is ours."""
    return ServiceError(
        "the fault is the service's, not the request's; its log tells more under the id in Temperance-Id"
    )


def _advice(error: ServiceError) -> Mapping[str, str]:
    if isinstance(error, Overloaded):
        return {"Retry-After": str(math.ceil(error.seconds))}
    if isinstance(error, IssuerUnavailable):
        return {"Retry-After": str(RETRY_SECONDS)}
    if isinstance(error, QuotaExceeded):
        return {
            "Retry-After": str(math.ceil(error.seconds)),
            "RateLimit-Policy": f'"{error.unit}";q={error.limit};w=60',
            "RateLimit": f'"{error.unit}";r=0;t={math.ceil(error.seconds)}',
        }
    return next((FIELDS[kind] for kind in type(error).__mro__ if kind in FIELDS), {})


def _entry(fault: Fault) -> dict[str, object]:
    return {"pointer": pointer(fault.path), "code": fault.code, "detail": fault.detail}


_RETRY: Final = {"Retry-After": "1"}  # in which a store is looked at twice
_CLOSE: Final = {"Connection": "close"}  # the rest of the request is not read
FIELDS: Final[dict[type[ServiceError], Mapping[str, str]]] = {
    Unauthenticated: {"WWW-Authenticate": 'Bearer realm="temperance"'},
    RequestTimeout: _CLOSE,
    BodyTooLarge: _CLOSE,
    AuditUnavailable: _RETRY,
    StoreUnavailable: _RETRY,
    IdempotencyInProgress: _RETRY,
    UnsupportedMediaType: {"Accept": "application/json", "Accept-Encoding": "identity"},
}
"""Header fields of a kind of error that are always the same."""
V2_TAKES: Final = {"Accept": "application/json, application/octet-stream", "Accept-Encoding": "gzip, deflate, identity"}
