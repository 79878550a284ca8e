"""Models that are in memory because a request named them, and leave it when others need the place."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from http import HTTPStatus

from service.bundle.repository import Repository
from service.cluster.forwarded import Forwarded, Reply
from service.cluster.model_paths import model_in, within
from service.errors import ServiceError
from service.runtime.registry import Registry
from service.runtime.reload import Reloader

Answer = Callable[[Forwarded], Awaitable[Reply | None]]
Resident = Callable[[str], Awaitable["Use"]]

log = logging.getLogger("temperance")


class Use:
    """A model in memory. It leaves when it is deleted, once no request uses it.

    Parameters
    ----------
    name : str
    leave : callable
        Takes the model out of memory.
    seconds : float
        For which requests are waited for at most.
    """

    def __init__(self, name: str, leave: Callable[[str], None], seconds: float) -> None:
        self.name = name
        self._leave, self._seconds = leave, seconds
        self._count, self._has_left = 0, False
        self._idle = threading.Condition()

    def __enter__(self) -> None:
        with self._idle:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._idle:
            self._count -= 1
            self._idle.notify_all()

    def __del__(self) -> None:
        """Ray calls this from a thread when the model is to leave, and Python once more at the end of the object."""
        with self._idle:
            self._idle.wait_for(lambda: not self._count, self._seconds)
            has_left, self._has_left = self._has_left, True
        if not has_left:
            with suppress(ServiceError):
                self._leave(self.name)


class OnRequest:
    """Answers requests; a model of the group that is not in memory is loaded by the first that may use it.

    A request is answered by the application first. Only where that finds no such model, for a caller that it lets in,
    is the model loaded, and the request answered again: without a credential nothing is loaded.

    Parameters
    ----------
    answer : callable
        Of the application.
    resident : callable
        Brings a model into memory, where at most so many are.
    registry : Registry
    repository : Repository
    includes : callable
        Whether a model is of this group.
    root_path : str
    """

    def __init__(
        self,
        answer: Answer,
        resident: Resident,
        registry: Registry,
        repository: Repository,
        includes: Callable[[str], bool],
        *,
        root_path: str = "",
    ) -> None:
        self._answer, self._resident = answer, resident
        self._registry, self._repository, self._includes = registry, repository, includes
        self._root_path = root_path
        self._bringing: set[asyncio.Task[ExitStack]] = set()

    async def answer(self, request: Forwarded) -> Reply | None:
        """The answer; its model stays in memory until it is there."""
        name = model_in(within(request.scope["path"], self._root_path))
        if name is None:
            return await self._answer(request)
        if self._registry.find(name) is None:
            reply = await self._answer(request)
            if reply is None or reply.status != HTTPStatus.NOT_FOUND or not await self._is_loadable(name):
                return reply
        async with self._in_memory(name):
            return await self._answer(request)

    @asynccontextmanager
    async def _in_memory(self, name: str) -> AsyncIterator[None]:
        # A load goes on when its request ends: half of one would be a model in memory that no one lets leave.
        bringing = asyncio.ensure_future(self._begun_use(name))
        self._bringing.add(bringing)
        bringing.add_done_callback(self._bringing.discard)
        try:
            use = await asyncio.shield(bringing)
        except asyncio.CancelledError:
            bringing.add_done_callback(_end_use)
            raise
        try:
            yield
        finally:
            use.close()

    async def _begun_use(self, name: str) -> ExitStack:
        # Begun at once: between the load and a later moment the model could leave again.
        use = ExitStack()
        with suppress(ServiceError):  # the application has the reason by now, and answers with it
            use.enter_context(await self._resident(name))
        return use

    async def _is_loadable(self, name: str) -> bool:
        if not self._includes(name) or name in self._registry.refused:
            return False
        with suppress(ServiceError, OSError):
            return bool(await asyncio.to_thread(self._repository.versions, name))
        return False


def loading(reloader: Reloader, *, seconds: float) -> Resident:
    """What loads a model.

    Parameters
    ----------
    reloader : Reloader
    seconds : float
        For which requests are waited for when the model is to leave again.
    """

    async def loaded(name: str) -> Use:
        await asyncio.to_thread(reloader.load, name)
        return Use(name, reloader.unload, seconds)

    return loaded


def _end_use(bringing: asyncio.Task[ExitStack]) -> None:
    if not bringing.cancelled() and bringing.exception() is None:
        bringing.result().close()
