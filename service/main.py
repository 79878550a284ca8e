"""Composition root: settings in, objects put together, an application out."""

import asyncio
import gc
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import uuid_utils
import uvicorn
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from starlette.types import ASGIApp

from service import log_format
from service.api.app import AppParts, build_app
from service.api.operations import exposed
from service.bundle.manifest import describe
from service.bundle.repository import Repository
from service.errors import SettingsInvalid
from service.prediction.predictor import Predictor
from service.runtime.cpus import available_cpus
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloader
from service.settings import PREFIX, Settings
from service.telemetry import Telemetry

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"

log = logging.getLogger("temperance")


def create() -> ASGIApp:
    """Application from the environment; what a worker process imports."""
    settings = read_settings()
    configure_logging(settings)
    app = compose(settings, load(settings), shared_metrics=os.environ.get(SHARED_METRICS))
    _set_aside()
    return app


def serve(settings: Settings) -> None:
    """Listen until a signal ends it.

    Raises
    ------
    BundleError, GraphError
        If a model cannot be loaded; models are loaded before workers are spawned, so that the error is reported.
    SettingsInvalid
        If the address cannot be listened on.
    """
    configure_logging(settings)
    _check_address(settings.host, settings.port)
    registry = load(settings)
    for model in registry.all_models():
        log.info("serving %s, calibration %s (%s)", model.bundle.title, model.method, model.status)
    common: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }
    if settings.workers == 1:
        app = compose(settings, registry)
        _set_aside()
        uvicorn.run(app, **common)
        return
    with tempfile.TemporaryDirectory(prefix="temperance-metrics-") as shared:
        os.environ[SHARED_METRICS] = shared  # read by the workers' prometheus_client when it is imported
        uvicorn.run("service.main:create", factory=True, workers=settings.workers, **common)


def read_settings() -> Settings:
    """Settings from `TEMPERANCE_…` variables.

    Raises
    ------
    SettingsInvalid
        Naming the variable that is unknown or has a value it cannot have.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise SettingsInvalid(f"{unknown[0]} is no setting; there are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        name, _, reason = describe(error).partition(": ")
        raise SettingsInvalid(f"{PREFIX}{name.upper()}: {reason}") from None


def load(settings: Settings) -> Registry:
    """Every model that the settings point at; anything unreadable raises."""
    return load_registry(_repository(settings), threads=threads_of(settings))


def _repository(settings: Settings) -> Repository:
    return Repository(settings.models, is_named=settings.models != Settings.model_fields["models"].default)


def threads_of(settings: Settings) -> int:
    """Threads of every worker's sessions; where no number is set, the workers share the processors there are."""
    return settings.threads or max(1, available_cpus() // settings.workers)


def compose(settings: Settings, registry: Registry, *, shared_metrics: str | None = None) -> ASGIApp:
    """The application around a loaded registry.

    Parameters
    ----------
    settings : Settings
    registry : Registry
    shared_metrics : str, optional
        Folder that several workers count in together.
    """
    telemetry = Telemetry(CollectorRegistry())
    reloader = Reloader(_repository(settings), registry, threads_of(settings))
    return build_app(
        AppParts(
            registry=registry,
            predictor=Predictor(telemetry, lambda: datetime.now(UTC), queue_seconds=settings.queue_seconds),
            telemetry=telemetry,
            new_id=lambda: str(uuid_utils.uuid7()),
            version=version("temperance"),
            max_body=settings.max_body,
            max_rows=settings.max_rows,
            deadline=settings.deadline,
            body_seconds=settings.body_seconds,
            docs=settings.docs,
            exposed=exposed(telemetry.registry, registry, shared=shared_metrics),
            reloader=reloader if settings.repository_api else None,
            workers=settings.workers,
            background=lambda: watching(reloader, settings.reload_seconds),
        )
    )


@asynccontextmanager
async def watching(reloader: Reloader, seconds: float) -> AsyncIterator[None]:
    """Aliases are looked at every so often, and at once on SIGHUP, while the context lasts."""
    loop, hangup = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    watch = asyncio.create_task(_watch(reloader, hangup, seconds or None))
    try:
        yield
    finally:
        watch.cancel()
        loop.remove_signal_handler(signal.SIGHUP)


async def _watch(reloader: Reloader, hangup: asyncio.Event, seconds: float | None) -> None:
    while True:
        try:
            await asyncio.wait_for(hangup.wait(), seconds)
        except TimeoutError:
            await asyncio.to_thread(reloader.poll)
        else:
            hangup.clear()
            await asyncio.to_thread(reloader.reload)


def configure_logging(settings: Settings) -> None:
    """One line per event on standard error; no line holds what a caller sent."""
    log_format.configure(settings.log_format, settings.log_level)


def _set_aside() -> None:
    # What was loaded stays; a garbage collector that walks through all of it keeps requests waiting for milliseconds.
    gc.collect()
    gc.freeze()


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsInvalid(f"cannot listen on {host} port {port}: {error.strerror}") from None
