"""Inference: the bytes of a request in, tensors out."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from fastapi import Response
from starlette.types import Receive

from service.api.addresses import Limits
from service.api.disconnect import while_connected
from service.api.v2.documents import decompress
from service.api.v2.input_tensors import in_tensors
from service.api.v2.model_repository import Access
from service.api.v2.output_tensors import OutputTensors
from service.api.v2.requests import InferRequest, read_request
from service.api.v2.responses import JSON_LENGTH, tensor_response
from service.api.v2.tensors import Json
from service.errors import InvalidInstances
from service.prediction.answer import Answer, Part
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.prediction.query import Query
from service.prediction.queue import Result
from service.runtime.model import Model
from service.runtime.registry import Registry

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
    is_ready : callable
    repository : Access
        To the published models.
    """

    registry: Registry
    predictor: Predictor
    limits: Limits
    version: str
    is_ready: Callable[[], bool]
    repository: Access


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What requests with the same options have in common."""

    query: Query
    tensors: OutputTensors


class Inference:
    """Answers inference requests.

    Requests with the same options share one query, and so can be answered together.

    Parameters
    ----------
    server : Server
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kinds = lru_cache(maxsize=MOST_KINDS)(_kind)
        self._generation = server.registry.generation

    async def respond(
        self, model: Model, headers: Mapping[str, str], raw: bytes, request_id: str, *, receive: Receive | None = None
    ) -> Response:
        """The response to one request; ``receive``, ASGI's, tells when its client disconnects.

        Raises
        ------
        ServiceError, ClientDisconnect
        """
        limits = self._server.limits
        body = decompress(raw, headers.get("content-encoding", "identity").lower(), limit=limits.body())
        request = read_request(body, headers.get(JSON_LENGTH), model, most_rows=limits.rows)
        seconds = limits.seconds if request.timeout is None else min(request.timeout, limits.seconds)
        part = Part(request_id, len(request.rows))
        kind = self._kind(model, request.options)
        answering = self._server.predictor.answer(kind.query, request.rows, part, deadline=time.monotonic() + seconds)
        try:
            joint, place = await self._connected(answering, model, part, receive)
        except InvalidInstances as error:
            raise in_tensors(error, request.tensors, model.inputs) from None
        answer = joint.own(place)
        return tensor_response(_head(answer, request, request_id), kind.tensors.written(request.outputs, answer, part))

    def _kind(self, model: Model, options: Options) -> Kind:
        if self._generation != self._server.registry.generation:  # kinds hold models
            self._kinds.cache_clear()
            self._generation = self._server.registry.generation
        return self._kinds(model, options)

    def _connected(
        self, answering: Coroutine[Any, Any, Result], model: Model, part: Part, receive: Receive | None
    ) -> Awaitable[Result]:
        if receive is None or self._server.predictor.immediate(model, part.rows):
            return answering
        return while_connected(answering, receive)


def _kind(model: Model, options: Options) -> Kind:
    query = Query.of(model, options)
    return Kind(query, OutputTensors(query))


def _head(answer: Answer, request: InferRequest, request_id: str) -> Json:
    model = answer.model
    parameters = {"digest": model.bundle.digest, "version": model.version, "site": answer.site or ""}
    parameters["policy"] = answer.decided[0].policy.name if answer.decided else ""
    return {
        "model_name": model.name,
        "model_version": model.version,
        "id": request.id or request_id,
        "parameters": parameters,
    }
