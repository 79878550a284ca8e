"""Lines of a CSV file: which are rows, which are refused, and what each is called."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from service.data import blocks
from service.data.cells import Text
from service.data.csv_file import BLANK, CsvFile
from service.errors import DataError

Write = Callable[..., CsvFile]


@pytest.fixture
def opened(tmp_path: Path) -> Write:
    def write(text: str, encoding: str = "utf-8") -> CsvFile:
        (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
        return CsvFile(tmp_path / "rows.csv")

    return write


def table(file: CsvFile, *names: str) -> list[tuple[int, tuple[str, ...], str | None]]:
    """Every row: the line it begins on, its cells, and why it is none."""
    found = []
    for block in file.blocks(names, rows=2):
        columns = [block.columns[name] for name in names]
        faults = dict(block.faults)
        assert block.lines is not None
        cells = [column.cells for column in columns if isinstance(column, Text)]
        found += [(line, tuple(column[i] for column in cells), faults.get(i)) for i, line in enumerate(block.lines)]
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n", "\n   \n\n", "\n\t\n"])
def test_blank_lines_at_the_end_are_no_rows(end: str, tail: str, opened: Write) -> None:
    file = opened(("a,b\n1,2\n3,4" + tail).replace("\n", end))
    assert table(file, "a", "b") == [(2, ("1", "2"), None), (3, ("3", "4"), None)]
    assert file.count() == 2 <= file.bound()


def test_a_blank_line_inside_is_refused_by_its_line(opened: Write) -> None:
    file = opened("a,b\n1,2\n\n3,4\n  \n5,6\n")
    assert table(file, "a") == [
        (2, ("1",), None),
        (3, ("",), BLANK),
        (4, ("3",), None),
        (5, ("",), BLANK),
        (6, ("5",), None),
    ]
    assert file.count() == 5


def test_a_line_of_commas_is_a_row_of_missing_values(opened: Write) -> None:
    assert table(opened("a,b\n1,2\n,\n"), "a", "b")[1] == (3, ("", ""), None)


def test_in_a_table_of_one_column_a_quoted_empty_cell_is_a_missing_value(opened: Write) -> None:
    file = opened('a\n1\n""\n2\n\n')
    assert table(file, "a") == [(2, ("1",), None), (3, ("",), None), (4, ("2",), None)]


def test_a_cell_of_several_lines_is_counted_in_lines(opened: Write) -> None:
    file = opened('a,b\n"x\ny",1\n"p\r\nq",2\nr,3\n')
    assert [(line, cells) for line, cells, _ in table(file, "a", "b")] == [
        (2, ("x\ny", "1")),
        (4, ("p\r\nq", "2")),
        (6, ("r", "3")),
    ]


@pytest.mark.parametrize("text", ["\n\na,b\n1,2\n", "  \na,b\n1,2\n", ",,\na,b\n1,2\n"])
def test_blank_lines_above_the_header_are_nothing(text: str, opened: Write) -> None:
    file = opened(text)
    assert file.names == ("a", "b")
    assert table(file, "a") == [(text.count("\n"), ("1",), None)]


@pytest.mark.parametrize(
    "header", ["a,b", " a , b", '"a","b"', '"a", "b"', "\ufeffa,b", '\ufeff"a",b', "a,b,", "a,,b,"]
)
def test_a_header_is_read_without_what_is_around_its_names(header: str, opened: Write) -> None:
    file = opened(f"{header}\n")
    assert [name for name in file.names if name] == ["a", "b"]


@pytest.mark.parametrize("header", ["a,a", "a, a", "\ufeffa,b,a", '"a",a', '\ufeff"a", "a" '])
def test_a_column_that_is_there_twice_is_refused_by_name(header: str, opened: Write) -> None:
    with pytest.raises(DataError, match=r"rows\.csv: column 'a' appears twice \(columns 1 and [23]\); remove one"):
        opened(f"{header}\n1,2,3\n")


def test_names_in_another_case_are_other_columns(opened: Write) -> None:
    assert opened("a,A\n1,2\n").names == ("a", "A")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1", "has 1 cells, and the header names 2 columns"),
        ("1,2,3", "has 3 cells, and the header names 2 columns; a cell with a comma"),
        ("1,2,", "has 3 cells, and the header names 2 columns; remove the commas at the end"),
    ],
)
def test_a_row_of_another_width_is_refused_by_its_line(row: str, words: str, opened: Write) -> None:
    (line, cells, why) = table(opened(f"a,b\n1,2\n{row}\n"), "a", "b")[1]
    assert (line, cells) == (3, ("", ""))
    assert words in str(why)


@pytest.mark.parametrize("text", ['a,b\n1,2\n"3,4\n5,6\n', 'a,b\n1,2\n"3"x,4\n', 'a,b\n1,2\n"' + "x" * 200_000])
def test_a_quotation_mark_out_of_place_is_refused_by_its_line(text: str, opened: Write) -> None:
    with pytest.raises(DataError, match="line 3 has a quotation mark that is not closed"):
        table(opened(text), "a")


def test_a_cell_of_text_may_be_long(opened: Write) -> None:
    text = "x" * 1_000_000
    assert table(opened(f"a,b\n{text},1\n"), "a", "b") == [(2, (text, "1"), None)]


def test_a_cell_without_an_end_is_refused_by_its_line(opened: Write) -> None:
    before = csv.field_size_limit(100)
    try:
        with pytest.raises(DataError, match=r"line 2 has a cell of more than 100 characters: a quotation mark is not"):
            table(opened('a,b\n"1,2\n' + "3,4\n" * 100), "a")
    finally:
        csv.field_size_limit(before)


def test_text_that_is_not_utf_8_is_refused(opened: Write) -> None:
    with pytest.raises(DataError, match=r"is not UTF-8 .* save it as CSV UTF-8"):
        table(opened("a,b\nGrün,1\n", "latin-1"), "a")


@pytest.mark.parametrize(
    ("header", "name"),
    [("a;b", "semicolons"), ("a\tb", "tabs"), ("a|b", "vertical bars"), ("a b", "spaces"), ("a;b,c;d", "semicolons")],
)
def test_another_separator_is_named(header: str, name: str, opened: Write) -> None:
    assert f"separated by {name}" in opened(f"{header}\n1,5;2,5\n").hint(["a"])


def test_another_separator_is_named_where_quotation_marks_give_it_away(opened: Write) -> None:
    with pytest.raises(DataError, match=r"line 1 has a quotation mark .* separated by semicolons"):
        opened('"a";"b"\n"1,5";"2"\n')


def test_there_is_no_hint_of_separators_where_there_are_none(opened: Write) -> None:
    assert opened("a,b\n1,2\n").hint(["c"]) == ""


def test_wide_rows_are_read_in_small_blocks(opened: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.data import csv_file

    monkeypatch.setattr(csv_file, "MOST_CELLS", 4)
    monkeypatch.setattr(csv_file, "FEWEST_ROWS", 2)
    file = opened("a,b\n" + "1,2\n" * 9)
    assert [block.rows for block in file.blocks(["a", "b"], rows=100)] == [2, 2, 2, 2, 1]
    assert blocks.MOST_CELLS > 10_000
