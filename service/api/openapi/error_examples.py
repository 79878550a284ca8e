"""A real error for every status that the document names, as the body of its response.

Tested in tests/api/openapi/test_document.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import ASGIApp

from service.api import problems
from service.api.http_errors import HeadersTooLarge, RequestTimeout, UriTooLong
from service.api.openapi.in_process import REQUEST_ID, Request, send_request
from service.api.openapi.operation import error_name
from service.errors import DeadlineExceeded, Forbidden, LoadFailed, QuotaExceeded, Unauthenticated

LARGE: Final = str(1 << 40)
FAULTS: Final = (
    problems.internal(),
    Unauthenticated(
        "send a credential of this service in the field Authorization: Bearer, a space, and the credential"
    ),
    Forbidden("this needs the scope evaluate, which the credential does not have"),
    QuotaExceeded("this caller may send 1000 rows in a minute; send more after the seconds in Retry-After"),
    RequestTimeout("the body did not arrive within 10 seconds"),
    HeadersTooLarge("send at most 16384 bytes of header fields"),
    UriTooLong("send at most 4096 bytes of path and query"),
    LoadFailed("model.onnx does not match its line in SHA256SUMS"),
    DeadlineExceeded.in_the_queue(),
)
"""What no request to an application that only documents brings about."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request that cannot be answered.

    Attributes
    ----------
    status : int
    request : Request
    is_for_closed : bool
        Whether it is put to the application that is closed.
    """

    status: int
    request: Request
    is_for_closed: bool = False


async def errors_of(app: ASGIApp, closed: ASGIApp, model: str) -> dict[str, Any]:
    """Errors by the name of their response.

    Parameters
    ----------
    app : ASGI application
    closed : ASGI application
        One that has not started and shows no repository.
    model : str
        Name of a served model.
    """
    found: dict[str, Any] = {}
    for wrong in (*_of_v1(model), *_of_v2(model)):
        received = await send_request(closed if wrong.is_for_closed else app, wrong.request)
        if received.status == wrong.status:
            found[error_name(wrong.request.path, wrong.status)] = received.document
    return {**_faults("/v1"), **_faults("/v2"), **found}


def _faults(path: str) -> dict[str, Any]:
    answers = [problems.refusal(path, fault, request_id=REQUEST_ID) for fault in FAULTS]
    return {error_name(path, answer.status_code): orjson.loads(bytes(answer.body)) for answer in answers}


def _of_v1(model: str) -> Iterator[Wrong]:
    path = f"/v1/models/{model}:predict"
    row = b'{"instances": [[1.0]], "parameters": {"layout": "column"}}'
    yield Wrong(400, Request("post", path, b'{"instances": [[1.0, 2.0]'))
    yield Wrong(404, Request("get", "/v1/models/unknown"))
    yield Wrong(413, Request("post", path, b"{}", {"content-length": LARGE}))
    yield Wrong(415, Request("post", path, b"1.0,2.0", {"content-type": "text/csv"}))
    yield Wrong(422, Request("post", path, row))
    yield Wrong(503, Request("get", "/readyz"), is_for_closed=True)


def _of_v2(model: str) -> Iterator[Wrong]:
    path, index = f"/v2/models/{model}/infer", "/v2/repository/index"
    yield Wrong(400, Request("post", path, b'{"inputs": ['))
    yield Wrong(403, Request("post", index), is_for_closed=True)
    yield Wrong(404, Request("get", "/v2/models/unknown"))
    yield Wrong(413, Request("post", path, b"{}", {"content-length": LARGE}))
    yield Wrong(415, Request("post", path, b"{}", {"content-encoding": "br"}))
    yield Wrong(
        422,
        Request("post", path, b'{"inputs": [{"name": "unknown", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}'),
    )
    yield Wrong(503, Request("get", "/v2/health/ready"), is_for_closed=True)
