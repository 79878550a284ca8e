"""`/v1`: instances in, predictions out, verbs after a colon."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive

from service.api.addresses import Limits, addressed
from service.api.body import parse_json, read_body
from service.api.disconnect import judge_while_connected
from service.api.v1 import answers, columns
from service.api.v1 import requests as schemas
from service.api.v1 import responses as replies
from service.api.v1.instances import at_home, example, parse_rows
from service.api.v1.labelled import evaluate_answer, read_labelled
from service.api.v1.parameters import (
    decide_options,
    detect_options,
    evaluate_options,
    parameter_error,
    predict_options,
    refuse_foreign,
)
from service.bundle.tasks import ABSENT, PRESENT
from service.bundle.writer import FIRST_ALIAS
from service.errors import InvalidInstances, NotFound, VerbNotFound
from service.evaluation.prevalence import estimate
from service.evaluation.training_losses import check_names
from service.prediction.answer import Prediction
from service.prediction.call import Call
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.registry import Registry

_SUMMARIES: Final = {
    "predict": "Calibrated probabilities",
    "detect": "Out-of-distribution scores and flags",
    "decide": "Probabilities, flags, expected costs and the action of least cost",
    "evaluate": "Metrics and realised costs of labelled rows",
    "estimate": "Prevalence of unlabelled rows, and whether it differs from the source",
}
_ANSWERS: Final[dict[str, type[replies.Header]]] = {
    "evaluate": replies.EvaluateAnswer,
    "estimate": replies.EstimateAnswer,
}
PLACES: Final = ("", "/versions/{version}", "/labels/{alias}")
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": text, "content": replies.PROBLEM}
    for status, text in {
        400: "The body is not strict JSON",
        404: "No such model or version is served",
        413: "The body is too large",
        415: "The body is not JSON",
        422: "The instances, labels or parameters do not fit the model",
        500: "The service is at fault",
        504: "The model did not answer in time",
    }.items()
}

_LABELS: Final[dict[str, Callable[[Model], object]]] = {
    "multiclass": lambda model: model.classes[0],
    "multilabel": lambda model: [model.classes[0]],
    "sequence": lambda model: [model.classes[0]] * model.raw(model.inputs.synthetic()).logits.shape[1],
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks, and how they are heard when they go away."""

    call: Call
    receive: Receive


Use = Callable[[Model, object, _Asked], Awaitable[bytes]]


def router(registry: Registry, predictor: Predictor, limits: Limits) -> APIRouter:
    """Routes of `/v1`.

    Parameters
    ----------
    registry : Registry
    predictor : Predictor
    limits : Limits
    """
    routes = APIRouter(prefix="/v1", tags=["v1"])
    uses = _Uses(predictor, limits.rows)
    by_verb: dict[str, Use] = {
        "predict": uses.predict,
        "detect": uses.detect,
        "decide": uses.decide,
        "evaluate": uses.evaluate,
        "estimate": uses.estimate,
    }
    shown = registry.all_models()[0]
    for verb, use in by_verb.items():
        for place in PLACES:
            endpoint = _endpoint(registry, use, limits)
            _add_verb(routes, f"/models/{{name}}{place}:{verb}", verb, endpoint, shown)
    # After the verbs: what answers a wrong method is the first path that fits, and a name fits `name:verb` too.
    _add_metadata(routes, registry, registry.all_models()[0])
    routes.add_api_route("/models/{rest:path}", _unknown_verb, methods=["GET", "POST"], include_in_schema=False)
    return routes


def _add_verb(routes: APIRouter, path: str, verb: str, endpoint: Callable[..., Any], model: Model) -> None:
    body = {"$ref": f"#/components/schemas/{schemas.REQUESTS[verb].__name__}"}
    content = {"application/json": {"schema": body, **_example(model, verb)}}
    routes.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        name=verb,
        summary=_SUMMARIES[verb],
        responses={200: {"model": _ANSWERS.get(verb, replies.Answer | replies.ColumnsAnswer)}, **ERRORS},
        openapi_extra={
            "parameters": _path_parameters(path, model),
            "requestBody": {"required": True, "content": content},
        },
    )


def _path_parameters(path: str, model: Model) -> list[answers.Json]:
    examples = {"name": model.name, "version": model.version, "alias": FIRST_ALIAS}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}
        for name, example in examples.items()
        if f"{{{name}}}" in path
    ]


def _example(model: Model, verb: str) -> answers.Json:
    instances = example(model.inputs)
    if instances is None:
        return {}
    labels = {"labels": [_LABELS[model.task](model)]} if verb == "evaluate" else {}
    return {"example": {"instances": instances, **labels}}


def _endpoint(registry: Registry, use: Use, limits: Limits) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        model = addressed(registry, request.path_params)
        call = Call(request.state.request_id, deadline=time.monotonic() + limits.seconds)
        document = parse_json(await read_body(request, limit=limits.body()))
        body = await use(model, document, _Asked(call, request.receive))
        return Response(body, media_type="application/json")

    return endpoint


async def _unknown_verb(request: Request) -> Response:
    if request.method != "POST":
        raise NotFound("nothing lives at this path; /docs lists what does")
    raise VerbNotFound(f"after a model, version or label comes a colon and one of {', '.join(_SUMMARIES)}")


class _Uses:
    """The verbs: each translates a document, calls the predictor, translates back."""

    def __init__(self, predictor: Predictor, most_rows: int) -> None:
        self._predictor = predictor
        self._most_rows = most_rows

    async def predict(self, model: Model, document: object, asked: _Asked) -> bytes:
        """Calibrated probabilities."""
        request = schemas.parse_request(schemas.PredictRequest, document, _known(model))
        wanted = request.parameters
        refuse_foreign(wanted, model)
        options = predict_options(wanted, model, rows=len(request.instances))
        prediction = await self._predict(model, request.instances, wanted.ids, asked, options)
        if wanted.layout == "columns":
            return columns.predict_columns(prediction, wanted.ids, wanted.top_k)
        return _rows(prediction, answers.predict_rows(prediction, wanted.ids, wanted.top_k))

    async def detect(self, model: Model, document: object, asked: _Asked) -> bytes:
        """Scores and flags."""
        request = schemas.parse_request(schemas.DetectRequest, document, _known(model))
        wanted = request.parameters
        refuse_foreign(wanted, model)
        options = detect_options(wanted, model)
        prediction = await self._predict(model, request.instances, wanted.ids, asked, options)
        if wanted.layout == "columns":
            return columns.detect_columns(prediction, wanted.ids)
        return _rows(prediction, answers.detect_rows(prediction, wanted.ids))

    async def decide(self, model: Model, document: object, asked: _Asked) -> bytes:
        """Probabilities, flags and the least-cost action."""
        request = schemas.parse_request(schemas.DecideRequest, document, _known(model))
        wanted = request.parameters
        refuse_foreign(wanted, model)
        options = decide_options(wanted, model, rows=len(request.instances))
        prediction = await self._predict(model, request.instances, wanted.ids, asked, options)
        if wanted.layout == "columns":
            return columns.decide_columns(prediction, wanted.ids, wanted.top_k)
        return _rows(prediction, answers.decide_rows(prediction, wanted.ids, wanted.top_k))

    async def evaluate(self, model: Model, document: object, asked: _Asked) -> bytes:
        """Metrics of labelled rows."""
        request = schemas.parse_request(schemas.EvaluateRequest, document, _known(model))
        names = request.parameters.losses
        refuse_foreign(request.parameters, model)
        rows, options = read_labelled(request, model), evaluate_options(request.parameters, model)
        check_names(names, model.manifest)
        prediction = await self._predict(model, request.instances, None, asked, options)
        found = await asyncio.to_thread(evaluate_answer, rows, prediction, names)
        return orjson.dumps({**answers.header(prediction), "evaluation": found})

    async def estimate(self, model: Model, document: object, asked: _Asked) -> bytes:
        """Prevalence of unlabelled rows."""
        request = schemas.parse_request(schemas.EstimateRequest, document, _known(model))
        prediction = await self._predict(model, request.instances, None, asked, Options("estimate"))
        found = await asyncio.to_thread(estimate, model, prediction.posterior)
        said = answers.estimate_body(found, model.classes)
        return orjson.dumps({**answers.header(prediction), "estimate": said})

    async def _predict(
        self, model: Model, instances: list[Any], ids: list[str] | None, asked: _Asked, options: Options
    ) -> Prediction:
        if ids is not None and len(ids) != len(instances):
            raise parameter_error(("ids",), "wrong-length", "must have one entry per instance")
        rows = parse_rows(instances, model.inputs, most=self._most_rows)
        try:
            return await judge_while_connected(self._predictor, asked.call, model, rows, options, receive=asked.receive)
        except InvalidInstances as error:
            raise at_home(error, instances, model.inputs) from None


def _known(model: Model) -> list[str]:
    return [*model.classes, *model.manifest.policies, *model.manifest.sites, ABSENT, PRESENT]


def _rows(prediction: Prediction, rows: list[answers.Json]) -> bytes:
    said = {**answers.header(prediction), "predictions": rows, **answers.session_member(prediction)}
    return orjson.dumps(said)


def _json(body: answers.Json) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _add_metadata(routes: APIRouter, registry: Registry, example: Model) -> None:
    async def list_models() -> Response:
        return _json({"models": registry.names()})

    async def describe_model(request: Request) -> Response:
        if ":" in request.url.path.rpartition("/")[2]:
            raise HTTPException(405, headers={"Allow": "POST"})
        model = addressed(registry, request.path_params)
        return _json(answers.description(model, registry.served(model.name)))

    routes.add_api_route("/models", list_models, methods=["GET"], summary="Names of the served models")
    for path in (f"/models/{{name}}{place}" for place in PLACES):
        routes.add_api_route(
            path,
            describe_model,
            methods=["GET"],
            summary="What a model takes, answers, costs, and how it was calibrated",
            responses={404: ERRORS[404]},
            openapi_extra={"parameters": _path_parameters(path, example)},
        )
