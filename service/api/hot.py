"""What is asked most, answered in front of FastAPI's router: plain rows on `/v1`'s three verbs, and `/v2`'s infer.

Only requests of the plainest shape are answered here. Wherever there is any doubt, the body is handed to the ordinary
route, whose answer or refusal is then the answer: nothing is decided here about what is right or wrong.
"""

import asyncio
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import answers, problems, schemas, v2
from service.api.body import JSON_TYPE, parse_json
from service.api.options import decide_options, detect_options, predict_options
from service.api.tensors import end_of_numbers, plain_numbers
from service.choices import Options
from service.core.numerics import Array
from service.errors import ModelOutputInvalid, NotFound, RequestError, ServiceError
from service.inference import Call, Prediction
from service.runtime.model import Model
from service.runtime.numbers import NumberInputs

PATH: Final = re.compile(
    r"/v1/models/(?P<name>[\w.-]+)(?P<place>/versions/(?P<version>[1-9][0-9]{0,8})|/labels/(?P<alias>[\w.-]+))?"
    r":(?P<verb>predict|detect|decide)"
    r"|/v2/models/(?P<name2>[\w.-]+)(?P<place2>/versions/(?P<version2>[1-9][0-9]{0,8}))?/infer",
    re.ASCII,
)
LONGEST_ENVELOPE: Final = 512  # bytes beside the rows; longer ones are no choice among a few
SIMPLE: Final = frozenset({"site", "policy"})
JSON_MEDIA: Final = b"application/json"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Route:
    """A path's address and template; the template is what metrics and logs say."""

    path: str
    verb: str
    name: str
    version: int | None
    alias: str | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around the rows of a request, and whom it speaks to."""

    verb: str
    name: str
    version: str
    generation: int
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose body has been read."""

    route: Route
    model: Model
    raw: bytes
    scope: Scope
    receive: Receive
    send: Send

    @property
    def request_id(self) -> str:
        """As the answer's header has it."""
        return str(self.scope["state"]["request_id"])


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
        self._options = lru_cache(maxsize=256)(self._read_options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        route = _route(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        headers = Headers(scope=scope) if route is not None else None
        model = None if route is None else self._model(route)
        if route is None or headers is None or model is None or not self._expected(route, headers):
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        raw, whole = await _read(receive, self._server.limits.body())
        asked = Asked(route, model, raw, scope, receive, send)
        if whole and await (self._infer(asked, headers) if route.verb == "infer" else self._judge(asked)):
            return
        await self._app(scope, _replayed(raw, receive, whole=whole), send)

    def _model(self, route: Route) -> Model | None:
        try:
            return self._server.registry.model(route.name, version=route.version, alias=route.alias)
        except NotFound:
            return None

    def _expected(self, route: Route, headers: Headers) -> bool:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._server.limits.body():
            return False
        if route.verb == "infer":
            return True
        media_type = headers.get("content-type")
        return "content-encoding" not in headers and (
            media_type is None or media_type == "application/json" or bool(JSON_TYPE.fullmatch(media_type.strip()))
        )

    async def _infer(self, asked: Asked, headers: Headers) -> bool:
        try:
            response = await v2.infer(self._server, asked.model, headers, asked.raw, asked.request_id)
        except ServiceError as error:
            response = problems.refusal(asked.scope["path"], error)
        await response(asked.scope, asked.receive, asked.send)
        return True

    async def _judge(self, asked: Asked) -> bool:
        verb, model = asked.route.verb, asked.model
        question = self._read(verb, model, asked.raw)
        if question is None:
            return False
        rows, options = question
        call = Call(asked.request_id, deadline=time.monotonic() + self._server.limits.seconds)
        judging = self._server.predictor.predict(call, model, rows, options)
        try:
            inline = model.batcher.inline(len(rows))
            prediction = await (judging if inline else _while_connected(judging, asked.receive))
        except (RequestError, ModelOutputInvalid):
            return False  # the ordinary route says it in the words of the request
        except ServiceError as error:
            await problems.problem(error)(asked.scope, asked.receive, asked.send)
            return True
        await _send_json(asked.send, _ANSWERS[verb](prediction))
        return True

    def _read(self, verb: str, model: Model, raw: bytes) -> tuple[Array, Options] | None:
        if not isinstance(model.inputs, NumberInputs) or not model.inputs.columns or model.task != "multiclass":
            return None
        start = raw.find(b"[")
        end = end_of_numbers(raw, start) if start >= 0 else 0
        if end <= start or len(raw) - (end - start) > LONGEST_ENVELOPE:
            return None
        envelope = Envelope(verb, model.name, model.version, self._server.registry.generation, raw[:start], raw[end:])
        options = self._options(envelope)
        rows = None if options is None else _rows(raw[start:end], len(model.inputs.columns), self._server.limits.rows)
        return None if options is None or rows is None else (rows, options)

    def _read_options(self, envelope: Envelope) -> Options | None:
        # What stands around the rows is nearly always one of a few texts; each is read once, by the ordinary rules.
        try:
            model = self._server.registry.model(envelope.name, version=int(envelope.version))
            document = parse_json(envelope.before + b"[[0]]" + envelope.after)
            if not isinstance(document, dict) or document.get("instances") != [[0]]:
                return None
            known = [*model.classes, *model.policies, *model.manifest.sites]
            request: Any = schemas.parse_request(schemas.REQUESTS[envelope.verb], document, known)
        except ServiceError:
            return None
        wanted = request.parameters
        given = {key: getattr(wanted, key) for key in wanted.model_fields_set}
        if not SIMPLE.issuperset(given) or not all(isinstance(value, str) for value in given.values()):
            return None
        options: Options = _OPTIONS[envelope.verb](wanted, model)
        return options


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


def _rows(text: bytes, width: int, most: int) -> Array | None:
    numbers = plain_numbers(text)
    if not numbers or len(numbers) > most:
        return None
    try:
        rows = np.array(numbers, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):  # ragged
        return None
    return rows if rows.ndim == 2 and rows.shape[1] == width else None


async def _read(receive: Receive, limit: int) -> tuple[bytes, bool]:
    """What has come of a body, and whether that is all of it; a body beyond the limit is left to the ordinary route."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
    return body, len(body) <= limit and not message.get("more_body", False)


def _replayed(body: bytes, receive: Receive, *, whole: bool) -> Receive:
    first = True

    async def again() -> Message:
        nonlocal first
        if not first:
            return await receive()
        first = False
        return {"type": "http.request", "body": body, "more_body": not whole}

    return again


async def _while_connected(work: Awaitable[Answer], receive: Receive) -> Answer:
    # Whoever has gone leaves the queue: nobody would read the answer.
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", JSON_MEDIA)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _predicted(prediction: Prediction) -> bytes:
    return orjson.dumps({**answers.header(prediction), "predictions": answers.predict_rows(prediction, None, None)})


def _detected(prediction: Prediction) -> bytes:
    return orjson.dumps({**answers.header(prediction), "predictions": answers.detect_rows(prediction, None)})


def _decided(prediction: Prediction) -> bytes:
    return orjson.dumps({**answers.header(prediction), "predictions": answers.decide_rows(prediction, None, None)})


_OPTIONS: Final[dict[str, Any]] = {
    "predict": lambda wanted, model: predict_options(wanted, model, rows=1),
    "detect": detect_options,
    "decide": lambda wanted, model: decide_options(wanted, model, rows=1),
}
_ANSWERS: Final = {"predict": _predicted, "detect": _detected, "decide": _decided}
