"""What a start is refused for, and what it warns of, before anything is spawned and before anything listens."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service import open_files
from service.api.proxies import Proxies
from service.api.serving import ACCEPTED_IN_A_TURN
from service.bundle.repository import Repository
from service.bundle.writer import FIRST_ALIAS
from service.credentials import Access, check_access
from service.deployment import providers_of
from service.environment import Sources
from service.errors import SettingsInvalid
from service.metrics_folder import clear_left_over
from service.record_places import store_url
from service.runtime.providers import check_provider
from service.runtime.registry import Registry
from service.settings import Settings

log = logging.getLogger("temperance")


def check_settings(settings: Settings, sources: Sources) -> Access:
    """Check what needs neither a model nor a socket, and clear what a killed service has left.

    Returns
    -------
    Access
        Who may use the service, for the log.

    Raises
    ------
    SettingsInvalid
        Naming the setting, and where its value came from.
    """
    for line in sources.ignored():
        log.warning("%s", line)
    with sources.named("host", "data" if settings.keys is None else "keys"):
        access = check_access(settings)
    with sources.named("proxies"):
        Proxies.named(settings.proxies)  # workers read them too; what is wrong is reported now, and once
    with sources.named("data"):
        _check_data(settings.data, is_named="data" in settings.model_fields_set)
    with sources.named("store", "store_password_file"):
        store_url(settings)
    with sources.named("deployment" if settings.deployment else "provider"):
        for provider in providers_of(settings).named:
            check_provider(provider)
    if cleared := clear_left_over():
        log.info("removed folders that killed services left for their counts: %d", cleared)
    return access


def check_open_files(sockets: int) -> None:
    """Let as many files be open at once as may be, and say so if that is few.

    Parameters
    ----------
    sockets : int
        On which the service listens.

    Raises
    ------
    SettingsInvalid
        If the sockets alone would take them all.
    """
    files = open_files.raise_limit()
    open_files.check_room(files.possible, sockets * ACCEPTED_IN_A_TURN)
    if files.possible < open_files.FEWEST:
        log.warning(
            "`ulimit -n` lets %d files be open at once, and each connection is one: raise it to %d or more",
            files.possible,
            open_files.FEWEST,
        )


def check_expected(settings: Settings, registry: Registry, sources: Sources) -> None:
    """Refuse a start without a model that is expected; where the start is not strict, say which it waits for.

    Raises
    ------
    SettingsInvalid
    """
    for name in registry.missing(settings.expected_models):
        detail = f"the expected model {name!r} is not served: no alias of {settings.models} names a version of it"
        if settings.strict_start:
            advice = "publish it, or start with TEMPERANCE_STRICT_START=false to wait for it"
            raise sources.explained(f"{detail}; {advice}", "expected_models")
        if name not in registry.refused:  # why it is refused stands in a line of its own
            log.error("not ready: %s", detail)


def log_models(registry: Registry) -> None:
    """Say what is served, and of a model that does not run on the CPU, where it does."""
    for model in registry.all_models():
        log.info("serving %s, calibration %s (%s)", model.bundle.title, model.method, model.status)
        if model.parity is not None:
            log.info("%s runs %s", model.bundle.title, model.session.placement.sentence)


def warn_of_models(repository: Repository, registry: Registry) -> None:
    """Say which models are refused, and which answer no request that names no version."""
    for name, reason in registry.refused.items():
        log.error("not serving %s: %s", name, reason)
    for line in without_first_alias(repository, registry):
        log.warning("%s", line)


def without_first_alias(repository: Repository, registry: Registry) -> Iterator[str]:
    """A line for every served model that has aliases, but not the one which requests without a version go to."""
    for name in registry.names():
        aliases = registry.served(name).aliases
        if FIRST_ALIAS not in aliases:
            command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
            yield f"{name} has no alias {FIRST_ALIAS!r}, so requests that name no version are 404; {command} adds it"


def writable_place(folder: Path) -> Path:
    """Where a folder is, or where it would be made; checked by writing there.

    Raises
    ------
    OSError
        If it cannot be written to.
    """
    folder = folder.absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryFile(dir=place):
        return place


def _check_data(folder: Path, *, is_named: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise SettingsInvalid(f"the data folder {folder} is not a directory")
    try:
        writable_place(folder)
    except OSError as error:
        if is_named and not folder.exists():
            raise SettingsInvalid(f"the data folder {folder} cannot be made: {error.strerror}") from None
        log.warning("the data folder %s cannot be written to (%s): what is kept there is lost", folder, error.strerror)
