"""`/openapi.json`: written when it is first requested, and again when other models are served."""

import asyncio
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp

from service.api.remembered_routes import READ
from service.api.root_path import shown_under
from service.runtime.registry import Registry

PATH: Final = "/openapi.json"
SERVER: Final = b'"servers":[{"url":"%s"}]'


class Contract:
    """The document of what a registry serves.

    Parameters
    ----------
    registry : Registry
    version : str
        Of the service.
    open_app, closed_app : callable
        Make the applications that the examples come from, as `document_writer.write` takes them.
    is_open : callable
        Whether no credential is needed, which the first key changes.
    """

    def __init__(
        self,
        registry: Registry,
        version: str,
        open_app: Callable[[], ASGIApp],
        closed_app: Callable[[], ASGIApp],
        is_open: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._version = version
        self._open_app, self._closed_app, self._is_open = open_app, closed_app, is_open
        self._written = ((-1, True), b"")
        self._writing = asyncio.Lock()

    async def text(self) -> bytes:
        """Its bytes."""
        async with self._writing:
            state = self._registry.generation, self._is_open()
            if self._written[0] != state:
                from service.api.openapi.document_writer import write  # noqa: PLC0415  # its schemas are no part of the start

                apps = self._open_app, self._closed_app
                self._written = state, await write(self._registry, self._version, *apps, is_open=state[1])
            return self._written[1]


def router(contract: Contract, root_path: str) -> APIRouter:
    """The route of the document.

    Parameters
    ----------
    contract : Contract
    root_path : str
        Under which a proxy shows the service; empty where that is not known.
    """
    routes = APIRouter()

    async def openapi(request: Request) -> Response:
        text, prefix = await contract.text(), shown_under(request.scope, root_path)
        return Response(_under(prefix, text) if prefix else text, media_type="application/json")

    routes.add_api_route(PATH, openapi, methods=READ)
    return routes


def _under(prefix: str, text: bytes) -> bytes:
    return text.replace(SERVER % b".", SERVER % prefix.encode(), 1)
