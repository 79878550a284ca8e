"""`/v2/repository`, the model repository extension: what is published, and its models loaded and unloaded by name."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.access.caller import Caller
from service.api.body import parse_json
from service.api.v2.documents import decompress, read_body
from service.api.v2.responses import json_response
from service.api.v2.tensors import Json
from service.errors import InvalidRequest, RepositoryClosed
from service.runtime.reload import Listed, Reloader

READY: Final = "READY"
UNAVAILABLE: Final = "UNAVAILABLE"

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Access:
    """Access to the models on disk.

    Attributes
    ----------
    reloader : Reloader or None
        None where the operator closed it.
    workers : int
        Processes that serve; each has models of its own.
    """

    reloader: Reloader | None
    workers: int

    @property
    def is_open(self) -> bool:
        """Whether clients have access."""
        return self.reloader is not None

    def for_listing(self) -> Reloader:
        """What lists the published models; RepositoryClosed without access."""
        if self.reloader is None:
            raise RepositoryClosed("the repository is not shown over HTTP; TEMPERANCE_REPOSITORY_API=true shows it")
        return self.reloader

    def for_changes(self) -> Reloader:
        """What loads models; RepositoryClosed without access, or where a load would reach one worker of many."""
        reloader = self.for_listing()
        if self.workers > 1:
            raise RepositoryClosed(
                f"this would reach one of {self.workers} workers; move an alias with `temperance alias`, which "
                "all of them follow, or serve with one worker"
            )
        return reloader


def router(access: Access, *, limit: Callable[[], int]) -> APIRouter:
    """Routes of `/v2/repository`.

    Parameters
    ----------
    access : Access
    limit : callable
        Most bytes of a request's body.
    """
    routes = APIRouter(prefix="/v2/repository")
    for path, endpoint in {"/index": _index(access, limit), **_changes(access, limit)}.items():
        routes.add_api_route(path, endpoint, methods=["POST"])
    return routes


def _index(access: Access, limit: Callable[[], int]) -> Endpoint:
    async def index(request: Request) -> Response:
        """Published models and their state."""
        reloader = access.for_listing()
        document = await _document(request, limit())
        caller: Caller = request.state.caller
        listing = [listed for listed in await asyncio.to_thread(reloader.listing) if caller.may_use(listed.name)]
        ready_alone = document.get("ready") is True
        return json_response([_entry(listed) for listed in listing if listed.reason is None or not ready_alone])

    return index


def _changes(access: Access, limit: Callable[[], int]) -> dict[str, Endpoint]:
    one_at_a_time = asyncio.Lock()  # a request waits here for the last load to end, not on a thread that others need

    async def load(request: Request) -> Response:
        """Load the versions that a model's aliases name."""
        reloader = access.for_changes()
        _refuse_overrides(await _document(request, limit()))
        async with one_at_a_time:
            await asyncio.to_thread(reloader.load, request.path_params["name"])
        return json_response({})

    async def unload(request: Request) -> Response:
        """Stop serving a model, until it is loaded again."""
        reloader = access.for_changes()
        await _document(request, limit())
        async with one_at_a_time:
            await asyncio.to_thread(reloader.unload, request.path_params["name"])
        return json_response({})

    return {"/models/{name}/load": load, "/models/{name}/unload": unload}


async def _document(request: Request, limit: int) -> Json:
    sent, encoding, _ = await read_body(request.scope, request.receive, limit=limit)
    raw = decompress(sent, encoding, limit=limit)
    document = parse_json(raw) if raw else {}
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object, or nothing")
    return document


def _refuse_overrides(document: Json) -> None:
    # Triton takes another configuration here, and whole files. Here what is served has been published, with its sums.
    if document.get("parameters"):
        raise InvalidRequest("parameters: a load takes none; what is served is what was published and an alias names")


def _entry(listed: Listed) -> Json:
    state = READY if listed.reason is None else UNAVAILABLE
    return {"name": listed.name, "version": str(listed.version), "state": state, "reason": listed.reason or ""}
