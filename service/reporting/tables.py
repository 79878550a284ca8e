"""Tables for a terminal, and the plain ones that a page shows too."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells; the first is a name, the others are numbers unless ``prose`` says that the last is text."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    prose: bool = False


def drawn(grid: Grid) -> RenderableType:
    """A grid for a terminal; its title stands in the first column's head."""
    table = new_table(grid.title, *grid.head[1:])
    for row in grid.rows:
        add_row(table, *row)
    return Group(table, Text(grid.note)) if grid.note else table


def new_table(title: str, *columns: str) -> Table:
    """A table whose first column is named by its title, the others numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(title))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def metric_table(title: str, *columns: str) -> Table:
    """A table of metrics, with a last column for what they mean."""
    table = new_table(title, *columns)
    table.add_column("meaning", style="dim")
    return table


def add_row(table: Table, *cells: str) -> None:
    """A row of plain text."""
    # Text, because rich takes brackets in a plain string (a class may be called "[b]") for markup.
    table.add_row(*map(Text, cells))


def number(value: float | None) -> str:
    """A number in four digits; nothing where there is none."""
    return "" if value is None else f"{value:.4g}"
