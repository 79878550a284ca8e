"""Inference: the bytes of a request in, tensors out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.addresses import Limits, addressed
from service.api.disconnect import has_left
from service.api.idempotency import REPLAYED, Held, Idempotency, Stored, has_key
from service.api.intake import Intake, State, is_large, sender_of
from service.api.recorder import DISCONNECTED, Recorder
from service.api.v2.documents import IDENTITY, decompress, read_body
from service.api.v2.input_tensors import in_tensors
from service.api.v2.model_repository import Access
from service.api.v2.output_tensors import DECISION, TOPICS, VERB, JointTensors, OutputTensors, RequestedOutput
from service.api.v2.requests import InferRequest, RequestReader
from service.api.v2.responses import Output, tensor_response
from service.api.v2.tensors import Json
from service.errors import InvalidInstances, ServiceError
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.predictor import Predictor
from service.prediction.query import Query
from service.prediction.record_context import software
from service.prediction.records import RecordPlan
from service.runtime.model import Model
from service.runtime.registry import Registry

Body = tuple[bytes, str, bytes | None]
"""As `read_body` gives it."""
MOST_KINDS: Final = 128  # of requests, by their options


@dataclass(frozen=True, slots=True)
class Server:
    """What `/v2` serves from.

    Attributes
    ----------
    registry : Registry
    predictor : Predictor
    limits : Limits
    version : str
        Of this service.
    check_ready : callable
        Raises the error that says why the service is not ready.
    check_open : callable
        Raises the error that says why no model's answer could leave.
    repository : Access
        To the published models.
    recorder : Recorder or None
        None where no records are kept.
    idempotency : Idempotency or None
        None where no key is looked at.
    """

    registry: Registry
    predictor: Predictor
    limits: Limits
    version: str
    check_ready: Callable[[], None]
    check_open: Callable[[], None]
    repository: Access
    recorder: Recorder | None = None
    idempotency: Idempotency | None = None


class Kind:
    """What requests with the same options have in common: they share a query, and so can be answered together.

    Parameters
    ----------
    query : Query
    """

    def __init__(self, query: Query) -> None:
        model, site, chosen = query.model, query.options.site, query.stages.chosen
        self.query = query
        self.tensors = OutputTensors(query)
        topics = (*TOPICS, *DECISION) if query.options.decide else TOPICS
        self.plan = RecordPlan(query, verb=VERB, topics=topics, software=software())
        self._last: tuple[JointAnswer, JointTensors] | None = None
        self._head = {"model_name": model.name, "model_version": model.version}
        policy = chosen[0].name if chosen else ""
        self._parameters = {"digest": model.bundle.digest, "version": model.version}
        self._parameters |= {"site": str(site or ""), "policy": policy}

    def written(self, requested: Sequence[RequestedOutput], joint: JointAnswer, place: int) -> list[Output]:
        """The requested tensors of one of the requests."""
        if len(joint.parts) == 1:
            return self.tensors.written(requested, joint.answer, joint.parts[0])
        if self._last is None or self._last[0] is not joint:  # requests that were answered together come back in a row
            self._last = joint, JointTensors(self.tensors, joint.answer, joint.parts)
        own = self._last[1]
        if place == len(joint.parts) - 1:
            self._last = None
        return own.written(requested, place)

    def head(self, request_id: str) -> Json:
        """What a response holds besides its tensors."""
        return {**self._head, "id": request_id, "parameters": self._parameters}


class ModelRequests:
    """Requests to one model: how they come in and are read, and what those with the same options have in common."""

    def __init__(self, model: Model, intake: Intake, *, most_rows: int) -> None:
        self.intake = intake
        self.reader = RequestReader(model, most_rows=most_rows)
        self.kind = lru_cache(maxsize=MOST_KINDS)(lambda options: Kind(Query.of(model, options)))


class InferEndpoint:
    """ASGI application that answers inference requests to every model.

    Parameters
    ----------
    server : Server
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._models: dict[Model, ModelRequests] = {}
        self._generation = server.registry.generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; with an error where it cannot be answered."""
        try:
            response = await self._response(scope, receive)
        except ServiceError as error:
            await problems.answer(error, scope, receive, send)
            return
        recorder = self._server.recorder
        if recorder is not None and "plan" in scope["state"] and has_left(receive):
            recorder.undelivered(scope["state"]["request_id"], DISCONNECTED)
            raise ClientDisconnect
        await response(scope, receive, send)
        if recorder is not None:
            recorder.left(scope["state"])

    async def _response(self, scope: Scope, receive: Receive) -> ASGIApp:
        own = self._requests(addressed(self._server.registry, scope["path_params"]))
        own.intake.admit(scope)
        if self._server.recorder is not None:
            self._server.recorder.check()
        if not is_large(scope):
            return await self._answer(own, scope, receive)
        with own.intake.held(scope, receive) as held:
            return await self._answer(own, scope, held)

    async def _answer(self, own: ModelRequests, scope: Scope, receive: Receive) -> ASGIApp:
        body = await read_body(scope, receive, limit=self._server.limits.body())
        if self._server.idempotency is None or not has_key(scope):
            return await self._answered(None, own, body, scope, receive)
        make = partial(self._answered, own=own, body=body, scope=scope, receive=receive)
        answer = await self._server.idempotency.answer(scope, body[0], make)
        return Response(answer.body, headers=answer.fields(REPLAYED)) if isinstance(answer, Stored) else answer

    async def _answered(
        self, held: Held | None, own: ModelRequests, body: Body, scope: Scope, receive: Receive
    ) -> Response:
        request = await self._read(own, body, scope, receive)
        state, kind = scope["state"], own.kind(request.options)
        part = _part(request, state, held)
        try:
            joint, place = await own.intake.answer(
                kind.query, request.rows, part, scope, receive, seconds=request.timeout
            )
        except InvalidInstances as error:
            raise in_tensors(error, request.tensors, kind.query.model.inputs) from None
        state["answer"] = joint, place
        outputs = kind.written(request.outputs, joint, place)
        response = tensor_response(kind.head(request.id or part.request_id), outputs)
        reply = None if held is None else held.reply(_stored(response))
        if self._server.recorder is not None:
            await self._server.recorder.keep(joint, place, kind.plan, deadline=state["deadline"], reply=reply)
            state["plan"] = kind.plan
        elif reply is not None and self._server.idempotency is not None:
            await self._server.idempotency.keep(reply, state["deadline"])
        return response

    async def _read(self, own: ModelRequests, sent: Body, scope: Scope, receive: Receive) -> InferRequest:
        limit = self._server.limits.body()
        body, encoding, json_length = sent

        def parse(body: bytes) -> InferRequest:
            return own.reader.read(decompress(body, encoding, limit=limit), json_length)

        return await own.intake.read(body, parse, scope, receive, is_compressed=encoding != IDENTITY)

    def _requests(self, model: Model) -> ModelRequests:
        if self._generation != self._server.registry.generation:  # they hold models
            self._models.clear()
            self._generation = self._server.registry.generation
        found = self._models.get(model)
        if found is None:
            limits = self._server.limits
            intake = Intake(model, self._server.predictor.queue(model), limits)
            found = self._models[model] = ModelRequests(model, intake, most_rows=limits.rows)
        return found


def _part(request: InferRequest, state: State, held: Held | None) -> Part:
    subjects, groups = request.subjects, request.groups
    part = Part(state["request_id"], len(request.rows), subjects=subjects, groups=groups, sender=sender_of(state))
    return part if held is None else part._replace(is_apart=True)


def _stored(response: Response) -> Stored:
    return Stored([field for field in response.raw_headers if field[0] != b"content-length"], bytes(response.body))
