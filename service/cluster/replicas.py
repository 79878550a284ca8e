"""Ray's actors of a deployment, and how one reaches the replicas of a group.

Tested in tests/cluster/test_ray_process.py, with real machines, and in tests/cluster/test_replicas.py.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from service.cluster.forwarded import Forwardable, Forwarded, Reply
from service.cluster.front import Bounds, Front
from service.cluster.group_app import GroupApp, group_app
from service.cluster.groups import Groups
from service.cluster.ray_connection import RayConnection
from service.cluster.resident import Answer, OnRequest, Resident, loading
from service.environment import read_settings
from service.errors import NotReady
from service.main import configure_logging, repository_of
from service.pauses import set_aside
from service.settings import Settings

ANSWER: Final = "answer"
"""Method of a replica that answers a forwarded request."""
TRIES: Final = 3
"""Replicas that a request is given to, one after the other, while they die: every request may be repeated."""
MORE_SECONDS: Final = 5.0
"""Beyond the deadline of an answer, after which a replica is taken for dead."""


class RayReplicas:
    """The replicas of one group, reached by a handle of Ray Serve.

    Parameters
    ----------
    handle : DeploymentHandle
    by_model : bool
        Whether requests go to a replica that has their model in memory, where there is one.
    seconds : float
        That an answer takes at most.
    """

    def __init__(self, handle: Any, *, by_model: bool, seconds: float) -> None:
        self._handle, self._by_model, self._seconds = handle, by_model, seconds
        self._method = handle.options(method_name=ANSWER)

    async def one(self, request: Forwarded, model: str | None) -> Reply:
        """The answer of one of them; the request goes to another where the first dies.

        Raises
        ------
        NotReady
        """
        method = self._method
        if self._by_model and model is not None:
            method = method.options(multiplexed_model_id=model)
        for _ in range(TRIES):
            reply = await self._tried(method, request)
            if reply is not None:
                return reply
        raise NotReady(_NO_REPLICA)

    async def each(self, request: Forwarded) -> list[Reply]:
        """The answers of all of them.

        Raises
        ------
        NotReady
        """
        try:
            replies = await _of_ray(self._handle.broadcast(ANSWER, request).results_async(timeout_s=self._seconds))
        except TimeoutError:
            replies = None
        if replies is None:
            raise NotReady(_NO_REPLICA)
        return list(replies)

    async def _tried(self, method: Any, request: Forwarded) -> Reply | None:
        response = method.remote(request)
        try:
            async with asyncio.timeout(self._seconds):
                found: Reply | None = await _of_ray(response)
        except (asyncio.CancelledError, TimeoutError) as error:
            response.cancel()
            if isinstance(error, TimeoutError):
                return None
            raise
        return found


class _Answering:
    """A process that answers with the application of its group.

    Parameters
    ----------
    group : str
    groups : Groups
    """

    def __init__(self, group: str, groups: Groups) -> None:
        self._name, self._groups = group, groups
        self._id = _context().replica_id.unique_id
        self._answer: Answer

    async def answer(self, request: Forwarded) -> Reply | None:
        """The answer to a forwarded request; None where its client has left."""
        reply = await self._answer(request)
        return None if reply is None else reply.of(self._id)

    async def _made(self, settings: Settings) -> GroupApp:
        configure_logging(settings)
        resident = self._groups.groups[self._name].resident
        made = await asyncio.to_thread(group_app, settings, self._includes, loads_all=resident is None)
        set_aside()
        answer = Forwardable(made.app).answer
        self._answer = answer if resident is None else self._on_request(settings, made, resident)
        return made

    def _includes(self, model: str) -> bool:
        return self._groups.includes(self._name, model)

    def _on_request(self, settings: Settings, made: GroupApp, most: int) -> Answer:
        from ray import serve  # noqa: PLC0415

        load = loading(made.reloader, seconds=settings.deadline)
        resident: Resident = serve.multiplexed(max_num_models_per_replica=most)(load)
        answer, repository = Forwardable(made.app).answer, repository_of(settings)
        own = OnRequest(answer, resident, made.registry, repository, self._includes, root_path=settings.root_path)
        return own.answer


class Replica(_Answering):
    """A process of the only group, which Ray's proxies send requests to."""

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Load the models, and put the application together; Ray calls it once, and runs its lifespan."""
        from ray import serve  # noqa: PLC0415

        settings, context = read_settings(), _context()
        made = await self._made(settings)
        handle = serve.get_deployment_handle(context.deployment, app_name=context.app_name)
        return RayConnection(_fronted(settings, {self._name: handle}, self._groups, made.app))


class GroupReplica(_Answering):
    """A process of one of several groups, which a front forwards requests to."""

    async def __init__(self, group: str, groups: Groups) -> None:  # type: ignore[misc]  # Ray awaits it
        super().__init__(group, groups)
        made = await self._made(read_settings())
        self._lifespan = LifespanOn(Config(made.app, lifespan="on", log_config=None))
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise NotReady("the application could not start; the lines above say why")

    async def __del__(self) -> None:
        """Ray awaits it once all requests are answered: what waits for the record is written."""
        await self._lifespan.shutdown()


class FrontReplica:
    """A process that takes requests and forwards them to groups.

    Parameters
    ----------
    groups : Groups
    **handles : DeploymentHandle
        Of each group.
    """

    def __init__(self, groups: Groups, handles: dict[str, Any]) -> None:
        self._groups, self._handles = groups, handles

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Put it together; Ray calls it once the process has started."""
        settings = read_settings()
        configure_logging(settings)
        set_aside()
        return RayConnection(_fronted(settings, self._handles, self._groups))


def _fronted(settings: Settings, handles: dict[str, Any], groups: Groups, app: ASGIApp | None = None) -> ASGIApp:
    seconds = settings.deadline + MORE_SECONDS
    replicas = {
        name: RayReplicas(handle, by_model=groups.groups[name].resident is not None, seconds=seconds)
        for name, handle in handles.items()
    }
    bounds = Bounds(settings.root_path, settings.max_body, settings.body_seconds)
    return Front(replicas, groups.of, bounds, app)


def _context() -> Any:
    from ray import serve  # noqa: PLC0415

    return serve.get_replica_context()


async def _of_ray(awaitable: Awaitable[Any]) -> Any:
    """What Ray gives; None where a replica died or there is none."""
    from ray.exceptions import RayActorError, TaskCancelledError  # noqa: PLC0415
    from ray.serve.exceptions import DeploymentUnavailableError  # noqa: PLC0415

    try:
        return await awaitable
    except (RayActorError, TaskCancelledError, DeploymentUnavailableError):
        return None


_NO_REPLICA: Final = "no replica of a group answers now; Ray starts another, so try again in some seconds"
