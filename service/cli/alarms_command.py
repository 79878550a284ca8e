"""`temperance alarms`: alarms are listed and acknowledged."""

import getpass
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from service.cli.arguments import json_flag
from service.cli.audit_options import opened, place_options, settings_of
from service.cli.console import print_json, print_table
from service.errors import SettingsInvalid
from service.monitoring.alarms import Alarm, acknowledge, alarms_of
from service.record_places import secrets_path
from service.store.engine import Store
from service.store.secrets import Secrets

COLUMNS = ("model", "version", "test", "outcomes", "raised", "state")


@click.group()
def alarms() -> None:
    """List alarms, and acknowledge them."""


@alarms.command("list")
@click.argument("name", required=False)
@place_options("data", "store")
@json_flag
def list_(name: str | None, *, as_json: bool, **flags: Any) -> None:
    """Alarms that were raised, of all models or of one, in order of time."""
    with opened(settings_of(flags)) as store:
        found = alarms_of(store, model=name)
    if as_json:
        print_json({"alarms": [_described(alarm) for alarm in found]})
    elif found:
        print_table(_table(found))
    else:
        click.echo("No alarms.")


@alarms.command("acknowledge")
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="One version; by default every one with an alarm.")
@click.option("--reason", help="Kept in the record.")
@place_options("data", "store", "secrets")
def acknowledge_(name: str, version: int | None, reason: str | None, **flags: Any) -> None:
    """Record that the alarms of a model are known. They stay acknowledged for these tests of these versions."""
    settings = settings_of(flags)
    with opened(settings, Secrets.read(secrets_path(settings)).current.signer) as store:
        versions = _unacknowledged(store, name, version)
        for number in versions:
            acknowledge(store, name, number, by=getpass.getuser(), reason=reason, now=time.time_ns() // 1000)
    if not versions:
        raise SettingsInvalid(f"{name} has no alarm to acknowledge; `temperance alarms list` shows those there are")
    click.echo(f"Acknowledged: {name}, version {', '.join(map(str, versions))}.")


def _unacknowledged(store: Store, name: str, version: int | None) -> list[int]:
    active = {alarm.version for alarm in alarms_of(store, model=name) if not alarm.acknowledged}
    return sorted(active if version is None else active & {version})


def _described(alarm: Alarm) -> dict[str, Any]:
    return {**asdict(alarm), "raised": _time(alarm)}


def _time(alarm: Alarm) -> str:
    return datetime.fromtimestamp(alarm.raised / 1_000_000, UTC).isoformat(timespec="seconds")


def _table(found: list[Alarm]) -> Table:
    table = Table(*COLUMNS)
    for alarm in found:
        state = "acknowledged" if alarm.acknowledged else "raised"
        table.add_row(alarm.model, str(alarm.version), alarm.test, str(alarm.outcomes), _time(alarm), state)
    return table
