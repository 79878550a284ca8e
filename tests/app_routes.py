"""Every route of an application, whatever middleware stands in front of them."""

from collections.abc import Iterable, Iterator
from typing import Any


def routes_of(app: Any) -> list[Any]:
    """All of them, without the routers that hold them."""
    while not hasattr(app, "routes"):
        app = app.app if hasattr(app, "app") else app._app
    return list(_leaves(app.routes))


def _leaves(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        router = getattr(route, "original_router", None)
        yield from [route] if router is None else _leaves(router.routes)
