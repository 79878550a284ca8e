"""`/v1`: instances in, predictions out, verbs after a colon."""

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from service.access.caller import Caller
from service.api.addresses import PLACES, Limits, addressed
from service.api.idempotency import Idempotency
from service.api.recorder import Recorder
from service.api.remembered_routes import READ, DirectRoute
from service.api.v1.endpoint import VerbEndpoint
from service.api.v1.targets import Targets
from service.api.v1.verbs import VERBS
from service.errors import VerbNotFound
from service.prediction.predictor import Predictor
from service.runtime.registry import Registry


def verb_routes(
    registry: Registry,
    predictor: Predictor,
    limits: Limits,
    recorder: Recorder | None = None,
    idempotency: Idempotency | None = None,
) -> list[DirectRoute]:
    """Routes of the verbs; their endpoints are ASGI applications."""
    targets, clock = Targets(registry, predictor, limits), predictor.now
    endpoints = {
        verb.name: VerbEndpoint(verb, targets, clock=clock, recorder=recorder, idempotency=idempotency)
        for verb in VERBS.values()
    }
    return [
        DirectRoute(f"/v1/models/{{name}}{place}:{verb}", endpoint, methods=["POST"], name=verb)
        for verb, endpoint in endpoints.items()
        for place in PLACES
    ]


def router(registry: Registry) -> APIRouter:
    """The other routes of `/v1`; to be matched after those of the verbs, for a name fits `name:verb` too."""
    routes = APIRouter(prefix="/v1")
    _add_metadata(routes, registry)
    routes.add_api_route("/models/{rest:path}", _unknown_verb, methods=["POST"], route_class_override=PostRoute)
    return routes


class ModelRoute(APIRoute):
    """A route of a model: no path with a verb, though a name fits `name:verb` too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As other routes match; never a path that ends in a colon and a verb."""
        return (Match.NONE, {}) if ":" in scope["path"].rpartition("/")[2] else super().matches(scope)


class PostRoute(APIRoute):
    """A route that does not exist for other methods: they are answered as if it were not there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As other routes match, if their methods fit."""
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


async def _unknown_verb() -> Response:
    raise VerbNotFound(f"after a model, version or label comes a colon and one of {', '.join(VERBS)}")


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _add_metadata(routes: APIRouter, registry: Registry) -> None:
    async def list_models(request: Request) -> Response:
        caller: Caller = request.state.caller
        return _json({"models": [name for name in registry.listed() if caller.may_use(name)]})

    async def describe_model(request: Request) -> Response:
        from service.api.v1.model_description import description  # noqa: PLC0415  # slow to import

        place = request.path_params
        reason = registry.refused.get(place["name"])
        if reason is not None and len(place) == 1:
            return _json({"name": place["name"], "ready": False, "refusal": reason})
        model = addressed(registry, place)
        return _json(description(model, registry.served(model.name)))

    routes.add_api_route("/models", list_models, methods=READ)
    for path in (f"/models/{{name}}{place}" for place in PLACES):
        routes.add_api_route(path, describe_model, methods=READ, route_class_override=ModelRoute)
