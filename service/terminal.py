"""What verbs share: options, the model they speak of, and how they print."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track as progress_bar

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleNotFound

TABLE_WIDTH = 132

models_option = click.option(
    "--models",
    "repository",
    type=click.Path(path_type=Path),
    default=Path("models"),
    show_default=True,
    callback=lambda _context, _option, path: Repository(path),
    help="Model repository.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
file_path = click.Path(path_type=Path)


def published(repository: Repository, name: str, version: int | None) -> Bundle:
    """The version asked for, or else `stable`."""
    wanted = version or repository.aliases(name).get(FIRST_ALIAS)
    if wanted is None:
        known = ", ".join(repository.names()) or "none"
        raise BundleNotFound(f"{name} has no published version (models here: {known})")
    return repository.bundle(name, wanted)


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
