"""Every route answers HEAD and OPTIONS alike, and other methods with the same `Allow`."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from service.bundle.repository import Repository
from service.main import compose
from service.runtime.registry import load_registry
from service.settings import Settings
from tests.app_routes import routes_of
from tests.shipped_model import SHIPPED

VALUES = {"name": "breast-cancer", "version": "1", "alias": "stable", "prediction_id": "none"}
CHANGING = frozenset({"temperance-id", "x-request-id", "date"})  # from one answer to the next
OTHER_METHODS = ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"]
NO_ROUTE = [
    "/",
    "/nothing",
    "/docs/",
    "/livez/",
    "//livez",
    "/v1",
    "/v1/",
    "/v1/models/",
    "/v2/",
    "/v3",
    "/%2e%2e/livez",
]


def methods_by_path() -> dict[str, set[str]]:
    """Methods of the routes of every path that is no catch-all, its parameters filled in."""
    found: dict[str, set[str]] = {}
    for route in routes_of(compose(Settings(audit="off"), load_registry(Repository(SHIPPED)))):
        if "{rest" not in route.path:
            path = re.sub(r"\{(\w+)\}", lambda name: VALUES[name[1]], route.path)
            found.setdefault(path, set()).update(route.methods)
    return found


METHODS = methods_by_path()
READ = sorted(path for path, methods in METHODS.items() if "GET" in methods)


@pytest.fixture(scope="module")
def server(serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """The shipped models behind a process of this module's own: nothing else is counted."""
    with serving(SHIPPED) as running:
        yield running


def without_changing(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CHANGING}


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_a_body(path: str, server: Any) -> None:
    got, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    own, same = without_changing(got.headers), without_changing(head.headers)
    if path == "/metrics":  # longer by what was counted meanwhile
        assert own.pop("content-length")
        assert same.pop("content-length")
    assert same == own
    assert got.content


@pytest.mark.parametrize("path", METHODS)
def test_options_names_the_methods_of_a_path_and_other_methods_are_refused_with_them(path: str, server: Any) -> None:
    allowed = ", ".join(sorted({*METHODS[path], "OPTIONS"}))
    answer = server.client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    others = {*OTHER_METHODS, "POST", "GET"} - METHODS[path]
    if path.startswith("/v1/models/breast-cancer") and ":" not in path:
        others -= {"POST"}  # is answered that a verb is missing
    for method in others:
        refused = server.client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed), method


@pytest.mark.parametrize("path", NO_ROUTE)
def test_a_path_of_no_route_is_not_found_by_any_method(path: str, server: Any) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "POST", *OTHER_METHODS):
        assert server.client.request(method, path).status_code == 404, method


@pytest.mark.parametrize("path", ["/v1/models/breast-cancer:decide%0a", "/v2/models/breast-cancer/infer%0a"])
def test_a_line_feed_after_a_path_makes_it_another_one(path: str, server: Any) -> None:
    assert server.client.post(path, json={}).status_code == 404
    assert server.client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/nothing"])
def test_a_method_that_http_does_not_have_is_refused_before_there_is_a_route(path: str, server: Any) -> None:
    refused = server.client.request("SPY", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def test_another_method_in_a_header_is_ignored(server: Any) -> None:
    for name in ("x-http-method-override", "x-http-method", "x-method-override"):
        assert server.client.get("/livez", headers={name: "DELETE"}).status_code == 200
        assert server.client.post("/v1/models", headers={name: "GET"}).status_code == 405


@pytest.mark.parametrize("path", READ)
def test_the_body_of_a_request_that_takes_none_is_ignored(path: str, server: Any) -> None:
    plain = server.client.get(path)
    answer = server.client.request("GET", path, content=b"x" * 5000, headers={"content-type": "application/json"})
    assert answer.status_code == plain.status_code
    assert server.client.get("/livez").status_code == 200  # over the same connection


def test_every_method_is_counted_at_its_route(server: Any) -> None:
    for method in ("HEAD", "OPTIONS", "PROPFIND"):
        server.client.request(method, "/v1/models/breast-cancer/versions/1")
    exposed = server.client.get("/metrics").text
    for method, status in (("HEAD", 200), ("OPTIONS", 204), ("OTHER", 405)):
        line = f'{{method="{method}",route="/v1/models/{{name}}/versions/{{version}}",status="{status}"}}'
        assert f"temperance_requests_total{line}" in exposed
