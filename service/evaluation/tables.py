"""Tables for a terminal."""

from rich import box
from rich.table import Table
from rich.text import Text


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
