"""Rows of a file in blocks, whatever its format: columns as the file has them, and the place of every row.

Tested in tests/data/test_reader.py.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from service.core.numerics import Flags
from service.data.cells import Cells, Faults
from service.errors import DataError
from service.runtime.rows import counted_from_zero

MOST_CELLS = 1 << 14
"""Cells of text in memory at a time: what a processor's cache holds, or reading takes twice as long."""
FEWEST_ROWS = 16  # of a block, however wide: each of its columns has a cost of its own


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of one file.

    Attributes
    ----------
    path : Path
    first : int
        Place of the first row in the file, from 0.
    rows : int
    columns : dict of str to Text or Typed
    faults : list of (int, str)
        Rows of the block that are no rows at all; their cells are empty.
    lines : tuple of int or None
        The line that every row begins on, from 1; None in a file without lines.
    """

    path: Path
    first: int
    rows: int
    columns: dict[str, Cells]
    faults: Faults = field(default_factory=list)
    lines: tuple[int, ...] | None = None


class Source(Protocol):
    """A file of rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns, or arrays."""

    def count(self) -> int:
        """Its rows."""

    def bound(self) -> int:
        """An upper bound of its rows, at little cost."""

    def blocks(self, names: Sequence[str], *, rows: int, first: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows of some columns, in order, from row ``first`` on, before row ``stop``."""

    def hint(self, missing: Sequence[str]) -> str:
        """A likely reason why columns are missing; empty where none is known."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places of rows in their files, by their number among all rows that were read.

    Attributes
    ----------
    blocks : tuple of (int, Path, int, tuple of int or None)
        Of every block its first row among all, its file, its first row in the file, and its lines.
    several : bool
        Whether there are several files, so that a row's own must be named.
    kept : tuple of int or None
        Rows that remain of those; None: all.
    """

    blocks: tuple[tuple[int, Path, int, tuple[int, ...] | None], ...]
    several: bool = False
    kept: tuple[int, ...] | None = None

    def name(self, row: int) -> str:
        """A row as people find it: by the line of the file, or counted from 0 where there are no lines."""
        row = row if self.kept is None else self.kept[row]
        start, path, first, lines = self.blocks[bisect_right(self.blocks, row, key=lambda block: block[0]) - 1]
        place = counted_from_zero(first + row - start) if lines is None else f"line {lines[row - start]}"
        return f"{path.name}, {place}" if self.several else place

    @property
    def lines(self) -> tuple[int, ...] | None:
        """The line of every row of one file; None in a file without lines."""
        found = [lines for _, _, _, lines in self.blocks if lines is not None]
        return tuple(line for lines in found for line in lines) if found else None

    def where(self, row: int) -> str:
        """The same with the file's path."""
        own = row if self.kept is None else self.kept[row]
        path = self.blocks[bisect_right(self.blocks, own, key=lambda block: block[0]) - 1][1]
        return f"{path}: {replace(self, several=False).name(row)}"

    def part(self, kept: Flags) -> "Places":
        """Places of some of the rows."""
        own = range(len(kept)) if self.kept is None else self.kept
        return replace(self, kept=tuple(row for row, stays in zip(own, kept.tolist(), strict=True) if stays))


def end_of(rows: int, stop: int | None) -> int:
    """Where a stretch of a file ends: before ``stop``, or with the file."""
    return rows if stop is None else min(rows, stop)


def named_once(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Names of columns; DataError where one that is not empty is there twice."""
    first: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name and name in first:
            raise DataError(f"{path}: column {name!r} appears twice (columns {first[name]} and {place}); remove one")
        first.setdefault(name, place)
    return tuple(names)
