"""Whether the service can run here, and what is not secure: one finding for every check, without a request."""

import logging
import os
import platform
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import apsw
import numpy as np

from service import open_files
from service.bundle.repository import Repository
from service.core.numerics import Array
from service.credentials import check_access, is_of_this_machine, keys_path
from service.deployment import check_names, providers_of
from service.environment import Sources
from service.errors import ServiceError
from service.runtime.cpus import available_cpus
from service.runtime.limited_process import Limits
from service.runtime.proofs import Proofs
from service.runtime.provider_packages import RUNTIMES, installed, releases_of
from service.runtime.providers import SMALL_GRAPH, check_provider
from service.runtime.registry import load_registry
from service.runtime.session import Session
from service.settings import Settings
from service.start_checks import without_first_alias, writable_place

RELEASED: Final = 2026

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check : str
    state : str
        `failed` is what the service cannot run with, `warning` what it should not run with.
    detail : str
    advice : str
        What to do; empty where there is nothing to do.
    """

    check: str
    state: State
    detail: str
    advice: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in the order of `CHECKS`."""
    for check in CHECKS.values():
        yield from check(settings)


def failed_settings(error: ServiceError) -> Finding:
    """The finding where settings cannot be read: nothing else can be checked."""
    return Finding("settings", "failed", error.detail, "correct the variable; docs/reference/settings.md lists all")


def _versions(settings: Settings) -> Iterator[Finding]:
    del settings
    names = ("temperance", "numpy", *RUNTIMES, "uvicorn")
    found = [f"Python {platform.python_version()}", *installed(names)]
    yield Finding("versions", "ok", ", ".join([*found, f"SQLite {apsw.sqlite_lib_version()}"]))


def _settings(settings: Settings) -> Iterator[Finding]:
    changed = sorted(settings.model_fields_set)
    yield Finding("settings", "ok", f"valid; set are {', '.join(changed)}" if changed else "valid; all are defaults")
    for line in Sources.of_environment().ignored():
        yield Finding("settings", "warning", line, "the service starts without them")


def _runtime(settings: Settings) -> Iterator[Finding]:
    del settings
    try:
        answer = _self_test()
    except (ServiceError, OSError) as error:
        yield Finding("onnxruntime", "failed", f"it cannot run a graph: {error}", "install the package again")
        return
    if answer.tolist() == [[7.0, 10.0]]:
        yield Finding("onnxruntime", "ok", "it answers a small graph as it must")
    else:
        yield Finding("onnxruntime", "failed", "it answers a small graph wrongly", "install the package again")


def _self_test() -> Array:
    with tempfile.TemporaryDirectory(prefix="temperance-doctor-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(SMALL_GRAPH)
        answer: Array = Session(path).run("y", {"x": np.array([[1.0, 2.0]], dtype=np.float32)})
        return answer


def _models(settings: Settings) -> Iterator[Finding]:
    repository = Repository(settings.models, is_named="models" in settings.model_fields_set)
    limits = Limits(seconds=settings.load_seconds, memory=settings.load_memory)
    try:
        providers = providers_of(settings)
        proofs = Proofs(limits, providers=providers)  # which keeps nothing
        registry = load_registry(repository, strict=settings.strict_start, proofs=proofs, providers=providers)
        check_names(settings, [*registry.names(), *registry.refused])
    except ServiceError as error:
        yield Finding("models", "failed", error.detail, f"{repository.command('verify', 'NAME')} checks a model")
        return
    found = ", ".join(f"{model.name} {model.version} ({model.status})" for model in registry.all_models())
    yield Finding("models", "ok", f"files match their sums, and self-tests pass: {found or 'none'}")
    for name, reason in registry.refused.items():
        advice = f"the others are served without it; {repository.command('verify', name)} checks it"
        yield Finding("models", "warning", f"{name} is refused: {reason}", advice)
    for name in registry.missing(settings.expected_models):
        state: State = "failed" if settings.strict_start else "warning"
        yield Finding("models", state, f"{name} is expected and not served", "the service is not ready without it")
    for line in without_first_alias(repository, registry):
        yield Finding("aliases", "warning", line, "or let every request name a version or an alias")


def _providers(settings: Settings) -> Iterator[Finding]:
    """Whether every execution provider that is chosen can be loaded."""
    try:
        for provider in providers_of(settings).named:
            check_provider(provider)
            yield Finding("provider", "ok", f"{provider} runs a small graph ({', '.join(releases_of(provider))})")
    except ServiceError as error:
        yield Finding("provider", "failed", error.detail, "choose another one with TEMPERANCE_PROVIDER, or install it")


def _folders(settings: Settings) -> Iterator[Finding]:
    advice = "let the user of the service write there, or name another folder in TEMPERANCE_DATA"
    yield _writable("data folder", settings.data, advice)
    yield _writable("temporary files", Path(tempfile.gettempdir()), "let the user write there, or set TMPDIR")


def _writable(check: str, folder: Path, advice: str) -> Finding:
    try:
        found = "is writable" if writable_place(folder) == folder.absolute() else "can be made"
    except OSError as error:
        return Finding(check, "failed", f"{folder} is not writable: {error.strerror}", advice)
    return Finding(check, "ok", f"{folder} {found}")


def _machine(settings: Settings) -> Iterator[Finding]:
    yield _open_files()
    cpus, needed = available_cpus(), settings.workers * (settings.threads or 1)
    detail = f"{cpus} may be used; workers: {settings.workers}, threads of each: {settings.threads or 'its share'}"
    crowded = "lower TEMPERANCE_WORKERS or TEMPERANCE_THREADS: threads that share a processor slow each other"
    yield Finding("processors", "ok", detail) if needed <= cpus else Finding("processors", "warning", detail, crowded)


def _open_files() -> Finding:
    files = open_files.limits()
    raised = f"; `serve` raises that to {files.possible}" if files.possible > files.found else ""
    state: State = "ok" if files.possible >= open_files.FEWEST else "warning"
    advice = "" if state == "ok" else f"raise `ulimit -n` to {open_files.FEWEST} or more: each connection is a file"
    return Finding("open files", state, f"{files.found} may be open at once{raised}", advice)


def _clock(settings: Settings) -> Iterator[Finding]:
    del settings
    now = datetime.now(UTC)
    detail = f"{now:%Y-%m-%d %H:%M:%S} UTC; how far it is off cannot be seen without a network"
    if now.year < RELEASED:
        yield Finding("clock", "failed", detail, "set the clock: tokens and keys expire by it")
    else:
        yield Finding("clock", "ok", detail)


def _port(settings: Settings) -> Iterator[Finding]:
    if settings.uds is not None:
        yield _writable("socket", settings.uds.absolute().parent, "let the user of the service write there")
        return
    place = f"{settings.host} port {settings.port}"
    try:
        _bind(settings.host, settings.port)
    except OSError as error:
        advice = "stop what listens there, or set TEMPERANCE_PORT; if it is this service, all is well"
        yield Finding("port", "warning", f"{place} cannot be listened on now: {error.strerror}", advice)
    else:
        yield Finding("port", "ok", f"{place} is free")


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _telemetry(settings: Settings) -> Iterator[Finding]:
    is_off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    if not is_off:
        yield Finding("telemetry", "failed", "ONNX Runtime's telemetry is on", "install the package again")
    elif settings.otlp_endpoint is None:
        yield Finding("telemetry", "ok", "ONNX Runtime's is off; no traces or metrics are sent")
    else:
        yield Finding("telemetry", "ok", f"ONNX Runtime's is off; traces and metrics go to {settings.otlp_endpoint}")


def _access(settings: Settings) -> Iterator[Finding]:
    try:
        access = check_access(settings)
    except ServiceError as error:
        yield Finding("access", "failed", error.detail, "`serve` refuses to start like this")
        return
    is_fine = access.level <= logging.INFO
    advice = "" if is_fine else "make a key with `temperance keys create`, and leave --insecure out"
    yield Finding("access", "ok" if is_fine else "warning", access.sentence, advice)
    if not is_of_this_machine(settings):
        yield from _exposed(settings)


def _exposed(settings: Settings) -> Iterator[Finding]:
    if settings.ssl_certfile is None:
        advice = "set TEMPERANCE_SSL_CERTFILE, or put a proxy with TLS in front that alone reaches the port"
        yield Finding("TLS", "warning", f"requests to {settings.host} are not encrypted", advice)
    for name, is_open in (("METRICS_OPEN", settings.metrics_open), ("DOCS_OPEN", settings.docs_open)):
        if is_open:
            what = name.split("_", maxsplit=1)[0].lower()
            yield Finding("access", "warning", f"/{what} needs no credential", f"unset TEMPERANCE_{name}")


def _files(settings: Settings) -> Iterator[Finding]:
    passwords = settings.ssl_keyfile_password_file, settings.store_password_file
    for path in filter(None, (keys_path(settings), settings.ssl_keyfile, *passwords)):
        if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding("secrets", "warning", f"others than its owner may read {path}", f"chmod 600 {path}")
    if settings.models.is_dir() and os.access(settings.models, os.W_OK):
        advice = "in production, mount it read-only: publish from another place"
        yield Finding("repository", "warning", f"the user of this process may write to {settings.models}", advice)
    if os.geteuid() == 0:
        yield Finding("user", "warning", "this process runs as root", "run the service as a user of its own")


CHECKS: Final[dict[str, Check]] = {
    "versions": _versions,
    "settings": _settings,
    "onnxruntime": _runtime,
    "providers": _providers,
    "models": _models,
    "folders": _folders,
    "machine": _machine,
    "clock": _clock,
    "port": _port,
    "telemetry": _telemetry,
    "access": _access,
    "files": _files,
}
