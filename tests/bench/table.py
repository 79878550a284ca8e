"""Benchmarks as one table: what was measured, and what is asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and the one it must stay below; None where nothing is asked for."""

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


def show(title: str, figures: Iterable[Figure]) -> None:
    """Print the table."""
    table = Table("figure", "measured", "target", "", title=title, title_justify="left")
    for figure in figures:
        target = "" if figure.target is None else f"< {figure.target:g} {figure.unit}"
        table.add_row(figure.name, f"{figure.value:,.4g} {figure.unit}", target, figure.verdict)
    Console(width=110).print(table)
