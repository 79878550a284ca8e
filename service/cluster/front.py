"""The front of a deployment: a request goes to the group of its model, and one about all models to every group.

It reads no credential and answers nothing of its own, but for what never reaches a group.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.body import read_bytes
from service.api.correlation import correlation_of, identity
from service.api.disconnect import while_connected
from service.cluster.forwarded import Forwarded, Reply
from service.cluster.merged import OF_EACH_GROUP, OF_EACH_REPLICA
from service.cluster.model_paths import model_in, within
from service.errors import BodyTooLarge, ServiceError

LENGTH: Final = b"content-length"
MOST_FOR_ALL: Final = 4096
"""Bytes of a body that goes to every group: no document of theirs is larger, and each of them is sent a copy."""


class Replicas(Protocol):
    """The replicas of one group."""

    async def one(self, request: Forwarded, model: str | None) -> Reply:
        """The answer of one of them; NotReady where none answers."""

    async def each(self, request: Forwarded) -> list[Reply]:
        """The answers of all of them; NotReady where one does not answer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request may take before it is forwarded.

    Attributes
    ----------
    root_path : str
        Under which a proxy shows the service.
    body_bytes : int
        At most, whatever the models.
    body_seconds : float
        In which the body arrives.
    """

    root_path: str
    body_bytes: int
    body_seconds: float


class Front:
    """ASGI application that forwards.

    Parameters
    ----------
    groups : mapping of str to Replicas
    group_of : callable
        The group of a model.
    bounds : Bounds
    app : ASGI application, optional
        That answers, in this process, whatever does not need several replicas. Without one, groups answer.
    """

    def __init__(
        self,
        groups: Mapping[str, Replicas],
        group_of: Callable[[str], str],
        bounds: Bounds,
        app: ASGIApp | None = None,
    ) -> None:
        self._groups, self._group_of, self._bounds = groups, group_of, bounds
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = within(scope["path"], self._bounds.root_path) if scope["type"] == "http" else ""
        if self._app is not None and path not in OF_EACH_REPLICA:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._forward(path, scope, receive, send)
        else:
            await _live(receive, send)

    async def _forward(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        try:
            request = await self._read(path, scope, receive)
            reply = await while_connected(self._reply(path, request), receive)
        except ClientDisconnect:
            return
        except ServiceError as error:
            state["request_id"] = str(uuid_utils.uuid7())
            await problems.answer(error, scope, receive, _named(state["request_id"], scope, send))
            return
        await reply.send(send)

    async def _read(self, path: str, scope: Scope, receive: Receive) -> Forwarded:
        started = asyncio.get_running_loop().time()
        scope["state"] |= {"started": started, "body_deadline": started + self._bounds.body_seconds}
        length = next((value for name, value in scope["headers"] if name == LENGTH), None)
        most = self._bounds.body_bytes
        limit = min(MOST_FOR_ALL, most) if path in OF_EACH_GROUP or path in OF_EACH_REPLICA else most
        try:
            return Forwarded.of(scope, await read_bytes(scope, receive, length=length, limit=limit))
        except BodyTooLarge:  # the application refuses it, by the length alone, with its own limit
            others = [header for header in scope["headers"] if header[0] not in _OF_A_BODY]
            return Forwarded.of({**scope, "headers": [*others, (LENGTH, str(most + 1).encode())]}, b"")

    async def _reply(self, path: str, request: Forwarded) -> Reply:
        groups: Sequence[Replicas] = list(self._groups.values())
        if path in OF_EACH_REPLICA:
            found = await asyncio.gather(*(group.each(request) for group in groups))
            return OF_EACH_REPLICA[path]([reply for replies in found for reply in replies])
        if path in OF_EACH_GROUP:
            return OF_EACH_GROUP[path](await asyncio.gather(*(group.one(request, None) for group in groups)))
        model = model_in(path)
        group = groups[0] if model is None else self._groups[self._group_of(model)]
        return await group.one(request, model)


async def _live(receive: Receive, send: Send) -> None:
    # The lifespan: there is nothing to start and nothing to end.
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _named(request_id: str, scope: Scope, send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *identity(request_id, correlation_of(scope["headers"]))]
        await send(message)

    return sending


_OF_A_BODY: Final = frozenset({LENGTH, b"transfer-encoding"})
