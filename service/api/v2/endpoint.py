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
from service.api.v2.requests import RequestReader
from service.api.v2.responses import JSON_LENGTH, tensor_response
from service.api.v2.tensors import Json
from service.errors import InvalidInstances
from service.prediction.answer import Part
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
        self._head = {"model_name": model.name, "model_version": model.version}
        policy = chosen[0].name if chosen else ""
        self._said = {"digest": model.bundle.digest, "version": model.version, "site": site or "", "policy": policy}

    def head(self, request_id: str) -> Json:
        """What a response says of all its tensors."""
        return {**self._head, "id": request_id, "parameters": self._said}


class ModelRequests:
    """Requests to one model: how they are read, and what those with the same options have in common."""

    def __init__(self, model: Model, *, most_rows: int) -> None:
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

    async def respond(
        self, model: Model, headers: Mapping[str, str], raw: bytes, request_id: str, *, receive: Receive | None = None
    ) -> Response:
        """The response to one request; ``receive``, ASGI's, tells when its client disconnects.

        Raises
        ------
        ServiceError, ClientDisconnect
        """
        limits, own = self._server.limits, self._requests(model)
        body = decompress(raw, headers.get("content-encoding", "identity").lower(), limit=limits.body())
        request = own.reader.read(body, headers.get(JSON_LENGTH))
        kind, part = own.kind(request.options), Part(request_id, len(request.rows))
        seconds = limits.seconds if request.timeout is None else min(request.timeout, limits.seconds)
        answering = self._server.predictor.answer(kind.query, request.rows, part, deadline=time.monotonic() + seconds)
        try:
            joint, place = await self._connected(answering, model, part, receive)
        except InvalidInstances as error:
            raise in_tensors(error, request.tensors, model.inputs) from None
        outputs = kind.tensors.written(request.outputs, joint.own(place), part)
        return tensor_response(kind.head(request.id or request_id), outputs)

    def _requests(self, model: Model) -> ModelRequests:
        if self._generation != self._server.registry.generation:  # they hold models
            self._models.clear()
            self._generation = self._server.registry.generation
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelRequests(model, most_rows=self._server.limits.rows)
        return found

    def _connected(
        self, answering: Coroutine[Any, Any, Result], model: Model, part: Part, receive: Receive | None
    ) -> Awaitable[Result]:
        if receive is None or self._server.predictor.immediate(model, part.rows):
            return answering
        return while_connected(answering, receive)
