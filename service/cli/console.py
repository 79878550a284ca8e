"""How verbs print: tables, JSON and progress bars.

Tested in tests/cli/test_main.py.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track as progress_bar

TABLE_WIDTH = 132


def track(title: str = "reading rows") -> Callable[[Iterable[int]], Iterable[int]]:
    """Draw a progress bar on a terminal, and none in a pipe."""
    console = Console(stderr=True)
    return lambda starts: progress_bar(
        list(starts), title, console=console, transient=True, disable=not console.is_terminal
    )


def print_table(table: Any) -> None:
    """Print what rich renders."""
    # A pipe has no width of its own; a table cut to 80 columns there would lose its content.
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
