"""Benchmarks as one table: what was measured, and the targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and the one it must stay below; None where there is no target."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target is None:
            return ""
        return "met" if self.value < self.target else "MISSED"


def show(title: str, figures: Iterable[Figure], *, caption: str = "") -> None:
    """Print figures one below the other."""
    rows = [
        (
            figure.name,
            f"{figure.value:,.4g} {figure.unit}",
            "" if figure.target is None else f"< {figure.target:g} {figure.unit}",
            figure.verdict,
        )
        for figure in figures
    ]
    show_rows(title, ("figure", "measured", "target", ""), rows, caption=caption)


def show_rows(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", width: int = WIDTH
) -> None:
    """Print rows under columns."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=width)
    console.print(table, highlight=False)
    if caption:  # below the table and not in it: rich would fold it to the table's width
        console.print(caption, highlight=False)
    console.print()


def with_target(value: float, form: str, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """A number in a cell, beside its target."""
    if at_least is not None:
        return f"{value:{form}} (≥ {at_least:g} {'met' if value >= at_least else 'MISSED'})"
    if at_most is not None:
        return f"{value:{form}} (≤ {at_most:g} {'met' if value <= at_most else 'MISSED'})"
    return f"{value:{form}}"


def milliseconds(seconds: float) -> str:
    """A time in a cell."""
    return f"{1e3 * seconds:.2f} ms"
