"""`/openapi.json`: written when it is first requested, and again when other models are served."""

import asyncio
import json
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Response
from starlette.types import ASGIApp

from service.api.openapi.document import document, operations
from service.api.openapi.error_examples import errors_of
from service.api.openapi.examples import examples_of, subjects
from service.api.openapi.in_process import started
from service.runtime.registry import Registry

PATH: Final = "/openapi.json"


class Contract:
    """The document of what a registry serves.

    Parameters
    ----------
    registry : Registry
    version : str
        Of the service.
    open_app, closed_app : callable
        Make the applications that the examples come from; `errors_of` says how they differ.
    """

    def __init__(
        self, registry: Registry, version: str, open_app: Callable[[], ASGIApp], closed_app: Callable[[], ASGIApp]
    ) -> None:
        self._registry = registry
        self._version = version
        self._open_app, self._closed_app = open_app, closed_app
        self._written = (-1, b"")
        self._writing = asyncio.Lock()

    async def text(self) -> bytes:
        """Its bytes."""
        async with self._writing:
            generation = self._registry.generation
            if self._written[0] != generation:
                self._written = (generation, await self._write())
            return self._written[1]

    async def _write(self) -> bytes:
        shown, names = subjects(self._registry), self._registry.names()
        async with started(self._open_app()) as app:
            examples = await examples_of(app, operations(), shown)
            errors = await errors_of(app, self._closed_app(), names[0]) if names else {}
        # Schemas of a hundred types take a moment, in which the loop goes on answering.
        made = await asyncio.to_thread(document, self._version, examples, errors)
        return json.dumps(made, separators=(",", ":")).encode()  # bounds of 64-bit integers are too large for orjson


def router(contract: Contract) -> APIRouter:
    """The route of the document."""
    routes = APIRouter(include_in_schema=False)

    async def openapi() -> Response:
        return Response(await contract.text(), media_type="application/json")

    routes.add_api_route(PATH, openapi, methods=["GET"])
    return routes
