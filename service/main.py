"""Composition root: settings in, objects put together, an application out."""

import gc
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uuid_utils
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from pydantic_settings import SettingsError
from starlette.types import ASGIApp

from service import log_format
from service.access.authenticator import Tokens
from service.access.quotas import Quotas
from service.access.shared_counts import SharedCounts
from service.access.watched_keys import WatchedKeys
from service.api.app import AppParts, build_app
from service.api.authentication import CallerChecks
from service.api.ending import Ending
from service.api.http_limits import HttpLimits
from service.api.listening import bound, bound_to_path, urls
from service.api.operations import exposed
from service.api.proxies import Proxies, behind
from service.api.serving import Serving, take_signals_before_serving
from service.api.tls import CertificateFiles, Tls
from service.bundle.manifest import describe
from service.bundle.repository import Repository
from service.credentials import (
    Access,
    authenticator_of,
    check_access,
    following_keys,
    keep_keys_needed,
    key_use_of,
    keys_of,
)
from service.errors import SettingsInvalid
from service.hangup import watching
from service.prediction.predictor import Predictor
from service.runtime.cpus import available_cpus
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloader
from service.runtime.watchdog import WATCHDOG
from service.settings import PREFIX, Settings
from service.stuck_runs import StuckRuns
from service.telemetry import Telemetry, forget_ended_workers

if TYPE_CHECKING:
    from service.tracing import Exporter

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"

OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000

log = logging.getLogger("temperance")


def create() -> ASGIApp:
    """Application from the environment; what a worker process imports."""
    settings = read_settings()
    configure_logging(settings)
    shared = os.environ.get(SHARED_METRICS)
    if shared is not None:
        forget_ended_workers(Path(shared))  # whose place this one takes
    app = compose(settings, load(settings), shared_metrics=shared)
    set_aside()
    return app


def serve(settings: Settings) -> None:
    """Listen until a signal ends it.

    Raises
    ------
    BundleError, GraphError
        If a model cannot be loaded; models are loaded before workers are spawned, so that the error is reported.
    KeysInvalid, SettingsInvalid
        If the address cannot be listened on, other machines could use the service without a credential, or a setting
        cannot be used.
    """
    configure_logging(settings)
    take_signals_before_serving()
    access = check_access(settings)
    Proxies.named(settings.proxies)  # workers read them too; what is wrong is reported now, and once
    _serve(settings, access)


def _serve(settings: Settings, access: Access) -> None:
    tls = tls_of(settings)
    with _sockets(settings) as sockets:
        registry = load(settings)
        _log_models(registry)
        for url in urls(sockets, is_tls=tls is not None):
            log.info("listening on %s", url)
        log.log(access.level, "%s", access.sentence)
        _log_crowding(settings)
        _run(settings, registry, _serving(settings, tls), sockets)


def _log_models(registry: Registry) -> None:
    for model in registry.all_models():
        log.info("serving %s, calibration %s (%s)", model.bundle.title, model.method, model.status)


def _log_crowding(settings: Settings) -> None:
    threads, processors = settings.workers * threads_of(settings), available_cpus()
    if threads > processors:
        log.warning("%d threads of all workers share %d processors: runs wait for each other", threads, processors)


def _serving(settings: Settings, tls: Tls | None) -> Serving:
    return Serving(limits_of(settings), settings.deadline, tls, settings.drain_seconds)


def _run(settings: Settings, registry: Registry, serving: Serving, sockets: list[socket.socket]) -> None:
    if settings.workers == 1:
        app = compose(settings, registry, tls=serving.tls)
        set_aside()
        serving.in_one_process(app, sockets)
        return
    with tempfile.TemporaryDirectory(prefix="temperance-metrics-") as shared:
        keep_keys_needed(settings)
        os.environ[SHARED_METRICS] = shared  # read by the workers' prometheus_client when it is imported
        serving.in_processes("service.main:create", settings.workers, sockets)


@contextmanager
def _sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    if settings.uds is None:
        yield bound(settings.host, settings.port)
        return
    if {"host", "port"} & settings.model_fields_set:
        raise SettingsInvalid("TEMPERANCE_UDS takes the place of TEMPERANCE_HOST and TEMPERANCE_PORT; set one of them")
    with bound_to_path(settings.uds) as made:
        yield [made]


def limits_of(settings: Settings) -> HttpLimits:
    """What a connection may take."""
    return HttpLimits(
        header_bytes=settings.max_header,
        header_seconds=settings.header_seconds,
        keep_alive=settings.keep_alive,
        stalled_seconds=settings.body_seconds,
        chunk_bytes=settings.max_body,
    )


def tls_of(settings: Settings) -> Tls | None:
    """TLS where a certificate is set; its files are read once here, so that an error is reported at the start.

    Raises
    ------
    SettingsInvalid
    """
    if settings.ssl_certfile is None:
        others = settings.model_fields_set & _WITH_A_CERTIFICATE
        if others:
            raise SettingsInvalid(f"{PREFIX}{min(others).upper()} needs TEMPERANCE_SSL_CERTFILE")
        return None
    files = CertificateFiles(
        certificate=settings.ssl_certfile,
        key=settings.ssl_keyfile,
        password=settings.ssl_keyfile_password_file,
        authorities=settings.ssl_ca_certs,
    )
    files.context()
    return Tls(files)


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
    except SettingsError:
        raise SettingsInvalid(f"{PREFIX}JWT_ISSUERS: must be JSON, a list of objects") from None
    except ValidationError as error:
        place, _, reason = describe(error).partition(": ")
        name, _, within = place.partition(".")
        raise SettingsInvalid(f"{PREFIX}{name.upper()}: {f'{within}: ' if within else ''}{reason}") from None


def load(settings: Settings) -> Registry:
    """Every model that the settings point at; anything unreadable raises."""
    return load_registry(_repository(settings), threads=threads_of(settings))


def _repository(settings: Settings) -> Repository:
    return Repository(settings.models, is_named=settings.models != Settings.model_fields["models"].default)


def threads_of(settings: Settings) -> int:
    """Threads of every worker's sessions; where no number is set, the workers share the processors there are."""
    return settings.threads or max(1, available_cpus() // settings.workers)


def compose(
    settings: Settings, registry: Registry, *, shared_metrics: str | None = None, tls: Tls | None = None
) -> ASGIApp:
    """The application around a loaded registry.

    Parameters
    ----------
    settings : Settings
    registry : Registry
    shared_metrics : str, optional
        Folder that several workers count in together.
    tls : Tls, optional
        Whose certificate is loaded again on SIGHUP; several workers are replaced on it.
    """
    telemetry = Telemetry(CollectorRegistry())
    exporter = exporter_of(settings, telemetry)
    reloader = Reloader(_repository(settings), registry, threads_of(settings))
    ending = Ending()
    stuck = StuckRuns(WATCHDOG.overdue, ending, seconds=settings.deadline, count=telemetry.given_up)
    keys = keys_of(settings, telemetry)
    parts = replace(
        _parts(settings, registry, telemetry, checks_of(settings, keys, shared=shared_metrics), shared_metrics),
        reloader=reloader if settings.repository_api else None,
        background=lambda: _watched(stuck, _background(settings, reloader, keys, tls, exporter)),
        trace=None if exporter is None else exporter.record,
        ending=ending,
    )
    return behind(build_app(parts), Proxies.named(settings.proxies))


def _parts(
    settings: Settings, registry: Registry, telemetry: Telemetry, checks: CallerChecks, shared: str | None
) -> AppParts:
    # What answers requests; `compose` adds what runs beside it.
    return AppParts(
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
        root_path=settings.root_path,
        exposed=exposed(telemetry.registry, registry, shared=shared),
        checks=checks,
        workers=settings.workers,
    )


def checks_of(settings: Settings, keys: WatchedKeys, *, shared: str | None = None) -> CallerChecks:
    """What requests are checked by.

    Parameters
    ----------
    settings : Settings
    keys : WatchedKeys
    shared : str, optional
        Folder that several workers count in together.
    """
    counts = SharedCounts.alone() if shared is None else SharedCounts.joined(Path(shared), settings.workers)
    return CallerChecks(
        authenticator=authenticator_of(settings, keys, _tokens_of(settings)),
        quotas=Quotas(counts, requests=settings.quota_requests, rows=settings.quota_rows),
        certificate_header=settings.client_certificate_header,
        metrics_open=settings.metrics_open,
        docs_open=settings.docs_open,
        origins=settings.cors_origins,
    )


def _tokens_of(settings: Settings) -> Tokens | None:
    if not settings.jwt_issuers:
        return None
    from service.access import tokens  # noqa: PLC0415  # without issuers its libraries are no part of a start

    return tokens.Tokens([tokens.TokenIssuer(**issuer.model_dump()) for issuer in settings.jwt_issuers])


@asynccontextmanager
async def _watched(stuck: StuckRuns, others: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    # Around the others: once they have ended, a process that was given up ends too.
    async with stuck.watched(), others:
        yield


@asynccontextmanager
async def _background(
    settings: Settings, reloader: Reloader, keys: WatchedKeys, tls: Tls | None, exporter: "Exporter | None"
) -> AsyncIterator[None]:
    sending = nullcontext() if exporter is None else exporter.running()
    async with watching(reloader, settings.reload_seconds, tls), following_keys(keys, key_use_of(settings)), sending:
        yield


def exporter_of(settings: Settings, telemetry: Telemetry) -> "Exporter | None":
    """What sends traces and metrics to the collector that is set; None without one, and then nothing is imported."""
    if settings.otlp_endpoint is None:
        return None
    from service.tracing import Exporter  # noqa: PLC0415  # a third of a second, for those who have a collector

    return Exporter(settings.otlp_endpoint, telemetry.registry)


def configure_logging(settings: Settings) -> None:
    """One line per event on standard error; no line holds what a caller sent."""
    log_format.configure(settings.log_format, settings.log_level)


def set_aside() -> None:
    """Keep the garbage collector off what was loaded, which stays, and off the middle of a document.

    Walks through all of the first take milliseconds, in which requests wait. A large body is a hundred thousand lists:
    looked at after every 700 of them, it takes three times as long to read.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


_WITH_A_CERTIFICATE: Final = frozenset({"ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"})
