"""The endpoint of a verb: reads a request, has it answered together with others, writes its part of the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.body import read_json
from service.api.disconnect import while_connected
from service.api.v1.request_reader import Kind
from service.api.v1.targets import Targets
from service.api.v1.verbs import Verb
from service.errors import InvalidInstances, ServiceError
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer, Result

MEDIA_TYPE: Final = (b"content-type", b"application/json")


class VerbEndpoint:
    """ASGI application that answers one verb, of every model.

    Parameters
    ----------
    verb : Verb
    targets : Targets
        Shared by all verbs.
    clock : callable
        The time of day, with its zone.
    """

    def __init__(self, verb: Verb, targets: Targets, *, clock: Callable[[], datetime]) -> None:
        self._verb = verb
        self._targets = targets
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a problem where it cannot be answered."""
        try:
            body = await self._body(scope, receive)
        except ServiceError as error:
            await problems.answer(error, scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(body)), MEDIA_TYPE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        model, reader, queue, most_bytes = self._targets.target(self._verb, scope)
        request = reader.read(await read_json(scope, receive, limit=most_bytes))
        state = scope["state"]
        part = Part(state["request_id"], len(request.rows), request.ids)
        answering: Awaitable[Result] = queue.answer(request.kind.query, request.rows, part, deadline=state["deadline"])
        if not queue.immediate(model, part.rows):
            answering = while_connected(answering, receive)
        try:
            joint, place = await answering
        except InvalidInstances as error:
            raise reader.located(error, request) from None
        state["answer"] = joint, place
        if joint.bodies is None:
            await self._write(joint, request.kind)
        return (joint.bodies or [])[place]

    async def _write(self, joint: JointAnswer, kind: Kind) -> None:
        # Once for all requests that were answered together, by the first that is back.
        write, created = kind.encoder.write, self._clock()
        if self._verb.report is None:
            joint.bodies = write(joint.answer, joint.parts, created=created)
        else:  # may take long
            joint.bodies = await asyncio.to_thread(write, joint.answer, joint.parts, created=created)
