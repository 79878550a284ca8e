"""`temperance audit`: the record is verified, erased from and pruned, and its keys are made."""

import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from service.cli.arguments import json_flag
from service.cli.audit_export_command import export_
from service.cli.audit_options import moment, opened, place_options, settings_of
from service.cli.audit_show_command import show
from service.cli.console import print_json, print_table
from service.errors import SettingsInvalid
from service.record_errors import StoreDamaged
from service.record_places import anchor_sink, secrets_path
from service.settings import Settings
from service.store import retention
from service.store.anchors import ANCHORS_FILE, read_anchors
from service.store.seals import Seals
from service.store.secrets import PublicKeys, Secrets, make, public_keys_of, rotate
from service.store.streams import Anchor
from service.store.verification import Finding, Verification, verify


@click.group()
def audit() -> None:
    """Verify the record, erase from it, and manage its keys."""


audit.add_command(show)
audit.add_command(export_)


@audit.command("verify")
@place_options("data", "store", "secrets", "anchors")
@click.option(
    "--public-key",
    "public",
    multiple=True,
    metavar="ID=KEY",
    help="Public key by its id, as `audit keys list` prints it: in place of the secrets.",
)
@json_flag
def verify_(public: tuple[str, ...], *, as_json: bool, **flags: Any) -> None:
    """Check the chain, its signatures and its anchors; name the first thing that is wrong."""
    settings = settings_of(flags)
    keys, seals = _keys(settings, public)
    anchors = _anchors(settings)
    with opened(settings) as store:
        found = verify(store, keys, anchors=anchors, seals=seals)
    if as_json:
        print_json({"ok": found.finding is None, **asdict(found)})
    if found.finding is not None:
        raise StoreDamaged(sentence(found.finding))
    if not as_json:
        click.echo(_sound(found, outside=len(anchors)))


@audit.command("erase")
@click.option("--subject", required=True, help="Whose clear text is erased; of rows without a subject, their id.")
@click.option("--reason", help="Kept in the record; do not name the subject in it.")
@place_options("data", "store", "secrets")
def erase(subject: str, reason: str | None, **flags: Any) -> None:
    """Destroy the keys of a subject's clear text, under every secret."""
    settings = settings_of(flags)
    secrets = Secrets.read(secrets_path(settings))
    with opened(settings, secrets.current.signer) as store:
        erased = retention.erase(store, secrets, subject, now=time.time_ns() // 1000, reason=reason)
    if not erased:
        raise StoreDamaged("the record has no clear text of that subject: it was erased before, or never kept")
    click.echo("Erased. Scores and decisions remain, under a token that no key leads back from.")


@audit.command("prune")
@click.option("--before", required=True, callback=moment, metavar="DATE", help="Delete what is older, in UTC.")
@place_options("data", "store", "secrets", "anchors")
def prune(before: int, **flags: Any) -> None:
    """Delete old records, in whole anchored segments."""
    settings = settings_of(flags)
    signer, now = Secrets.read(secrets_path(settings)).current.signer, time.time_ns() // 1000
    if before > now:
        raise click.BadParameter("must not lie in the future", param_hint="--before")
    with opened(settings, signer) as store:
        removed = retention.prune(store, signer, anchor_sink(settings), before=before, now=now)
    click.echo(f"Deleted {removed} entries." if removed else "No anchored segment is that old: nothing was deleted.")


@audit.group("keys")
def keys() -> None:
    """Make, list and rotate the secrets of the record."""


@keys.command("create")
@place_options("data", "secrets")
def create(**flags: Any) -> None:
    """Make a file of secrets, where there is none."""
    path = secrets_path(settings_of(flags))
    if not make(path):
        raise SettingsInvalid(f"{path} is there already; `temperance audit keys rotate` adds a secret to it")
    click.echo(f"Made {path}. Keep a copy apart from the store: without it, no clear text can be read.")


@keys.command("rotate")
@place_options("data", "secrets")
def rotate_(**flags: Any) -> None:
    """Add a secret, and keep the old ones for reading."""
    key_id = rotate(secrets_path(settings_of(flags)))
    click.echo(f"Servers use {key_id} from their next start on.")


@keys.command("list")
@place_options("data", "secrets")
@json_flag
def list_keys(*, as_json: bool, **flags: Any) -> None:
    """List the ids and the public keys, which are no secrets."""
    secrets = Secrets.read(secrets_path(settings_of(flags)))
    rows = [
        (key_id, f"{one.created:%Y-%m-%d}", b64encode(one.public_key).decode(), one is secrets.current)
        for key_id, one in secrets.by_id.items()
    ]
    if as_json:
        names = ("id", "created", "public_key", "is_current")
        print_json({"keys": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    table = Table("id", "created", "public key", "current")
    for key_id, created, public, is_current in rows:
        table.add_row(key_id, created, public, "yes" if is_current else "")
    print_table(table)


def sentence(finding: Finding) -> str:
    """Where the first wrong thing is, and what is wrong with it."""
    places = {"stream": finding.stream, "entry": finding.sequence, "request": finding.request_id}
    named = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
    return f"the record is not sound: {f'{named}: ' if named else ''}{finding.what}"


def _keys(settings: Settings, public: Sequence[str]) -> tuple[PublicKeys, Seals | None]:
    if public:
        pairs = [one.partition("=") for one in public]
        return public_keys_of({key_id: key for key_id, _, key in pairs}), None
    secrets = Secrets.read(secrets_path(settings))
    return secrets.public_keys(), Seals(secrets)


def _anchors(settings: Settings) -> list[Anchor]:
    path = settings.anchors or settings.data / ANCHORS_FILE
    if path == Path("-") or not (settings.anchors or path.exists()):
        return []
    return read_anchors(path)


def _sound(found: Verification, *, outside: int) -> str:
    more = "" if outside else " No anchors from outside were read (--anchors): a cut end would not be noticed."
    return (
        f"Sound: {found.entries} entries in {found.streams} streams, {found.anchors} anchors, {found.contexts} "
        f"contexts, {found.texts} encrypted texts.{more}"
    )
