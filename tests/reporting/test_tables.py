import io

import pytest
from rich.console import Console

from service.evaluation.classification_problem import Difference
from service.evaluation.rates import Rate
from service.reporting.tables import FORMS, Cell, Column, Kind, Table, write
from service.reporting.terminal import render_table

CELLS: dict[Kind, tuple[Cell, str]] = {
    "name": ("ann", "ann"),
    "prose": ("what it means", "what it means"),
    "count": (12_345, "12,345"),
    "weight": (1234.5, "1,234.5"),
    "decimal": (0.12345, "0.1235"),
    "number": (0.123456, "0.1235"),
    "share": (0.1234, "12.3 %"),
    "points": (-0.0123, "-1.23"),
    "margin": (0.0123, "1.23"),
    "rate": (Rate(0.5, 0.25, 0.75, 10, None), "0.500 (0.250 to 0.750)"),
    "change": (Difference(0.5, None, None, "one_group"), "+0.5000"),
    "interval": (Difference(0.5, 0.25, 0.75, None), "+0.2500 to +0.7500"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_cell_is_written_as_its_column_s_kind(kind: Kind) -> None:
    cell, text = CELLS[kind]
    assert write(kind, cell) == text


@pytest.mark.parametrize("kind", FORMS)
def test_a_missing_value_is_an_empty_cell_and_a_string_stands_as_it_is(kind: Kind) -> None:
    assert write(kind, None) == ""
    assert write(kind, "infinite") == "infinite"


def test_what_is_absent_says_why() -> None:
    assert write("rate", Rate(None, None, None, 0, "no_rows")) == "– (no such rows)"  # noqa: RUF001  # an en dash
    assert write("rate", Rate(0.5, None, None, 9, "one_group")) == "0.500 (no interval: one group)"
    assert write("interval", Difference(0.5, None, None, "one_row")) == "none: one row"


def test_a_terminal_shows_title_headers_cells_and_notes_and_takes_no_markup_from_them() -> None:
    table = Table("[b]flags[/b]", (Column("score", "name"), Column("rows", "count")), [("[i]nll", 1200)], ("[u]note",))
    stream = io.StringIO()
    Console(file=stream, width=80).print(render_table(table))
    for text in ("[b]flags[/b]", "score", "rows", "[i]nll", "1,200", "[u]note"):
        assert text in stream.getvalue()
