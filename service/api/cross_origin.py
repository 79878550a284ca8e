"""Pages of other origins: those on the operator's list may read answers in a browser, and no other (CORS).

A preflight is answered without a credential, for a browser sends none with it. Credentials are in the field
Authorization, which a page must have and set itself; no answer makes a browser send what it keeps, such as cookies.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.api import problems
from service.errors import Forbidden

METHODS: Final = ("GET", "HEAD", "POST")
SENT: Final = ("Authorization", "Inference-Header-Content-Length", "X-Request-Id", "traceparent")
"""Header fields that a page may send, besides those that every page may."""
SHOWN: Final = (
    "Inference-Header-Content-Length",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Temperance-Id",
    "WWW-Authenticate",
    "X-Request-Id",
    "traceparent",
)
"""Header fields of an answer that a page may read, besides those that every page may."""


class CrossOrigin(CORSMiddleware):
    """ASGI middleware that lets pages of some origins read answers.

    Parameters
    ----------
    app : ASGI application
    origins : tuple of str
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(app, origins, METHODS, SENT, expose_headers=SHOWN)

    def preflight_response(self, request_headers: Headers) -> Response:
        """As the library answers a preflight, and a problem in place of its plain text."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return Response(status_code=204, headers=_allowed(answer))
        return problems.problem(Forbidden("pages of this origin may not send such a request from a browser"))


def _allowed(answer: Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
