"""The application: protocols on a router, and around it what every request passes.

From the outside in: the root path, the edge, pages of other origins, authentication, the router.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from service.access.quotas import Quotas
from service.access.shared_counts import SharedCounts
from service.api import operations, problems
from service.api.addresses import Limits
from service.api.authentication import Authentication, CallerChecks
from service.api.body_limit import body_limit
from service.api.cross_origin import CrossOrigin
from service.api.edge import Edge
from service.api.ending import ENDING, Ending
from service.api.failed_logins import FailedLogins
from service.api.idempotency import Idempotency
from service.api.large_bodies import LargeBodies
from service.api.loop_load import Overload
from service.api.openapi import router as openapi
from service.api.openapi.no_telemetry import NoTelemetry, without_statistics
from service.api.openapi.router import Contract
from service.api.record_access import RecordAccess
from service.api.recorder import Recorder
from service.api.refusals import REFUSALS, Refusals
from service.api.remembered_routes import Direct
from service.api.root_path import under
from service.api.v1 import routes as v1
from service.api.v1.outcome_routes import outcome_router
from service.api.v1.performance_route import performance_router
from service.api.v2 import routes as v2
from service.api.v2.endpoint import Server
from service.api.v2.model_repository import Access
from service.errors import Draining, NotReady, ServiceError
from service.prediction.predictor import Predictor
from service.runtime.registry import Registry
from service.runtime.reload import Reloader
from service.telemetry import Telemetry, TracedRequest


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application is made of; `main` puts it together.

    ``exposed`` is what `/metrics` shows; ``checks`` are what callers are known by; ``reloader`` is what
    `/v2/repository` uses, None where that is closed; ``workers`` is how many processes serve; ``background`` runs
    beside the application for as long as it does; ``trace`` takes in every request that was answered; ``ending`` is how
    far the end of the process has come; ``record`` is where outcomes are kept and records read, None where none is;
    ``recorder`` keeps the records of answers, None where none are kept; ``idempotency`` answers requests with a key
    once; ``failed_logins`` records requests whose credential is not accepted; without each model of ``expected`` the
    service is not ready.
    """

    registry: Registry
    predictor: Predictor
    telemetry: Telemetry
    new_id: Callable[[], str]
    version: str
    max_body: int
    max_rows: int
    deadline: float
    body_seconds: float
    docs: bool
    exposed: CollectorRegistry
    checks: CallerChecks
    root_path: str = ""
    reloader: Reloader | None = None
    workers: int = 1
    background: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    trace: Callable[[TracedRequest], None] | None = None
    ending: Ending = field(default_factory=Ending)
    record: RecordAccess | None = None
    recorder: Recorder | None = None
    idempotency: Idempotency | None = None
    failed_logins: FailedLogins | None = None
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of one protocol.

    Attributes
    ----------
    router : APIRouter
        Those that FastAPI serves.
    direct : sequence of Route
        Those whose endpoints are ASGI applications of their own, called without FastAPI's stack; matched first.
    """

    router: APIRouter
    direct: Sequence[Route] = ()


def build_app(parts: AppParts) -> ASGIApp:
    """The ASGI application for a loaded registry."""
    overload = Overload()
    shared = {REFUSALS: Refusals(parts.telemetry, parts.new_id, overload), ENDING: parts.ending}
    edge = Edge(
        _guarded(parts),
        parts.telemetry,
        parts.new_id,
        seconds=parts.deadline,
        body_seconds=parts.body_seconds,
        trace=parts.trace,
        shared=shared,
        overload=overload,
    )
    return under(edge, parts.root_path)


def _guarded(parts: AppParts) -> ASGIApp:
    app = Authentication(_routed(parts), parts.checks, parts.failed_logins)
    return CrossOrigin(app, parts.checks.origins) if parts.checks.origins else app


def _routed(parts: AppParts) -> ASGIApp:
    state, limits = _State(parts), _limits(parts)
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=state.lifespan,
        telemetry=_NO_TELEMETRY,
    )
    app.add_exception_handler(ServiceError, problems.on_service_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(Exception, problems.on_service_error)  # else Starlette answers it, in plain text
    protocols = [protocol(parts, limits, state) for protocol in PROTOCOLS.values()]
    direct = [route for protocol in protocols for route in protocol.direct]
    app.router.routes.extend(direct)
    for protocol in protocols:
        app.include_router(protocol.router)
    app.include_router(operations.health_router(state.check_ready))
    app.include_router(operations.metrics_router(parts.exposed, state.check_ready))
    if parts.docs:
        app.include_router(operations.docs_router("Temperance"))
        app.include_router(openapi.router(_contract(parts), parts.root_path))
    return Direct(app, direct)


def _contract(parts: AppParts) -> Contract:
    # Examples come from applications of their own, which neither count nor log, and charge no quota.
    def application(*, is_open: bool) -> ASGIApp:
        own = replace(
            parts,
            registry=without_statistics(parts.registry),
            predictor=Predictor(NoTelemetry(), parts.predictor.now),
            docs=False,
            checks=replace(parts.checks, quotas=Quotas(SharedCounts.alone())),
            reloader=parts.reloader if is_open else None,
            record=None,
            recorder=None,
            idempotency=None,
            background=nullcontext,
        )
        return _routed(own)

    apps = partial(application, is_open=True), partial(application, is_open=False)
    return Contract(parts.registry, parts.version, *apps, parts.checks.authenticator.is_open)


class _State:
    def __init__(self, parts: AppParts) -> None:
        self._parts = parts
        self._running = False

    def check_ready(self) -> None:
        """Whether requests for every model belong here."""
        registry, expected = self._parts.registry, self._parts.expected
        self.check_open()
        # What was loaded at the start can be unloaded, to the last: then there is no model to send a request to.
        if not self._running or registry.is_empty:
            raise NotReady.without_models()
        if missing := registry.missing(expected):  # whose names need a credential
            count = f"{len(missing)} of {len(expected)} expected models"
            raise NotReady(f"{count} cannot be served now; the log and GET /v1/models show why")

    def check_open(self) -> None:
        """Whether requests for the models that are served belong here: an answer could leave."""
        if self._parts.ending.is_draining:
            raise Draining("the service ends; it still answers, and other requests belong to another process")
        if self._parts.recorder is not None:
            self._parts.recorder.check()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        del app
        async with self._parts.background():
            self._running = True
            yield
            self._running = False


def _limits(parts: AppParts) -> Limits:
    @lru_cache(maxsize=1)
    def limit(generation: int) -> int:
        del generation
        return body_limit(parts.registry, rows=parts.max_rows, most=parts.max_body)

    bodies = LargeBodies(parts.predictor.queue_seconds)
    return Limits(lambda: limit(parts.registry.generation), parts.max_rows, bodies, parts.checks.quotas)


def _v1(parts: AppParts, limits: Limits, state: _State) -> Routes:
    del state
    both = APIRouter()  # routers side by side, as in `v2.routes`
    both.include_router(v1.router(parts.registry))
    both.include_router(performance_router(parts.record, parts.registry))
    both.include_router(outcome_router(parts.record, limits, parts.predictor.now, parts.idempotency))
    own = parts.registry, parts.predictor, limits, parts.recorder, parts.idempotency
    return Routes(both, v1.verb_routes(*own))


def _v2(parts: AppParts, limits: Limits, state: _State) -> Routes:
    server = _server(parts, limits, state)
    return Routes(v2.router(server), v2.infer_routes(server))


def _server(parts: AppParts, limits: Limits, state: _State) -> Server:
    repository = Access(parts.reloader, parts.workers)
    own = parts.registry, parts.predictor, limits, parts.version
    return Server(*own, state.check_ready, state.check_open, repository, parts.recorder, parts.idempotency)


Protocol = Callable[[AppParts, Limits, _State], Routes]

PROTOCOLS: Final[dict[str, Protocol]] = {"v1": _v1, "v2": _v2}
# FastAPI's own would send paths and the messages of errors where its variables in the environment say so.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
