"""The endpoint of a verb: reads a request, has it answered together with others, writes its part of the answer."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.addresses import Limits, addressed
from service.api.body import read_json
from service.api.disconnect import while_connected
from service.api.v1.request_reader import Kind, Readers
from service.api.v1.verbs import Verb
from service.errors import InvalidInstances, ServiceError
from service.prediction.answer import Part
from service.prediction.predictor import Predictor
from service.prediction.queue import JointAnswer, Result
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
        deadline = time.monotonic() + self._limits.seconds
        raw = await read_json(scope, receive, limit=self._limits.body())
        reader = self._readers.reader(self._verb, model)
        request = reader.read(raw)
        part = Part(scope["state"]["request_id"], len(request.rows), request.ids)
        queue, kind = self._predictor.queue(model), request.kind
        answering: Awaitable[Result] = queue.answer(kind.query, request.rows, part, deadline=deadline)
        if not queue.immediate(model, part.rows):
            answering = while_connected(answering, receive)
        try:
            joint, place = await answering
        except InvalidInstances as error:
            raise reader.located(error, request) from None
        if self._verb.report is not None:  # may take long
            return (await asyncio.to_thread(self._written, joint, kind))[place]
        return self._written(joint, kind)[place]

    def _written(self, joint: JointAnswer, kind: Kind) -> list[bytes]:
        # Once for all requests that were answered together, by the first that is back.
        if joint.bodies is None:
            joint.bodies = kind.encoder.write(joint.answer, joint.parts, created=self._predictor.now())
        return joint.bodies


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), MEDIA_TYPE]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
