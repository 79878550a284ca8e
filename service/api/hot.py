"""What is asked most, answered in front of FastAPI's router: plain rows on `/v1`'s three verbs, and `/v2`'s infer.

Only requests of the plainest shape are answered here. Wherever there is any doubt, the body is handed to the ordinary
route, whose answer or refusal is then the answer: nothing is decided here about what is right or wrong.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.body import JSON_TYPE, parse_json
from service.api.disconnect import while_connected
from service.api.lanes import Lane
from service.api.v1 import requests as schemas
from service.api.v1.parameters import decide_options, detect_options, predict_options
from service.api.v1.templates import Templates
from service.api.v2 import endpoint as v2
from service.api.v2.documents import end_of_numbers, plain_numbers
from service.errors import NotFound, ServiceError
from service.prediction.query import Query
from service.runtime.model import Model
from service.runtime.numbers import NumberInputs

PATH: Final = re.compile(
    r"/v1/models/(?P<name>[\w.-]+)(?P<place>/versions/(?P<version>[1-9][0-9]{0,8})|/labels/(?P<alias>[\w.-]+))?"
    r":(?P<verb>predict|detect|decide)"
    r"|/v2/models/(?P<name2>[\w.-]+)(?P<place2>/versions/(?P<version2>[1-9][0-9]{0,8}))?/infer",
    re.ASCII,
)
LONGEST_ENVELOPE: Final = 512  # bytes beside the rows; longer ones are no choice among a few
MOST_LANES: Final = 64
SIMPLE: Final = frozenset({"site", "policy"})
JSON_MEDIA: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class Route:
    """A path's address and template; the template is what metrics and logs say."""

    path: str
    verb: str
    name: str
    version: int | None
    alias: str | None


class Hot:
    """ASGI application in front of another.

    Parameters
    ----------
    app : ASGI application
        The ordinary routes.
    server : v2.Server
    """

    def __init__(self, app: ASGIApp, server: v2.Server) -> None:
        self._app = app
        self._server = server
        self._lanes = lru_cache(maxsize=MOST_LANES)(self._find_lane)
        self._generation = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        route = _route(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        limit = self._server.limits.body()
        if route is None or not _expected(route, scope["headers"], limit):
            await self._app(scope, receive, send)
            return
        raw, whole = await _read(receive, limit)
        answer = self._infer if route.verb == "infer" else self._judge
        if not whole or not await answer(route, raw, scope, receive, send):
            await self._app(scope, _replayed(raw, receive, whole=whole), send)

    async def _infer(self, route: Route, raw: bytes, scope: Scope, receive: Receive, send: Send) -> bool:
        model = self._model(route)
        if model is None:
            return False
        scope["route"] = route
        try:
            response = await v2.infer(
                self._server, model, Headers(scope=scope), raw, scope["state"]["request_id"], receive=receive
            )
        except ServiceError as error:
            response = problems.refusal(scope["path"], error)
        await response(scope, receive, send)
        return True

    async def _judge(self, route: Route, raw: bytes, scope: Scope, receive: Receive, send: Send) -> bool:
        start = raw.find(b"[")
        end = end_of_numbers(raw, start) if start >= 0 else 0
        if end <= start or len(raw) - (end - start) > LONGEST_ENVELOPE:
            return False
        lane = self._lane(scope["path"], raw[:start], raw[end:])
        rows = None if lane is None else plain_numbers(raw[start:end])
        if lane is None or not rows or len(rows) > self._server.limits.rows:
            return False
        scope["route"], request_id = route, scope["state"]["request_id"]
        try:
            if lane.light(len(rows)):
                body = await lane.answer(request_id, rows)
            else:
                body = await while_connected(lane.wait(request_id, rows), receive)
        except ServiceError as error:
            await problems.problem(error)(scope, receive, send)
            return True
        if body is not None:
            await _send_json(send, body)
        return body is not None

    def _model(self, route: Route) -> Model | None:
        try:
            return self._server.registry.model(route.name, version=route.version, alias=route.alias)
        except NotFound:
            return None

    def _lane(self, path: str, before: bytes, after: bytes) -> Lane | None:
        if self._generation != self._server.registry.generation:  # lanes hold models, and answer from them
            self._lanes.cache_clear()
            self._generation = self._server.registry.generation
        return self._lanes(path, before, after)

    def _find_lane(self, path: str, before: bytes, after: bytes) -> Lane | None:
        # What stands around the rows is nearly always one of a few texts; each is read once, by the ordinary rules.
        route = _route(path)
        model = None if route is None else self._model(route)
        if route is None or model is None or not isinstance(model.inputs, NumberInputs):
            return None
        try:
            query = self._query(route.verb, model, parse_json(before + b"[[0]]" + after))
        except ServiceError:
            return None
        if query is None or not Templates.suits(query):
            return None
        width = len(model.inputs.columns)
        return Lane(self._server.predictor, query, width=width, seconds=self._server.limits.seconds)

    def _query(self, verb: str, model: Model, document: object) -> Query | None:
        if not isinstance(document, dict) or document.get("instances") != [[0]]:
            return None
        known = [*model.classes, *model.policies, *model.manifest.sites]
        request: Any = schemas.parse_request(schemas.REQUESTS[verb], document, known)
        wanted = request.parameters
        given = {key: getattr(wanted, key) for key in wanted.model_fields_set}
        if not SIMPLE.issuperset(given) or not all(isinstance(value, str) for value in given.values()):
            return None
        return Query.of(model, _OPTIONS[verb](wanted, model))


@lru_cache(maxsize=1024)
def _route(path: str) -> Route | None:
    found = PATH.fullmatch(path)
    if found is None:
        return None
    if found["name2"] is not None:
        place = "/versions/{version}" if found["place2"] else ""
        version = None if found["version2"] is None else int(found["version2"])
        return Route(f"/v2/models/{{name}}{place}/infer", "infer", found["name2"], version, None)
    place = "/versions/{version}" if found["version"] else "/labels/{alias}" if found["alias"] else ""
    version = None if found["version"] is None else int(found["version"])
    return Route(f"/v1/models/{{name}}{place}:{found['verb']}", found["verb"], found["name"], version, found["alias"])


def _expected(route: Route, headers: Iterable[tuple[bytes, bytes]], limit: int) -> bool:
    """Whether headers say no more than that a body of an admitted length is JSON."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            return False
        if route.verb != "infer":
            if name == b"content-encoding":
                return False
            if name == b"content-type" and value != JSON_MEDIA and not JSON_TYPE.fullmatch(value.decode("latin-1")):
                return False
    return True


async def _read(receive: Receive, limit: int) -> tuple[bytes, bool]:
    """What has come of a body, and whether that is all of it; a body beyond the limit is left to the ordinary route."""
    message = await _received(receive)
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body, len(body) <= limit
    whole = bytearray(body)
    while message.get("more_body", False) and len(whole) <= limit:
        message = await _received(receive)
        whole += message.get("body", b"")
    return bytes(whole), len(whole) <= limit and not message.get("more_body", False)


async def _received(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _replayed(body: bytes, receive: Receive, *, whole: bool) -> Receive:
    first = True

    async def again() -> Message:
        nonlocal first
        if not first:
            return await receive()
        first = False
        return {"type": "http.request", "body": body, "more_body": not whole}

    return again


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", JSON_MEDIA)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_OPTIONS: Final[dict[str, Any]] = {
    "predict": lambda wanted, model: predict_options(wanted, model, rows=1),
    "detect": detect_options,
    "decide": lambda wanted, model: decide_options(wanted, model, rows=1),
}
