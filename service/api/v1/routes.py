"""`/v1`: instances in, predictions out, verbs after a colon."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from service.api.addresses import Limits, addressed
from service.api.v1 import answers
from service.api.v1 import responses as replies
from service.api.v1.endpoint import VerbEndpoint
from service.api.v1.instances import example
from service.api.v1.reader import Readers
from service.api.v1.verbs import VERBS, Verb
from service.bundle.writer import FIRST_ALIAS
from service.errors import NotFound, VerbNotFound
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.registry import Registry

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


def verb_routes(registry: Registry, predictor: Predictor, limits: Limits) -> list[Route]:
    """Routes of the verbs; their endpoints are ASGI applications."""
    readers = Readers(registry, most_rows=limits.rows)
    endpoints = {
        verb.name: VerbEndpoint(verb, registry=registry, predictor=predictor, limits=limits, readers=readers)
        for verb in VERBS.values()
    }
    return [
        Route(f"/v1/models/{{name}}{place}:{verb}", endpoint, methods=["POST"], name=verb)
        for verb, endpoint in endpoints.items()
        for place in PLACES
    ]


def router(registry: Registry) -> APIRouter:
    """The other routes of `/v1`; to be matched after those of the verbs, for a name fits `name:verb` too."""
    routes = APIRouter(prefix="/v1", tags=["v1"])
    _add_metadata(routes, registry, registry.all_models()[0])
    routes.add_api_route("/models/{rest:path}", _unknown_verb, methods=["GET", "POST"], include_in_schema=False)
    return routes


def documented(registry: Registry) -> Sequence[BaseRoute]:
    """The verbs' routes as FastAPI documents them."""
    routes = APIRouter(prefix="/v1", tags=["v1"])
    shown = registry.all_models()[0]
    for verb in VERBS.values():
        for place in PLACES:
            _add_verb(routes, f"/models/{{name}}{place}:{verb.name}", verb, shown)
    return routes.routes


def _add_verb(routes: APIRouter, path: str, verb: Verb, model: Model) -> None:
    body = {"$ref": f"#/components/schemas/{verb.request.__name__}"}
    content = {"application/json": {"schema": body, **_example(model, verb)}}
    routes.add_api_route(
        path,
        _unknown_verb,
        methods=["POST"],
        name=verb.name,
        summary=verb.summary,
        responses={200: {"model": _ANSWERS.get(verb.name, replies.Answer | replies.ColumnsAnswer)}, **ERRORS},
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


def _example(model: Model, verb: Verb) -> answers.Json:
    instances = example(model.inputs)
    if instances is None:
        return {}
    labels = {"labels": [_LABELS[model.task](model)]} if "labels" in verb.request.model_fields else {}
    return {"example": {"instances": instances, **labels}}


async def _unknown_verb(request: Request) -> Response:
    if request.method != "POST":
        raise NotFound("nothing lives at this path; /docs lists what does")
    raise VerbNotFound(f"after a model, version or label comes a colon and one of {', '.join(VERBS)}")


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
