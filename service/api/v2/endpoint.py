"""Inference: the bytes of a request in, tensors out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from starlette.types import Receive

from service.api.addresses import Limits
from service.api.disconnect import predict_while_connected
from service.api.v2.documents import decompress
from service.api.v2.input_tensors import in_tensors
from service.api.v2.model_repository import Access
from service.api.v2.output_tensors import output_of
from service.api.v2.requests import InferRequest, read_request
from service.api.v2.responses import JSON_LENGTH, tensor_response
from service.api.v2.tensors import Json
from service.errors import InvalidInstances
from service.prediction.answer import Prediction
from service.prediction.call import Call
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.registry import Registry


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


async def infer(
    server: Server, model: Model, headers: Any, raw: bytes, request_id: str, *, receive: Receive | None = None
) -> Response:
    """The response to one inference request; ``receive``, ASGI's, tells when its client disconnects.

    Raises
    ------
    ServiceError, ClientDisconnect
    """
    body = decompress(raw, headers.get("content-encoding", "identity").lower(), limit=server.limits.body())
    request = read_request(body, headers.get(JSON_LENGTH), model, most_rows=server.limits.rows)
    seconds = server.limits.seconds if request.timeout is None else min(request.timeout, server.limits.seconds)
    call = Call(request_id, deadline=time.monotonic() + seconds)
    options = Options("infer", decide=request.decides, policy=request.policy, site=request.site)
    try:
        prediction = await predict_while_connected(
            server.predictor, call, model, request.rows, options, receive=receive
        )
    except InvalidInstances as error:
        raise in_tensors(error, request.tensors, model.inputs) from None
    outputs = [output_of(prediction, request_id, requested) for requested in request.outputs]
    return tensor_response(_head(prediction, request), outputs)


def _head(prediction: Prediction, request: InferRequest) -> Json:
    model = prediction.model
    parameters = {"digest": model.bundle.digest, "version": model.version, "site": prediction.site or ""}
    parameters["policy"] = prediction.decided[0].policy.name if prediction.decided else ""
    return {
        "model_name": model.name,
        "model_version": model.version,
        "id": request.id or prediction.call.request_id,
        "parameters": parameters,
    }
