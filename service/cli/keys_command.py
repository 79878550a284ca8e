"""`temperance keys`: keys of callers are made, listed and revoked. A running server follows."""

import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from service.access.caller import SCOPES
from service.access.key_file import KEYS_FILE, KeyFile
from service.access.key_use import KeyUse
from service.access.keys import NAME_PATTERN, ApiKey, KeyOptions, new_key
from service.cli.arguments import json_flag, split
from service.cli.console import print_json, print_table
from service.settings import PREFIX, Settings

UNITS: Final = {"d": "days", "h": "hours"}
COLUMNS: Final = ("name", "id", "state", "scopes", "models", "created", "expires", "last use")


def _data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, readable=False),
        default=Settings.model_fields["data"].default,
        envvar=f"{PREFIX}DATA",
        show_default=True,
        show_envvar=True,
        help="Data directory of the service.",
    )(command)


def _keys_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--keys",
        "path",
        type=click.Path(path_type=Path, readable=False),
        envvar=f"{PREFIX}KEYS",
        show_envvar=True,
        help=f"File of keys.  [default: {KEYS_FILE} in the data directory]",
    )(command)


def _name(context: click.Context, option: click.Parameter, value: str) -> str:
    del context, option
    if re.fullmatch(NAME_PATTERN, value) is None:
        raise click.BadParameter("letters, digits, dots, underscores and hyphens, at most 64, a letter or digit first")
    return value


def _scopes(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    del context, option
    scopes = tuple(dict.fromkeys(split(value) or ()))
    if not scopes or set(scopes) - set(SCOPES):
        raise click.BadParameter(f"the scopes are {', '.join(SCOPES)}, separated by commas")
    return scopes


def _models(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    names = split(value)
    return None if names is None else tuple(_name(context, option, name) for name in names)


def _expiry(context: click.Context, option: click.Parameter, value: str) -> datetime | None:
    del context, option
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        expires = None if value == "never" else _moment(value, now)
    except (ValueError, OverflowError):
        raise click.BadParameter("days (90d), hours (12h), never, or a date (2027-01-31)") from None
    if expires is not None and expires <= now:
        raise click.BadParameter("a key cannot expire before it is made")
    return expires


def _moment(value: str, now: datetime) -> datetime:
    number, unit = value[:-1], value[-1:]
    if unit in UNITS and re.fullmatch("[0-9]{1,6}", number):
        return now + timedelta(**{UNITS[unit]: int(number)})
    return datetime.combine(date.fromisoformat(value), time(23, 59, 59), UTC)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of callers."""


@keys.command()
@click.option("--name", required=True, callback=_name, help="Name of the caller; several keys may have the same.")
@click.option("--scopes", default="predict", show_default=True, callback=_scopes, help="What it allows, by commas.")
@click.option("--expires", default="90d", show_default=True, callback=_expiry, help="90d, 12h, never, or a date.")
@click.option("--models", callback=_models, help="Names of the only models that it allows, separated by commas.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Quota of its own.")
@click.option("--rows-per-minute", type=click.IntRange(min=1), help="Quota of its own.")
@click.option("--out", type=click.Path(path_type=Path), help="New file for the key, which is then not printed.")
@_keys_option
@_data_option
@json_flag
def create(name: str, path: Path | None, data: Path, out: Path | None, *, as_json: bool, **options: Any) -> None:
    """Make a key. It is shown once: only its hash is stored."""
    store = KeyFile(path or data / KEYS_FILE)
    is_first = store.revision() is None
    stored, text = new_key(name, KeyOptions(**options), now=datetime.now(UTC))
    if out is None:
        store.add(stored)
    else:
        _write_out(out, text, then=lambda: store.add(stored))
    if as_json:
        print_json({**_as_json(stored, None), **({"key": text} if out is None else {"out": str(out)})})
        return
    if out is None:
        click.echo(text)
    sentences = [_made(stored, out), *([FIRST] if is_first else [])]
    click.echo("\n".join(sentences), err=out is None)  # a shell that captures the key captures nothing else


@keys.command("list")
@_keys_option
@_data_option
@json_flag
def list_keys(path: Path | None, data: Path, *, as_json: bool) -> None:
    """List keys, and when each was last used."""
    found, used = KeyFile(path or data / KEYS_FILE).read(), KeyUse(data).read()
    if as_json:
        print_json({"keys": [_as_json(key, used.get(key.id)) for key in found]})
        return
    table = Table(*COLUMNS)
    for key in found:
        table.add_row(*_row(key, used.get(key.id)))
    print_table(table)


@keys.command()
@click.argument("id_or_name")
@_keys_option
@_data_option
def revoke(id_or_name: str, path: Path | None, data: Path) -> None:
    """Revoke the key of an id, or every key of a name."""
    store = KeyFile(path or data / KEYS_FILE)
    for key in store.revoke(id_or_name, now=datetime.now(UTC)):
        click.echo(f"Revoked key {key.id} of {key.name}.")
    click.echo("Running servers refuse it within 2 seconds.")


def _write_out(out: Path, text: str, *, then: Callable[[], None]) -> None:
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # never over another key
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
        then()
    except BaseException:
        out.unlink()
        raise


def _made(key: ApiKey, out: Path | None) -> str:
    until = "never expires" if key.expires is None else f"expires {key.expires:%Y-%m-%d %H:%M} UTC"
    where = "It is shown this once" if out is None else f"The key is in {out}"
    return (
        f"Key {key.id} of {key.name} allows {', '.join(key.scopes)} and {until}. {where}: keep it where the caller "
        "keeps its secrets, and send it as Authorization: Bearer KEY."
    )


def _as_json(key: ApiKey, used: datetime | None) -> dict[str, Any]:
    known = key.model_dump(mode="json", exclude={"sha256"})
    return {**known, "state": key.state(datetime.now(UTC)), "last_used": None if used is None else _moment_text(used)}


def _row(key: ApiKey, used: datetime | None) -> tuple[str, ...]:
    return (
        key.name,
        key.id,
        key.state(datetime.now(UTC)),
        ", ".join(key.scopes),
        "all" if key.models is None else ", ".join(key.models),
        f"{key.created:%Y-%m-%d}",
        "never" if key.expires is None else f"{key.expires:%Y-%m-%d}",
        "-" if used is None else f"{used:%Y-%m-%d %H:%M}",
    )


def _moment_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


FIRST: Final = "It is the first key: within 2 seconds, running servers refuse requests without a credential."
