from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api import remembered_routes as direct
from service.api.remembered_routes import Direct


class Noting:
    """An ASGI application that records its requests."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        self.scopes.append(dict(scope))


class Counting(Route):
    """A route that counts how often it is matched."""

    matched = 0

    def matches(self, scope: Scope) -> Any:
        type(self).matched += 1
        return super().matches(scope)


async def ask(app: Direct, path: str, *, method: str = "POST", **scope: Any) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await app({"type": "http", "method": method, "path": path, **scope}, nothing, nothing)


async def test_a_route_is_matched_once_and_its_endpoint_called_directly() -> None:
    rest, endpoint = Noting(), Noting()
    app = Direct(rest, [Counting("/models/{name}:ask", endpoint, methods=["POST"])])
    Counting.matched = 0
    for _ in range(3):
        await ask(app, "/models/m:ask")
    assert Counting.matched == 1
    assert [scope["path_params"] for scope in endpoint.scopes] == [{"name": "m"}] * 3
    assert {scope["route"].path for scope in endpoint.scopes} == {"/models/{name}:ask"}
    assert not rest.scopes


async def test_all_else_is_passed_on_as_it_came() -> None:
    rest, endpoint = Noting(), Noting()
    app = Direct(rest, [Route("/models/{name}:ask", endpoint, methods=["POST"])])
    await ask(app, "/models/m:ask", method="GET")
    await ask(app, "/models/m:tell")
    await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # never called
    assert not endpoint.scopes
    assert [scope["type"] for scope in rest.scopes] == ["http", "http", "lifespan"]
    assert not any("route" in scope for scope in rest.scopes)


async def test_a_root_path_is_no_part_of_a_route() -> None:
    rest, endpoint = Noting(), Noting()
    app = Direct(rest, [Route("/models/{name}:ask", endpoint, methods=["POST"])])
    await ask(app, "/behind/models/m:ask", root_path="/behind")
    await ask(app, "/behind/models/m:ask")
    assert len(endpoint.scopes) == len(rest.scopes) == 1


def test_what_is_remembered_is_bounded() -> None:
    assert direct.MOST_PATHS <= 4096
