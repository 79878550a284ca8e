"""CSV files, a block of rows at a time, with the line that every row begins on.

Read by the standard library's csv module, which shows blank lines, rows that are too short and the lines of every row
apart; polars fills short rows with missing values and does not count lines.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final

from service.data.blocks import FEWEST_ROWS, MOST_CELLS, Block, named_once
from service.data.cells import Cells, Text, bare
from service.data.formats import separator_of
from service.errors import DataError

LONGEST_CELL: Final = 1 << 24
"""Characters of a cell, of free text too; the csv module's own limit of 131 072 is for the whole process."""
csv.field_size_limit(max(LONGEST_CELL, csv.field_size_limit()))

BLANK = "is blank; remove it, or write the row's separators"


class CsvFile:
    """A table with a header, separated by commas, in UTF-8.

    Attributes
    ----------
    names : tuple of str
        Columns, without spaces around their names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            _, header = next(self._records(file), (0, []))
        self.names = named_once([bare(name) for name in header], path)
        if not any(self.names):
            raise DataError(f"{path} has no header: its first line must name the columns")

    def hint(self, missing: Sequence[str]) -> str:
        """Why columns may be missing: the file is separated by something else."""
        text = self._first_line().rstrip("\r\n")
        if all(name in text.split(" ") for name in missing):
            return "; its columns seem to be separated by spaces: write it with commas"
        return self._other_separator(text)

    def _first_line(self) -> str:
        with self._open() as file:
            return str(file.readline())

    def _other_separator(self, text: str) -> str:
        found = separator_of(text)
        if found is None:
            return ""
        return f"; its columns seem to be separated by {found}: write it with commas, and numbers with a decimal point"

    def count(self) -> int:
        """Its rows, in a pass over the file."""
        with self._open() as file:
            return sum(1 for _ in self._body(file))

    def bound(self) -> int:
        """Its line ends, in one quick pass."""
        ends = 1
        with self.path.open("rb") as file:
            while part := file.read(1 << 20):
                ends += part.count(b"\n") + part.count(b"\r")
        return ends

    def blocks(self, names: Sequence[str], *, rows: int, first: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows of a stretch; DataError for what is no CSV file."""
        places = [self.names.index(name) for name in names]
        size = min(rows, max(FEWEST_ROWS, MOST_CELLS // max(1, len(places))))
        with self._open() as file:
            records = islice(self._body(file), first, stop)
            while part := list(islice(records, size)):
                yield self._block(part, names, places, first)
                first += len(part)

    def _block(self, part: list[tuple[int, list[str]]], names: Sequence[str], places: list[int], first: int) -> Block:
        width = len(self.names)
        faults = [(row, self._misfit(record)) for row, (_, record) in enumerate(part) if len(record) != width]
        chosen = itemgetter(*places) if len(places) > 1 else lambda record: tuple(record[place] for place in places)
        empty = [""] * width
        cells = zip(*(chosen(record if len(record) == width else empty) for _, record in part), strict=True)
        columns: dict[str, Cells] = {name: Text(column) for name, column in zip(names, cells, strict=True)}
        return Block(self.path, first, len(part), columns, faults, tuple(line for line, _ in part))

    def _misfit(self, record: list[str]) -> str:
        if not record:
            return BLANK
        hint = ""
        if beyond := record[len(self.names) :]:
            quoted = "a cell with a comma, as a decimal comma, needs quotation marks around it"
            hint = f"; {quoted if any(beyond) else 'remove the commas at the end, or name the columns'}"
        return f"has {len(record)} cells, and the header names {len(self.names)} columns{hint}"

    def _body(self, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
        """Records behind the header with their first lines; blank lines at the end are none."""
        records = self._records(file)
        next(records, None)
        blank: list[tuple[int, list[str]]] = []
        for line, record in records:
            if self._is_blank(record):
                blank.append((line, []))
                continue
            yield from blank
            blank.clear()
            yield line, record

    def _is_blank(self, record: list[str]) -> bool:
        """Whether nothing stands on the line; in a table of one column a quoted empty cell is a missing value."""
        if len(record) > 1 or (record and record[0].strip()):
            return False
        return not record or len(self.names) > 1 or record[0] != ""

    def _records(self, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
        reader, line, begun = csv.reader(file, strict=True), 1, False
        try:
            for record in reader:
                begun = begun or any(cell.strip() for cell in record)  # blank lines above the header are nothing
                if begun:
                    yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            raise self._broken(error, line, begun=begun) from None
        except UnicodeDecodeError:
            raise DataError(
                f"{self.path} is not UTF-8 (Latin-1 or Windows-1252, perhaps) after line {line}: save it as CSV UTF-8"
            ) from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None

    def _broken(self, error: csv.Error, line: int, *, begun: bool) -> DataError:
        if "field limit" in str(error):
            long = f"a cell of more than {csv.field_size_limit()} characters: a quotation mark is not closed, perhaps"
            return DataError(f"{self.path}: line {line} has {long}")
        hint = "" if begun else self._other_separator(self._first_line())
        return DataError(
            f"{self.path}: line {line} has a quotation mark that is not closed, or text behind a closing one{hint}"
        )

    def _open(self) -> IO[Any]:
        return self.path.open(encoding="utf-8-sig", newline="")
