"""Errors on the wire: RFC 9457 problems, one status per kind of error, never a value that the caller sent."""

import math
from collections.abc import Sequence
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

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
    NotFound: 404,
    ModelOutputInvalid: 422,
    NotReady: 503,
    LoadFailed: 409,
    Overloaded: 503,
    IssuerUnavailable: 503,
    RepositoryClosed: 403,
    Unauthenticated: 401,
    Forbidden: 403,
    QuotaExceeded: 429,
    DeadlineExceeded: 504,
    BundleError: 503,
}
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS: Final = 10  # the keys of an issuer are not looked for more often


def refusal(
    path: str, error: ServiceError, *, status: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An error in the form of the protocol of ``path``: a problem, or under `/v2` what its clients read."""
    if not is_v2(path):
        return problem(error, status=status, headers=headers)
    extra = {"Cache-Control": "no-store", **_advice(error), **(headers or {})}
    return Response(orjson.dumps({"error": error.detail}), status or status_of(error), extra, "application/json")


def is_v2(path: str) -> bool:
    """Whether a path is of the Open Inference Protocol, whose clients read errors of another form."""
    return path == "/v2" or path.startswith("/v2/")


def status_of(error: ServiceError) -> int:
    """Status of the most specific ancestor that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: ServiceError, *, status: int | None = None, headers: dict[str, str] | None = None) -> Response:
    """The answer that tells a caller what was wrong, where, and what to do."""
    code = status or status_of(error)
    body: dict[str, object] = {
        "type": f"urn:temperance:problem:{error.code}",
        "title": error.title,
        "status": code,
        "detail": error.detail,
    }
    if error.faults:
        body["errors"] = [_entry(fault) for fault in error.faults[:MOST_FAULTS]]
    extra = {"Cache-Control": "no-store", **_advice(error), **(headers or {})}
    if isinstance(error, UnsupportedMediaType):
        extra |= {"Accept": "application/json", "Accept-Encoding": "identity"}
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
    return refusal(request.scope["path"], error if isinstance(error, ServiceError) else internal())


def on_http_error(request: Request, error: Exception) -> Response:
    """Handler for what the router refuses: unknown paths and methods."""
    path = request.scope["path"]
    if isinstance(error, HTTPException) and error.status_code == 405:
        methods = sorted((error.headers or {}).get("Allow", "").split(", "))  # the router has them in no order
        allowed = ", ".join(filter(None, methods))
        detail = f"this method is not answered here; allowed: {allowed or 'see /docs'}"
        return refusal(path, MethodNotAllowed(detail), status=405, headers={"Allow": allowed} if allowed else {})
    return refusal(path, NotFound.of_a_path())


def internal() -> ServiceError:
    """What a caller learns of a fault that is ours: that it is ours."""
    return ServiceError(
        "the fault is the service's, not the request's; its log tells more under the id in X-Request-Id"
    )


def _advice(error: ServiceError) -> dict[str, str]:
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
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="temperance"'}
    return {}


def _entry(fault: Fault) -> dict[str, object]:
    return {"pointer": pointer(fault.path), "code": fault.code, "detail": fault.detail}
