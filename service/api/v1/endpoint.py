"""The endpoint of a verb: reads a request, has it answered together with others, writes its part of the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.body import read_json
from service.api.disconnect import has_left
from service.api.idempotency import REPLAYED, Held, Idempotency, Stored, has_key
from service.api.intake import State, is_large, sender_of
from service.api.recorder import DISCONNECTED, Recorder
from service.api.v1.request_reader import Kind, ReadRequest
from service.api.v1.targets import Target, Targets
from service.api.v1.verbs import Verb
from service.errors import DeadlineExceeded, InvalidInstances, ServiceError
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer

LOOP_VALUES: Final = 1 << 15  # of an answer that is written on the event loop, in some 15 ms
ROW_VALUES: Final = 16  # of a row beside its probabilities
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
    recorder : Recorder or None
        None where no records are kept.
    idempotency : Idempotency or None
        None where no key is looked at.
    """

    def __init__(
        self,
        verb: Verb,
        targets: Targets,
        *,
        clock: Callable[[], datetime],
        recorder: Recorder | None = None,
        idempotency: Idempotency | None = None,
    ) -> None:
        self._verb = verb
        self._targets = targets
        self._clock = clock
        self._recorder, self._idempotency = recorder, idempotency
        self._writing = asyncio.Lock()  # of long answers: one after the other
        # A thread of its own: a report of many rows is written for a minute, whether or not one waits for it still.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="answers")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a problem where it cannot be answered."""
        try:
            body = await self._body(scope, receive)
        except ServiceError as error:
            await problems.answer(error, scope, receive, send)
            return
        if isinstance(body, Stored):
            await body.send(send, REPLAYED)
            return
        if self._recorder is not None and has_left(receive):
            self._recorder.undelivered(scope["state"]["request_id"], DISCONNECTED)
            raise ClientDisconnect
        headers = [(b"content-length", b"%d" % len(body)), MEDIA_TYPE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if self._recorder is not None:
            self._recorder.left(scope["state"])

    def _body(self, scope: Scope, receive: Receive) -> Awaitable[bytes | Stored]:
        target = self._targets.target(self._verb, scope)
        target.intake.admit(scope)
        if self._recorder is not None:
            self._recorder.check()
        return (self._answer_large if is_large(scope) else self._answer)(target, scope, receive)

    async def _answer_large(self, target: Target, scope: Scope, receive: Receive) -> bytes | Stored:
        with target.intake.held(scope, receive) as held:
            return await self._answer(target, scope, held)

    async def _answer(self, target: Target, scope: Scope, receive: Receive) -> bytes | Stored:
        body = await read_json(scope, receive, limit=target.most_bytes)
        if self._idempotency is None or not has_key(scope):
            return await self._answered(None, target, body, scope, receive)
        make = partial(self._answered, target=target, body=body, scope=scope, receive=receive)
        return await self._idempotency.answer(scope, body, make)

    async def _answered(self, held: Held | None, target: Target, body: bytes, scope: Scope, receive: Receive) -> bytes:
        _, reader, intake, _ = target
        request = await intake.read(body, reader.read, scope, receive)
        part, query = _part(request, scope["state"], held), request.kind.query
        try:
            joint, place = await intake.answer(query, request.rows, part, scope, receive)
        except InvalidInstances as error:
            raise reader.located(error, request) from None
        scope["state"]["answer"] = joint, place
        if joint.bodies is None:
            await self._write(joint, request.kind, scope["state"]["deadline"])
        answer = (joint.bodies or [])[place]
        reply = None if held is None else held.reply(Stored([MEDIA_TYPE], answer))
        if self._recorder is not None:
            await self._recorder.keep(joint, place, request.kind.plan, deadline=scope["state"]["deadline"], reply=reply)
            scope["state"]["plan"] = request.kind.plan
        elif reply is not None and self._idempotency is not None:
            await self._idempotency.keep(reply, scope["state"]["deadline"])
        return answer

    async def _write(self, joint: JointAnswer, kind: Kind, deadline: float) -> None:
        # Once for all requests that were answered together, by the first that is back.
        write = partial(kind.encoder.write, joint.answer, joint.parts, created=self._clock())
        if self._verb.report is None and not _is_long(joint):
            joint.bodies = write()
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline), self._writing:  # the loop's clock is the monotonic one
                joint.bodies = joint.bodies or await loop.run_in_executor(self._writer, write)
        except TimeoutError:
            raise DeadlineExceeded("the answer was not written in time; send fewer rows at a time") from None


def _part(request: ReadRequest, state: State, held: Held | None) -> Part:
    ids, subjects, groups = request.texts
    part = Part(state["request_id"], len(request.rows), ids, subjects=subjects, groups=groups, sender=sender_of(state))
    return part if held is None else part._replace(is_apart=True)


def _is_long(joint: JointAnswer) -> bool:
    return joint.answer.log_probs.size + ROW_VALUES * len(joint.answer) > LOOP_VALUES
