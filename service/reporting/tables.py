"""A table as data: a title, columns with a header and a kind, rows of values, notes. `terminal` and `page` draw it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from service.evaluation.classification_problem import Difference
from service.evaluation.number_format import decimal, percent
from service.evaluation.rates import Rate
from service.evaluation.reasons import REASONS

Kind = Literal[
    "name", "prose", "count", "weight", "decimal", "number", "share", "points", "margin", "rate", "change", "interval"
]
Cell = str | float | Rate | Difference | None
"""A value; a string stands as it is in a column of any kind."""

EMPTY: Final = "–"  # noqa: RUF001  # an en dash


@dataclass(frozen=True, slots=True)
class Column:
    """A header, and what the cells under it are: a key of `FORMS`."""

    header: str
    kind: Kind

    @property
    def is_text(self) -> bool:
        """Whether cells are words, to the left, or numbers, to the right."""
        return self.kind in {"name", "prose"}


@dataclass(frozen=True, slots=True)
class Table:
    """Values under headers; the first column names the rows.

    Attributes
    ----------
    title : str
    columns : tuple of Column
    rows : sequence of tuple of Cell
    notes : tuple of str
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def written(self) -> list[tuple[str, ...]]:
        """The rows as text, each cell as its column's kind is written.

        Examples
        --------
        >>> columns = (Column("score", "name"), Column("rows", "count"), Column("flagged", "share"))
        >>> Table("flags", columns, [("nll", 1200, 0.05), ("range", None, 0.0)]).written()
        [('nll', '1,200', '5 %'), ('range', '', '0 %')]
        """
        kinds = [column.kind for column in self.columns]
        return [tuple(write(kind, cell) for kind, cell in zip(kinds, row, strict=True)) for row in self.rows]


def write(kind: Kind, cell: Cell) -> str:
    """One cell as text; nothing where there is no value."""
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else FORMS[kind](cell)


def rate(found: Rate) -> str:
    """A share with its interval, or why there is none."""
    if found.value is None:
        return f"{EMPTY} ({REASONS['no_rows']})"
    if found.low is None or found.high is None:
        return f"{found.value:.3f} (no interval: {REASONS[found.reason or 'one_group']})"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _change(found: Difference) -> str:
    return EMPTY if found.mean is None else f"{found.mean:+.4f}"


def _interval(found: Difference) -> str:
    if found.low is None or found.high is None:
        return f"none: {REASONS[found.reason or 'one_group']}"
    return f"{found.low:+.4f} to {found.high:+.4f}"


FORMS: Final[dict[Kind, Callable[[Any], str]]] = {
    "name": str,
    "prose": str,
    "count": "{:,}".format,
    "weight": "{:,.6g}".format,
    "decimal": decimal,
    "number": "{:.4g}".format,
    "share": percent,
    "points": lambda share: f"{100.0 * share:+.2f}",
    "margin": lambda share: f"{100.0 * share:.2f}",
    "rate": rate,
    "change": _change,
    "interval": _interval,
}
