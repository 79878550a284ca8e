"""`temperance alias`: which version a movable name stands for. A move is recorded where there is a record."""

import contextlib
import getpass
import os
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import click

from service.bundle.changes import replaced
from service.bundle.repository import Repository
from service.bundle.writer import check_alias, remove_alias, set_alias
from service.cli.arguments import FiniteRange, models_option
from service.cli.audit_options import opened, place_options, settings_of
from service.cli.messages import print_removed
from service.errors import BundleNotFound, ServiceError, SettingsInvalid
from service.monitoring.alias_changes import AliasChange, record_change
from service.record_places import secrets_of, store_url
from service.settings import Settings

LONGEST_REASON: Final = 2000


@click.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove LABEL; without any alias, no version is served.")
@click.option(
    "--shadow", is_flag=True, help="The version runs beside stable: its answers are recorded, never returned."
)
@click.option(
    "--share",
    type=FiniteRange(0.0, 1.0, min_open=True),
    help="Share of the requests that a shadow sees.  [default: 1]",
)
@click.option("--reason", help="Why; it is recorded.")
@click.option("--by", help="Who; it is recorded.  [default: the login name]")
@click.option("--unrecorded", is_flag=True, help="Go on where the record cannot be written.")
@place_options("data", "store", "secrets")
@models_option
def alias(
    name: str, label: str, version: str | None, repository: Repository, *, remove: bool, shadow: bool, **flags: Any
) -> None:
    """Point LABEL at VERSION, a number or another alias. `alias NAME stable VERSION` deploys, and rolls back.

    `alias NAME stable candidate` promotes what `refit` published.
    """
    if (version is None) != remove:
        raise click.UsageError("give the VERSION that the alias names, or --remove, and not both")
    share, settings = _share(flags.pop("share"), shadow=shadow), settings_of(flags)
    target = None if version is None else _number(repository, name, version)
    if target is not None:
        check_alias(repository, name, label, target, share=share)
        for sentence in replaced(repository, name, label, target):
            click.echo(f"warning: {sentence}", err=True)
    elif label not in repository.aliases(name):
        remove_alias(repository, name, label)  # which says what there is
    _record(settings, _change(repository, name, label, target, share=share, **flags), **flags)
    if target is None:
        remove_alias(repository, name, label)
        print_removed(repository, name, [label])
        return
    set_alias(repository, name, label, target, share=share)
    beside = "" if share is None else f" (a shadow, of {share:.0%} of the requests)"
    click.echo(f"{name}: {label} = {target}{beside}")


def _share(share: float | None, *, shadow: bool) -> float | None:
    if share is not None and not shadow:
        raise click.UsageError("--share belongs to --shadow")
    return (share or 1.0) if shadow else None


def _number(repository: Repository, name: str, version: str) -> int:
    if version.isdecimal() and version.isascii():
        return int(version[:10])
    aliases = repository.aliases(name)
    if version not in aliases:
        known = ", ".join(aliases) or "none"
        raise BundleNotFound(f"VERSION is a number, or an alias of {name} (aliases: {known})")
    return aliases[version]


def _change(
    repository: Repository,
    name: str,
    label: str,
    target: int | None,
    *,
    share: float | None,
    by: str | None,
    reason: str | None,
    unrecorded: bool,
) -> AliasChange:
    del unrecorded
    if reason is not None and len(reason) > LONGEST_REASON:
        raise click.UsageError(f"--reason has at most {LONGEST_REASON} characters")
    digest = None if target is None else repository.bundle(name, target).digest
    return AliasChange(name, label, repository.aliases(name).get(label), target, digest, share, by or _login(), reason)


def _login() -> str:
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return f"uid {os.getuid()}"  # a container's user may have no name


def _record(settings: Settings, change: AliasChange, *, by: str | None, reason: str | None, unrecorded: bool) -> None:
    """Record a change, or refuse it; where no record was ever begun, there is none to keep it in."""
    if not _has_record(settings):
        if by is not None or reason is not None:
            click.echo("note: there is no record yet, so who and why are not kept", err=True)
        return
    try:
        with opened(settings, secrets_of(settings).current.signer) as store:
            record_change(store, change, now=time.time_ns() // 1000)
    except ServiceError as error:
        if not unrecorded:
            raise SettingsInvalid(f"{error}; the alias was not moved (--unrecorded moves it all the same)") from None
        click.echo(f"warning: not recorded: {error}", err=True)


def _has_record(settings: Settings) -> bool:
    parts = urlsplit(store_url(settings))
    return settings.audit != "off" and (parts.scheme != "sqlite" or Path(unquote(parts.path)).exists())
