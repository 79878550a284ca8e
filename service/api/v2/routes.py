"""`/v2`, the Open Inference Protocol: tensors in, tensors out, every refusal `{"error": "…"}`."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from service.access.caller import Caller
from service.api.addresses import VERSION_PLACES, addressed
from service.api.remembered_routes import READ, DirectRoute
from service.api.v2 import model_repository
from service.api.v2.endpoint import InferEndpoint, Server
from service.api.v2.model_metadata import model_metadata, server_metadata, statistics
from service.api.v2.responses import json_response


def infer_routes(server: Server) -> list[DirectRoute]:
    """Routes of inference; their endpoint is an ASGI application."""
    endpoint = InferEndpoint(server)
    return [
        DirectRoute(f"/v2/models/{{name}}{place}/infer", endpoint, methods=["POST"], name="infer")
        for place in VERSION_PLACES
    ]


def router(server: Server) -> APIRouter:
    """The other routes of `/v2`."""
    routes = APIRouter(prefix="/v2")
    for path, endpoint in _server_endpoints(server).items():
        routes.add_api_route(path, endpoint, methods=READ)
    for path, endpoint in _model_endpoints(server).items():
        for place in VERSION_PLACES:
            routes.add_api_route(f"/models/{{name}}{place}{path}", endpoint, methods=READ)
    both = APIRouter()  # routers side by side: metrics and logs name a route by the prefix of its own router alone
    both.include_router(routes)
    both.include_router(model_repository.router(server.repository, limit=server.limits.body))
    return both


def _server_endpoints(server: Server) -> dict[str, Callable[..., Any]]:
    async def metadata() -> Response:
        """Name, version and extensions of the server."""
        return json_response(server_metadata(server.version, repository=server.repository.is_open))

    async def live() -> Response:
        """Whether the process responds."""
        return json_response({"live": True})

    async def ready() -> Response:
        """Whether requests belong here, as `/readyz`."""
        server.check_ready()
        return json_response({"ready": True})

    async def all_statistics(request: Request) -> Response:
        """What every served model that the caller may use has done since it was loaded."""
        caller: Caller = request.state.caller
        models = [model for model in server.registry.all_models() if caller.may_use(model.name)]
        return json_response({"model_stats": [statistics(model) for model in models]})

    return {"": metadata, "/health/live": live, "/health/ready": ready, "/models/stats": all_statistics}


def _model_endpoints(server: Server) -> dict[str, Callable[..., Any]]:
    async def metadata(request: Request) -> Response:
        """What a model takes and answers."""
        model = addressed(server.registry, request.path_params)
        return json_response(model_metadata(model, server.registry))

    async def ready(request: Request) -> Response:
        """Whether requests for a model belong here: it is served, and its answers can leave."""
        model = addressed(server.registry, request.path_params)
        server.check_open()
        return json_response({"name": model.name, "ready": True})

    async def model_statistics(request: Request) -> Response:
        """What a model has done since it was loaded."""
        return json_response({"model_stats": [statistics(addressed(server.registry, request.path_params))]})

    return {"": metadata, "/ready": ready, "/stats": model_statistics}
