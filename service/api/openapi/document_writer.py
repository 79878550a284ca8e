"""Writes the document: its examples first, then all of it as text.

Tested in tests/api/openapi/test_router.py.
"""

import asyncio
import json
from collections.abc import Callable

from starlette.types import ASGIApp

from service.api.openapi.document import document, operations
from service.api.openapi.error_examples import errors_of
from service.api.openapi.examples import examples_of, subjects
from service.api.openapi.in_process import started
from service.runtime.registry import Registry


async def write(
    registry: Registry,
    version: str,
    open_app: Callable[[], ASGIApp],
    closed_app: Callable[[], ASGIApp],
    *,
    is_open: bool = True,
) -> bytes:
    """The document's text.

    Parameters
    ----------
    registry : Registry
    version : str
        Of the service.
    open_app, closed_app : callable
        Make the applications that the examples come from; `errors_of` states how they differ.
    is_open : bool, optional
        Whether no credential is needed.
    """
    shown, names = subjects(registry), registry.names()
    async with started(open_app()) as app:
        examples = await examples_of(app, operations(), shown)
        errors = await errors_of(app, closed_app(), names[0]) if names else {}
    # Schemas of a hundred types take a moment, in which the loop goes on answering.
    made = await asyncio.to_thread(document, version, examples, errors, is_open=is_open)
    return json.dumps(made, separators=(",", ":")).encode()  # bounds of 64-bit integers are too large for orjson
