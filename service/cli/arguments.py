"""What verbs share: options, the model they speak of, and how they print."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import track as progress_bar

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleNotFound
from service.settings import PREFIX

TABLE_WIDTH = 132


def _repository(context: click.Context, option: click.Parameter, path: Path) -> Repository:
    is_named = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    return Repository(path, is_named=is_named)


models_option = click.option(
    "--models",
    "repository",
    type=click.Path(path_type=Path),
    default=Path("models"),
    envvar=f"{PREFIX}MODELS",
    show_default=True,
    show_envvar=True,
    callback=_repository,
    help="Model repository.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
file_path = click.Path(path_type=Path)


def published(repository: Repository, name: str, version: int | None) -> Bundle:
    """The version asked for, or else `stable`."""
    wanted = version or repository.aliases(name).get(FIRST_ALIAS)
    if wanted is None and repository.versions(name):
        known = ", ".join(map(str, repository.versions(name)))
        command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
        raise BundleNotFound(f"no alias {FIRST_ALIAS!r} of {name} names a version (published: {known}); {command} does")
    if wanted is None:
        known = ", ".join(repository.names()) or "none"
        retired = ", ".join(map(str, repository.retired(name)))
        why = f"retired: {retired}" if retired else f"models here: {known}"
        raise BundleNotFound(f"{name} has no published version ({why})")
    return repository.bundle(name, wanted)


def newer_than(repository: Repository, name: str, version: int | None) -> str | None:
    """A note that a version was taken although a newer one is published; None where there is none."""
    newest = max(repository.versions(name), default=None)
    if version is None or newest is None or newest <= version:
        return None
    return f"this is version {version}, which {FIRST_ALIAS} names; for version {newest}, the newest: --version {newest}"


def track(title: str = "judging rows") -> Callable[[Iterable[int]], Iterable[int]]:
    """Draw a progress bar on a terminal, and none in a pipe."""
    console = Console(stderr=True)
    return lambda starts: progress_bar(
        list(starts), title, console=console, transient=True, disable=not console.is_terminal
    )


def print_table(table: Any) -> None:
    """Print what rich renders."""
    # A pipe has no width of its own; a table cut to 80 columns there would lose what it says.
    console = Console() if sys.stdout.isatty() else Console(width=TABLE_WIDTH)
    console.print(table, highlight=False)


def print_json(value: object) -> None:
    """Print strict JSON."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def write_json(value: object, path: str) -> None:
    """Write strict JSON to a file, or print it where the path is a dash."""
    if path == "-":
        print_json(value)
    else:
        Path(path).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def split(value: str | None) -> tuple[str, ...] | None:
    """Parts of a flag that lists several, separated by commas."""
    return None if value is None else tuple(part.strip() for part in value.split(","))
