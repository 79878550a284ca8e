"""`/v2`, the Open Inference Protocol: tensors in, tensors out, every refusal `{"error": "…"}`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive

from service.api.addresses import Limits, addressed
from service.api.body import read_raw
from service.api.disconnect import predict_while_connected
from service.api.v2 import model_repository as repository
from service.api.v2 import parameter_names as misspelt
from service.api.v2 import tensors
from service.api.v2.model_repository import Access
from service.api.v2.outputs import DECIDED, RANKED, Wanted, answer_output, datatype, output_names
from service.api.v2.tensors import NUMBERS, Blobs, Json
from service.errors import Fault, InvalidInstances, InvalidRequest, NotReady, TooManyRows
from service.prediction.answer import Prediction
from service.prediction.call import Call
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.runtime.integers import gathered, rows_with
from service.runtime.model import Model
from service.runtime.numbers import NumberInputs, Slot
from service.runtime.registry import Registry
from service.runtime.rows import Rows

EXTENSIONS: Final = ("binary_tensor_data", "classification", "parameters", "schedule_policy", "statistics")
REPOSITORY_EXTENSION: Final = "model_repository"
PLATFORM: Final = "onnx_onnxv1"
JSON_LENGTH: Final = "inference-header-content-length"
NANOSECONDS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Server:
    """What `/v2` speaks of.

    Attributes
    ----------
    registry : Registry
    predictor : Predictor
    limits : Limits
    version : str
        Of this service.
    is_ready : callable
    repository : Access
        To what lies on disk.
    """

    registry: Registry
    predictor: Predictor
    limits: Limits
    version: str
    is_ready: Callable[[], bool]
    repository: Access


@dataclass(frozen=True, slots=True)
class Question:
    """A request, read.

    Attributes
    ----------
    id : str or None
    rows : ndarray of shape (N, F), or Fields
    outputs : tuple of Wanted
    policy, site : str or None
    seconds : float or None
        How long the client will wait.
    """

    id: str | None
    rows: Rows
    outputs: tuple[Wanted, ...]
    policy: str | None
    site: str | None
    seconds: float | None


def router(server: Server) -> APIRouter:
    """Routes of `/v2`."""
    routes = APIRouter(prefix="/v2", tags=["v2"])
    for path, endpoint in _server_endpoints(server).items():
        routes.add_api_route(path, endpoint, methods=["GET"], summary=endpoint.__doc__)
    for path, endpoint in _model_endpoints(server).items():
        for place in ("", "/versions/{version}"):
            routes.add_api_route(f"/models/{{name}}{place}{path}", endpoint, methods=["GET"], summary=endpoint.__doc__)
    for place in ("", "/versions/{version}"):
        _add_infer(routes, f"/models/{{name}}{place}/infer", server)
    both = APIRouter()  # routers side by side: metrics and logs name a route by the prefix of its own router alone
    both.include_router(routes)
    both.include_router(repository.router(server.repository, limit=server.limits.body))
    return both


def _server_endpoints(server: Server) -> dict[str, Callable[..., Any]]:
    async def metadata() -> Response:
        """Name, version and extensions of the server."""
        extensions = [*EXTENSIONS, *([REPOSITORY_EXTENSION] if server.repository.is_open else [])]
        return _json({"name": "temperance", "version": server.version, "extensions": extensions})

    async def live() -> Response:
        """Whether the process turns."""
        return _json({"live": True})

    async def ready() -> Response:
        """Whether every model is ready, and there is one."""
        if not server.is_ready():
            raise NotReady("no model is loaded: the start is not over, or each model was unloaded or has no alias")
        return _json({"ready": True})

    async def statistics() -> Response:
        """What every served model has done since it was loaded."""
        return _json({"model_stats": [_statistics(model) for model in server.registry.all_models()]})

    return {"": metadata, "/health/live": live, "/health/ready": ready, "/models/stats": statistics}


def _model_endpoints(server: Server) -> dict[str, Callable[..., Any]]:
    async def metadata(request: Request) -> Response:
        """What a model takes and answers."""
        model = addressed(server.registry, request.path_params)
        return _json(_metadata(model, server.registry))

    async def ready(request: Request) -> Response:
        """Whether a model is ready."""
        model = addressed(server.registry, request.path_params)
        return _json({"name": model.name, "ready": True})

    async def statistics(request: Request) -> Response:
        """What a model has done since it was loaded."""
        return _json({"model_stats": [_statistics(addressed(server.registry, request.path_params))]})

    return {"": metadata, "/ready": ready, "/stats": statistics}


def _add_infer(routes: APIRouter, path: str, server: Server) -> None:
    async def endpoint(request: Request) -> Response:
        model = addressed(server.registry, request.path_params)
        raw = await read_raw(request, limit=server.limits.body())
        return await infer(server, model, request.headers, raw, request.state.request_id, receive=request.receive)

    routes.add_api_route(path, endpoint, methods=["POST"], summary="Judge rows of tensors", openapi_extra=_INFER_BODY)


async def infer(
    server: Server, model: Model, headers: Any, raw: bytes, request_id: str, *, receive: Receive | None = None
) -> Response:
    """The answer to one inference request; ``receive``, ASGI's, tells when nobody waits for it any more.

    Raises
    ------
    ServiceError, ClientDisconnect
    """
    body = tensors.decompress(raw, headers.get("content-encoding", "identity").lower(), limit=server.limits.body())
    question = read_question(body, headers.get(JSON_LENGTH), model, server.limits.rows)
    names = {wanted.name for wanted in question.outputs}
    seconds = server.limits.seconds if question.seconds is None else min(question.seconds, server.limits.seconds)
    call = Call(request_id, deadline=time.monotonic() + seconds)
    decide = not names.isdisjoint(DECIDED)
    options = Options("infer", decide=decide, policy=question.policy, site=question.site)
    prediction = await predict_while_connected(server.predictor, call, model, question.rows, options, receive=receive)
    outputs = [answer_output(prediction, wanted) for wanted in question.outputs]
    text, length = tensors.encode(_head(prediction, question), outputs)
    if length is None:
        return Response(text, media_type="application/json")
    return Response(text, media_type="application/octet-stream", headers={JSON_LENGTH: str(length)})


def read_question(body: bytes, json_length: str | None, model: Model, most_rows: int) -> Question:
    """A request's rows and wishes.

    Raises
    ------
    MalformedBody, InvalidRequest, InvalidInstances, TooManyRows
    """
    if json_length is not None and not (json_length.isdigit() and int(json_length) <= len(body)):
        raise InvalidRequest("the header Inference-Header-Content-Length must be the length of the JSON in the body")
    size = len(body) if json_length is None else int(json_length)
    if size == 0:
        return _raw_question(body, model, most_rows)
    document = tensors.parse_document(body[:size])
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    _check_names(document)
    rows = _rows(document.get("inputs"), Blobs(body[size:]), model)
    _check_rows(rows, most_rows)
    parameters = document.get("parameters")
    binary = tensors.switch(parameters, "binary_data_output", default=False)
    return Question(
        _text(document, "id"),
        rows,
        _wanted(document.get("outputs"), parameters, model, binary=binary),
        _text(parameters, "policy"),
        _text(parameters, "site"),
        _seconds(parameters),
    )


def _check_names(document: Json) -> None:
    misspelt.check_document(document)
    misspelt.check_parameters(document.get("parameters"), ("parameters",))
    for side in ("inputs", "outputs"):
        tensors_named = document.get(side)
        for i, entry in enumerate(tensors_named if isinstance(tensors_named, list) else ()):
            if isinstance(entry, dict):
                misspelt.check_parameters(entry.get("parameters"), (side, i, "parameters"))


def _raw_question(body: bytes, model: Model, most_rows: int) -> Question:
    if len(_slots(model)) != 1:
        raise InvalidRequest("a body without JSON is one input's values, and this model takes several")
    slot = _slots(model)[0]
    width = slot.columns.stop - slot.columns.start
    if not body or len(body) % (slot.dtype.itemsize * width):
        raise InvalidRequest(f"a body without JSON must hold rows of {width} values of type {_datatype(slot)}")
    elements = NUMBERS[_datatype(slot)]  # of BOOL bytes, which may be anything
    rows = _table([np.frombuffer(body, elements).reshape(-1, width)], model)
    _check_rows(rows, most_rows)
    return Question(None, rows, _wanted(None, None, model, binary=True), None, None, None)


def _rows(inputs: object, blobs: Blobs, model: Model) -> Rows:
    if not isinstance(inputs, list) or not all(isinstance(entry, dict) for entry in inputs):
        raise _invalid(("inputs",), "must be a list of tensors")
    given = {entry.get("name"): (i, entry) for i, entry in enumerate(inputs)}
    names = [slot.name for slot in _slots(model)]
    if len(inputs) != len(names) or not all(name in given for name in names):
        raise _invalid(("inputs",), f"must be {', '.join(names)}, each once")
    # Bytes follow in the order of the request's inputs, columns lie in the order of the manifest's.
    found = {entry["name"]: tensors.read_input(entry, ("inputs", i), blobs) for i, entry in enumerate(inputs)}
    blobs.finish()
    parts = [_columns(found[slot.name], slot, *given[slot.name]) for slot in _slots(model)]
    if len({len(part) for part in parts}) > 1:
        raise _invalid(("inputs",), "must have the same number of rows")
    return _table(parts, model)


def _columns(values: tensors.Values, slot: Slot, place: int, entry: Json) -> tensors.Values:
    if entry["datatype"] == "BOOL" and slot.dtype.kind != "b":
        raise _invalid(("inputs", place, "datatype"), f"must be of numbers, such as {_datatype(slot)}")
    width = slot.columns.stop - slot.columns.start
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != width:
        raise _invalid(("inputs", place, "shape"), f"must be [rows, {width}]")
    return values


def _table(parts: list[tensors.Values], model: Model) -> Rows:
    """What the graph's inputs take, side by side."""
    if len(parts) == 1 and (parts[0].dtype.kind == "f" or not model.inputs.wide):
        with np.errstate(invalid="ignore"):  # a signalling NaN; as any NaN it is a missing value
            return parts[0].astype(np.float64, copy=False)
    columns = dict(zip(model.inputs.columns, (column for part in parts for column in part.T), strict=True))
    with np.errstate(invalid="ignore"):
        return rows_with(*gathered(columns, model.inputs.wide))


def _check_rows(rows: Rows, most: int) -> None:
    if len(rows) > most:
        raise TooManyRows(f"a request has at most {most} rows; send them in parts")
    if len(rows) == 0:
        raise InvalidInstances("there is no row to judge")


def _wanted(outputs: object, parameters: object, model: Model, *, binary: bool) -> tuple[Wanted, ...]:
    available = output_names(model, policy=_text(parameters, "policy"))
    if outputs is None:
        return tuple(Wanted(name, binary) for name in available)
    if not isinstance(outputs, list) or not outputs:
        raise _invalid(("outputs",), "must be a list of outputs, or absent")
    found = []
    for i, entry in enumerate(outputs):
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in available and not (name in DECIDED and model.policies):
            raise _invalid(("outputs", i, "name"), f"must be one of {', '.join(available)}")
        own = entry.get("parameters")
        found.append(Wanted(name, tensors.switch(own, "binary_data", default=binary), _top(own, name, i)))
    return tuple(found)


def _top(parameters: object, name: str, place: int) -> int | None:
    count = parameters.get("classification") if isinstance(parameters, dict) else None
    if count is None:
        return None
    if type(count) is not int or count < 1 or name not in RANKED:
        where = ("outputs", place, "parameters", "classification")
        raise _invalid(where, f"must be a positive number, on {' or '.join(sorted(RANKED))}")
    return count


def _head(prediction: Prediction, question: Question) -> Json:
    model = prediction.model
    parameters = {"digest": model.bundle.digest, "version": model.version, "site": prediction.site or ""}
    parameters["policy"] = prediction.decided[0].policy.name if prediction.decided else ""
    return {
        "model_name": model.name,
        "model_version": model.version,
        "id": question.id or prediction.call.request_id,
        "parameters": parameters,
    }


def _metadata(model: Model, registry: Registry) -> Json:
    k = len(model.classes)
    widths = {"logits": [k], "probabilities": [k], "risk": [_actions(model)]}
    gated = [model.chain.detectors[i].name for i in model.chain.gate]
    return {
        "name": model.name,
        "versions": [str(version) for version in registry.served(model.name).models],
        "platform": PLATFORM,
        "inputs": [
            {"name": s.name, "datatype": _datatype(s), "shape": [-1, s.columns.stop - s.columns.start]}
            for s in _slots(model)
        ],
        "outputs": [
            {"name": name, "datatype": datatype(name), "shape": [-1, *widths.get(name, [])]}
            for name in output_names(model)
        ],
        "properties": {
            "calibration": model.status,
            "classes": orjson.dumps(model.classes).decode(),
            "actions": orjson.dumps({name: policy.actions for name, policy in model.policies.items()}).decode(),
            "ood_score": gated[0] if gated else "",
        },
    }


def _actions(model: Model) -> int:
    default = model.manifest.default_policy
    return -1 if default is None else len(model.policies[default].actions)


def _statistics(model: Model) -> Json:
    tally = model.tally
    done = {"count": tally.runs, "ns": int(tally.seconds * NANOSECONDS)}
    none = {"count": 0, "ns": 0}
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": int(tally.last * 1000),
        "inference_count": tally.rows,
        "execution_count": tally.runs,
        "inference_stats": {
            "success": done,
            "fail": {"count": tally.failures, "ns": 0},
            "queue": {"count": tally.runs, "ns": int(tally.waited * NANOSECONDS)},
            "compute_input": none,
            "compute_infer": done,
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    }


def _slots(model: Model) -> tuple[Slot, ...]:
    if not isinstance(model.inputs, NumberInputs) or model.task != "multiclass":
        raise InvalidRequest(f"{model.name} is no classifier of rows of numbers; ask it through /v1")
    return model.inputs.slots


def _datatype(slot: Slot) -> str:
    return tensors.OF_GRAPH[slot.dtype.name]


def _text(of: object, key: str) -> str | None:
    value = of.get(key) if isinstance(of, dict) else None
    return value if isinstance(value, str) else None


def _seconds(parameters: object) -> float | None:
    microseconds = parameters.get("timeout") if isinstance(parameters, dict) else None
    return microseconds / 1e6 if type(microseconds) is int and microseconds > 0 else None


def _invalid(path: tuple[str | int, ...], detail: str) -> InvalidRequest:
    return InvalidRequest(f"{'.'.join(map(str, path))}: {detail}", [Fault(path, "invalid", detail)])


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


_INFER_BODY: Final[Json] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
