"""The endpoint of a verb: reads a request, has it answered together with others, writes its part of the answer."""

import asyncio
import time
from typing import Final

import orjson
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.addresses import Limits, addressed
from service.api.body import read_json
from service.api.disconnect import while_connected
from service.api.v1 import answers
from service.api.v1.reader import Readers, ReadRequest
from service.api.v1.verbs import Verb
from service.errors import InvalidInstances, ServiceError
from service.prediction.answer import Part, Prediction
from service.prediction.call import Call
from service.prediction.predictor import Predictor
from service.prediction.queue import Result
from service.runtime.registry import Registry

MEDIA_TYPE: Final = (b"content-type", b"application/json")


class VerbEndpoint:
    """ASGI application that answers one verb, of every model.

    Parameters
    ----------
    verb : Verb
    registry : Registry
    predictor : Predictor
    limits : Limits
    readers : Readers
    """

    def __init__(
        self, verb: Verb, *, registry: Registry, predictor: Predictor, limits: Limits, readers: Readers
    ) -> None:
        self._verb = verb
        self._registry = registry
        self._predictor = predictor
        self._limits = limits
        self._readers = readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a problem where it cannot be answered."""
        try:
            body = await self._body(scope, receive)
        except ServiceError as error:
            await problems.problem(error)(scope, receive, send)
        else:
            await _send_json(send, body)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        model = addressed(self._registry, scope["path_params"])
        call = Call(scope["state"]["request_id"], deadline=time.monotonic() + self._limits.seconds)
        raw = await read_json(scope, receive, limit=self._limits.body())
        reader = self._readers.reader(self._verb, model)
        request = reader.read(raw)
        try:
            result = await self._answer(request, call, receive)
        except InvalidInstances as error:
            raise reader.located(error, request) from None
        return await self._written(result, request, call)

    async def _answer(self, request: ReadRequest, call: Call, receive: Receive) -> Result:
        query, rows = request.kind.query, request.rows
        part = Part(call.request_id, len(rows), request.ids)
        answering = self._predictor.answer(query, rows, part, deadline=call.deadline)
        if self._predictor.immediate(query.model, len(rows)):
            return await answering
        return await while_connected(answering, receive)

    async def _written(self, result: Result, request: ReadRequest, call: Call) -> bytes:
        (joint, place), encoder = result, request.kind.encoder
        if encoder is not None:
            bodies = joint.bodies.get(encoder)
            if bodies is None:
                bodies = joint.bodies[encoder] = encoder.write(joint.answer, joint.parts, created=self._predictor.now())
            return bodies[place]
        if request.report is None:
            raise TypeError("a verb without a report has an encoder")
        prediction = Prediction.of(joint.own(place), call=call, created=self._predictor.now())
        found = await asyncio.to_thread(request.report, prediction)
        return orjson.dumps({**answers.header(prediction), **found})


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), MEDIA_TYPE]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
