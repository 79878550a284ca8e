"""Composition root: settings in, objects put together, an application out."""

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uuid_utils
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from service import log_format
from service.access.authenticator import Tokens
from service.access.quotas import Quotas
from service.access.shared_counts import SharedCounts
from service.access.watched_keys import WatchedKeys
from service.alarm_looks import looking_for_alarms
from service.api.app import AppParts, build_app
from service.api.authentication import CallerChecks
from service.api.ending import Ending
from service.api.http_limits import HttpLimits
from service.api.listening import bound, bound_to_path, urls
from service.api.operations import exposed
from service.api.proxies import Proxies, behind
from service.api.serving import Serving
from service.api.tls import CertificateFiles, Tls
from service.bundle.repository import Repository
from service.credentials import (
    Access,
    authenticator_of,
    following_keys,
    keep_keys_needed,
    key_use_of,
    keys_of,
)
from service.deployment import check_names, providers_of
from service.environment import Sources, read_settings
from service.errors import SettingsInvalid
from service.hangup import Watch, watching
from service.metrics_folder import SHARED_METRICS, metrics_folder
from service.pauses import set_aside
from service.prediction.predictor import Predictor
from service.record_parts import RecordParts, check_record, record_parts, with_shadows
from service.runtime.cpus import available_cpus
from service.runtime.last_served import LastServed, load_as_others
from service.runtime.limited_process import Limits
from service.runtime.loader import Loader
from service.runtime.proofs import Proofs
from service.runtime.registry import Registry, every, load_registry
from service.runtime.reload import Reloader
from service.runtime.watchdog import WATCHDOG
from service.settings import PREFIX, Settings
from service.start_checks import check_expected, check_open_files, check_settings, log_models, warn_of_models
from service.stuck_runs import StuckRuns
from service.telemetry import Telemetry, forget_ended_workers

if TYPE_CHECKING:
    from service.tracing import Exporter

log = logging.getLogger("temperance")


def create() -> ASGIApp:
    """Application from the environment; what a worker process imports."""
    settings = read_settings()
    configure_logging(settings)
    shared = os.environ.get(SHARED_METRICS)
    if shared is not None:
        forget_ended_workers(Path(shared))  # whose place this one takes
    app = compose(settings, _load_in_worker(settings, shared), shared_metrics=shared)
    set_aside()
    return app


def serve(settings: Settings, sources: Sources | None = None) -> None:
    """Listen until a signal ends it.

    Parameters
    ----------
    settings : Settings
    sources : Sources, optional
        Where their values came from.

    Raises
    ------
    SettingsInvalid
        If a setting cannot be used, a model cannot be loaded, or other machines could use the service without a
        credential: all of it is found before workers are spawned, so that it is reported, and once.
    """
    configure_logging(settings)
    sources = sources or Sources.of_environment()
    _serve(settings, sources, check_settings(settings, sources))


def _serve(settings: Settings, sources: Sources, access: Access) -> None:
    with sources.named(*(settings.model_fields_set & {"ssl_certfile", *_WITH_A_CERTIFICATE})):
        tls = tls_of(settings)
    with _sockets(settings, sources) as sockets:
        check_open_files(len(sockets))
        registry = _loaded(settings, sources)
        with sources.named("store", "data", "secrets"):
            check_record(settings)
        with sources.named(*(settings.model_fields_set & _OF_OTHERS)):
            app = compose(settings, registry, tls=tls)  # as every worker will: what stops them is reported now
        for url in urls(sockets, is_tls=tls is not None):
            log.info("listening on %s", url)
        log.log(access.level, "%s", access.sentence)
        _log_crowding(settings)
        _run(settings, registry, app, _serving(settings, tls), sockets)


def _loaded(settings: Settings, sources: Sources) -> Registry:
    with sources.named("models"):
        registry = load(settings)
    with sources.named("deployment"):
        check_names(settings, [*registry.names(), *registry.refused])
    log_models(registry)
    with sources.named("models"):
        warn_of_models(repository_of(settings), registry)
    check_expected(settings, registry, sources)
    return registry


def _log_crowding(settings: Settings) -> None:
    threads, processors = settings.workers * threads_of(settings), available_cpus()
    if threads > processors:
        log.warning("%d threads of all workers share %d processors: runs wait for each other", threads, processors)


def _serving(settings: Settings, tls: Tls | None) -> Serving:
    return Serving(limits_of(settings), settings.deadline, tls, settings.drain_seconds)


def _run(settings: Settings, registry: Registry, app: ASGIApp, serving: Serving, sockets: list[socket.socket]) -> None:
    if settings.workers == 1:
        set_aside()
        serving.in_one_process(app, sockets)
        return
    with metrics_folder(settings.workers) as shared:
        keep_keys_needed(settings)
        LastServed(Path(shared)).keep_all(registry)
        os.environ[SHARED_METRICS] = shared  # read by the workers' prometheus_client when it is imported
        serving.in_processes("service.main:create", settings.workers, sockets)


@contextmanager
def _sockets(settings: Settings, sources: Sources) -> Iterator[list[socket.socket]]:
    if settings.uds is None:
        with sources.named("host", "port"):
            sockets = bound(settings.host, settings.port)
        with ExitStack() as stack:
            yield [stack.enter_context(made) for made in sockets]
        return
    if {"host", "port"} & (settings.model_fields_set - sources.platform):
        detail = "TEMPERANCE_UDS takes the place of TEMPERANCE_HOST and TEMPERANCE_PORT; set one of them"
        raise sources.explained(detail)
    with ExitStack() as stack:
        with sources.named("uds"):
            made = stack.enter_context(bound_to_path(settings.uds))
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


def load(settings: Settings, includes: Callable[[str], bool] = every) -> Registry:
    """The included models that the settings point at; anything unreadable raises, where the start is strict."""
    return load_registry(
        repository_of(settings),
        threads=threads_of(settings),
        strict=settings.strict_start,
        proofs=_proofs(settings),
        includes=includes,
        providers=providers_of(settings),
    )


def _load_in_worker(settings: Settings, shared: str | None) -> Registry:
    if shared is None:
        return load(settings)
    last = LastServed(Path(shared))
    providers = providers_of(settings)
    return load_as_others(
        repository_of(settings), last, threads=threads_of(settings), proofs=_proofs(settings), providers=providers
    )


def _proofs(settings: Settings) -> Proofs:
    limits = Limits(seconds=settings.load_seconds, memory=settings.load_memory)
    return Proofs(limits, data=settings.data, providers=providers_of(settings))


def repository_of(settings: Settings) -> Repository:
    """Where the models lie."""
    return Repository(settings.models, is_named=settings.models != Settings.model_fields["models"].default)


def threads_of(settings: Settings) -> int:
    """Threads of every worker's sessions; where no number is set, the workers share the processors there are."""
    return settings.threads or max(1, available_cpus() // settings.workers)


def compose(
    settings: Settings,
    registry: Registry,
    *,
    shared_metrics: str | None = None,
    tls: Tls | None = None,
    reloader: Reloader | None = None,
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
    reloader : Reloader, optional
        Of the registry; by default one that follows every model.
    """
    telemetry = Telemetry(CollectorRegistry())
    record = with_shadows(record_parts(settings, telemetry, _now), registry, telemetry, _now, _new_id)
    exporter = exporter_of(settings, telemetry)
    reloader = reloader or _reloader(settings, registry, shared_metrics)
    watch = Watch(reloader, telemetry, settings.reload_seconds, tls)
    ending = Ending()
    stuck = StuckRuns(WATCHDOG.overdue, ending, seconds=settings.deadline, count=telemetry.given_up)
    keys = keys_of(settings, telemetry)
    parts = replace(
        _parts(settings, registry, telemetry, checks_of(settings, keys, shared=shared_metrics), shared_metrics),
        reloader=reloader if settings.repository_api else None,
        background=lambda: _watched(
            stuck,
            _background(settings, watch, keys, exporter, record),
            looking_for_alarms(settings, registry, telemetry),
        ),
        trace=None if exporter is None else exporter.record,
        ending=ending,
        record=record.access,
        recorder=record.recorder,
        idempotency=record.idempotency,
        failed_logins=record.failed_logins,
    )
    return behind(build_app(parts), Proxies.named(settings.proxies))


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _reloader(settings: Settings, registry: Registry, shared: str | None) -> Reloader:
    return Reloader(loader_of(settings), registry, last=None if shared is None else LastServed(Path(shared)))


def loader_of(settings: Settings) -> Loader:
    """What brings versions from disk into memory."""
    return Loader(repository_of(settings), threads_of(settings), _proofs(settings), providers_of(settings))


def _parts(
    settings: Settings, registry: Registry, telemetry: Telemetry, checks: CallerChecks, shared: str | None
) -> AppParts:
    # What answers requests; `compose` adds what runs beside it.
    return AppParts(
        registry=registry,
        predictor=Predictor(telemetry, _now, queue_seconds=settings.queue_seconds),
        telemetry=telemetry,
        new_id=_new_id,
        version=version("temperance"),
        max_body=settings.max_body,
        max_rows=settings.max_rows,
        deadline=settings.deadline,
        body_seconds=settings.body_seconds,
        docs=settings.docs,
        root_path=settings.root_path,
        exposed=exposed(telemetry.registry, registry, shared=shared, expected=settings.expected_models),
        expected=settings.expected_models,
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

    try:
        return tokens.Tokens([tokens.TokenIssuer(**issuer.model_dump()) for issuer in settings.jwt_issuers])
    except OSError as error:
        detail = f"the authorities that SSL_CERT_FILE and SSL_CERT_DIR name cannot be read: {error.strerror}"
        raise SettingsInvalid(f"{PREFIX}JWT_ISSUERS: {detail}") from None


@asynccontextmanager
async def _watched(
    stuck: StuckRuns, others: AbstractAsyncContextManager[None], looks: AbstractAsyncContextManager[None]
) -> AsyncIterator[None]:
    # Around the others: once they have ended, a process that was given up ends too.
    async with stuck.watched(), others, looks:
        yield


@asynccontextmanager
async def _background(
    settings: Settings, watch: Watch, keys: WatchedKeys, exporter: "Exporter | None", record: RecordParts
) -> AsyncIterator[None]:
    sending = nullcontext() if exporter is None else exporter.running()
    async with watching(watch), following_keys(keys, key_use_of(settings)), sending, record.running():
        yield


def exporter_of(settings: Settings, telemetry: Telemetry) -> "Exporter | None":
    """What sends traces and metrics to the collector that is set; None without one, and then nothing is imported."""
    if settings.otlp_endpoint is None:
        return None
    try:  # some variables are read when it is imported
        from service.tracing import Exporter  # noqa: PLC0415  # a third of a second, for those who have a collector

        return Exporter(settings.otlp_endpoint, telemetry.registry)
    except ValueError:  # its text would quote a value
        others = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_"))) or "its variables"
        raise SettingsInvalid(f"{PREFIX}OTLP_ENDPOINT: OpenTelemetry cannot use the value of {others}") from None


def configure_logging(settings: Settings) -> None:
    """One line per event on standard error; no line holds what a caller sent."""
    log_format.configure(settings.log_format, settings.log_level)


_OF_OTHERS: Final = frozenset({"jwt_issuers", "otlp_endpoint"})
"""Settings for which libraries are imported that read variables of their own."""
_WITH_A_CERTIFICATE: Final = frozenset({"ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"})
