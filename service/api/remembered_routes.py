"""Routes whose endpoints are called without the stack that FastAPI puts around them.

They stand in FastAPI's router as all routes do. What the router decides about a method and a path never changes, so it
is remembered, and the endpoint is then called directly: the stack costs about 100 microseconds, which is as much as
answering a row does.
"""

from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import Any, Final

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.errors import NotFound

MOST_PATHS: Final = 1024
READ: Final = ["GET", "HEAD"]
"""Methods of a route that only reads. The server sends no body after HEAD; OPTIONS is answered for every route."""

Found = tuple[Route, dict[str, Any]]


class DirectRoute(Route):
    """A route that metrics and logs know by its path, for a method that it does not allow too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As FastAPI's own routes match: the scope then names the route."""
        match, child = super().matches(scope)
        return match, child if match is Match.NONE else {**child, "route": self}


class Direct:
    """ASGI application in front of another.

    Parameters
    ----------
    app : ASGI application
        Everything else.
    routes : sequence of Route
        Their endpoints are ASGI applications that answer for the service's errors themselves.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = routes
        self._found = lru_cache(maxsize=MOST_PATHS)(self._find)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or pass it on."""
        is_http = scope["type"] == "http"
        found = self._found(scope["method"], scope["path"], scope.get("root_path", "")) if is_http else None
        if found is None:
            if is_http and "\n" in scope["path"]:  # a route's pattern ends in $, which fits before a last line feed too
                return problems.answer(NotFound.of_a_path(), scope, receive, send)
            return self._app(scope, receive, send)
        scope["route"], scope["path_params"] = found
        return found[0].app(scope, receive, send)

    def _find(self, method: str, path: str, root_path: str) -> Found | None:
        if "\n" in path:
            return None
        scope = {"type": "http", "method": method, "path": path, "root_path": root_path}
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route, child["path_params"]
        return None
