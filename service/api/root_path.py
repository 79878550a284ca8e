"""Behind a proxy that shows the service under a path of its own, whether or not the proxy takes that path away.

Links of the service are relative, so they hold under any path. Only the OpenAPI document names it, for readers of a
copy of the document.
"""

import re
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.proxies import is_proxied

FORWARDED: Final = b"x-forwarded-prefix"
PREFIX: Final = re.compile(rb"(?:/[A-Za-z0-9._~-]{1,64}){1,8}")


class RootPath:
    """ASGI middleware: a path that begins with the root path is served as if it did not.

    Parameters
    ----------
    app : ASGI application
    root_path : str
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass one request on."""
        if scope["type"] == "http":
            rest = scope["path"].removeprefix(self._root_path)
            if rest.startswith("/"):  # `/temperance-2` is no path under `/temperance`
                scope["path"] = rest
        return self._app(scope, receive, send)


def under(app: ASGIApp, root_path: str) -> ASGIApp:
    """The application under a root path; without one it is the application itself, which costs nothing."""
    return RootPath(app, root_path) if root_path else app


def shown_under(scope: Scope, root_path: str) -> str:
    """The path under which the caller sees the service, as far as that is known.

    One of the operator's proxies may name it in `X-Forwarded-Prefix`; else it is the root path of the settings.
    """
    named: list[bytes] = [value for name, value in scope["headers"] if name == FORWARDED]
    if len(named) == 1 and is_proxied(scope) and PREFIX.fullmatch(named[0]):
        return named[0].decode("ascii")
    return root_path
