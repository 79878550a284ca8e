"""Columns and arrays of a file as rows that a model takes: one reader for every verb and format."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.sections import Feature, Impute
from service.core.numerics import Array
from service.data import cells
from service.data.blocks import Block, Places
from service.data.cells import Cells, Faults, Typed, Values
from service.data.column_roles import ColumnToRead, Selection, columns_to_read
from service.data.formats import parts_of
from service.data.sources import open_source
from service.data.tensor_columns import lengths_of, tensor
from service.errors import DataError
from service.runtime.fields import FieldInputs
from service.runtime.integers import Whole, gathered, rows_with
from service.runtime.rows import Fields, Rows, join

Converted = TypeVar("Converted")

CHUNK_ROWS: Final = 65_536
MISSING: Final = "has no value; the manifest can declare what a missing value means"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a data set.

    Attributes
    ----------
    first : int
        Place of the first row among all that are read.
    rows : ndarray of shape (N, F), or Fields
        In manifest order, with columns of 64-bit integers as integers.
    columns : dict of str to ndarray
        Labels, groups, weights, ids by role. Multilabel with a column for every label: shape (N, M).
    faults : list of (int, str)
        Rows that cannot be used, from the first of the chunk, with the column and the reason.
    places : Places
        Places of the rows in their files.
    path : Path
        The file.
    untyped : bool
        Whether labels come from a file that knows no types.
    """

    first: int
    rows: Rows
    columns: dict[str, Values]
    faults: Faults
    places: Places
    path: Path
    untyped: bool

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Place of a row in its file, in words."""
        return self.places.name(row)

    def refuse_faults(self) -> None:
        """Raise DataError for the first row at fault, if there is any."""
        if self.faults:
            row, detail = min(self.faults, key=lambda fault: fault[0])
            more = len({other for other, _ in self.faults}) - 1
            also = f" (and {more} more row{'s' if more > 1 else ''} nearby)" if more else ""
            raise DataError(f"{self.places.where(row)}{detail}{also}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of one file that follow each other.

    Attributes
    ----------
    part : int
        Place of the file among those of its data set.
    path : Path
    start : int
        The first row, from 0.
    stop : int or None
        The row behind the last; None: to the end of the file, wherever that is.
    several : bool
        Whether the data set has several files, so that a row's own must be named.
    """

    part: int
    path: Path
    start: int = 0
    stop: int | None = None
    several: bool = False


def read_chunks(path: Path, manifest: Manifest, selection: Selection, *, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a data set for a model, a chunk at a time; only one is in memory.

    Parameters
    ----------
    path : Path
        ``.csv``, ``.parquet`` or ``.npz``; or a directory of parts, all ``.csv`` or all ``.parquet``.
    manifest : Manifest
    selection : Selection
        What is read beside the features.
    rows : int
        Of a chunk, at most; chunks never reach across files.

    Raises
    ------
    DataError
        If the file is no data set or lacks a column; rows at fault are in the chunks.
    """
    parts, done = parts_of(path), 0
    check_columns(parts, manifest, selection)
    for place, part in enumerate(parts):
        earlier = done
        for chunk in read_stretch(Stretch(place, part, several=len(parts) > 1), manifest, selection, rows=rows):
            yield replace(chunk, first=earlier + chunk.first)
            done += len(chunk)


def read_stretch(
    stretch: Stretch, manifest: Manifest, selection: Selection, *, rows: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """Read some rows of one file, a chunk at a time, as `read_chunks`; the first row of the file is row 0."""
    source = open_source(stretch.path)
    found = columns_to_read(source, stretch.path, manifest, selection)
    blocks = source.blocks(_arrays(found), rows=rows, first=stretch.start, stop=stretch.stop)
    done = stretch.start
    for chunk in _chunks(blocks, found, manifest, selection, rows):
        yield replace(chunk, first=done, places=replace(chunk.places, several=stretch.several))
        done += len(chunk)


def ended(stretch: Stretch) -> Stretch:
    """The same with its end, where the file states how many rows it has; a CSV file must be read to know it."""
    if stretch.stop is not None or stretch.path.suffix.lower() == ".csv":
        return stretch
    return replace(stretch, stop=open_source(stretch.path).count())


def check_columns(parts: Sequence[Path], manifest: Manifest, selection: Selection) -> None:
    """Raise DataError where a file lacks a column, or has not those of the files before it; no row is read."""
    earlier = None
    for part in parts:
        keys = [(one.role, one.name) for one in columns_to_read(open_source(part), part, manifest, selection)]
        if earlier is not None and keys != earlier:
            raise DataError(f"{part} does not have the same columns as the parts before it")
        earlier = keys


def join_chunks(chunks: Sequence[Chunk], path: Path) -> Chunk:
    """Chunks in a row as one."""
    first = chunks[0]
    places = tuple(
        (start + chunk.first - first.first, *rest) for chunk in chunks for start, *rest in chunk.places.blocks
    )
    return Chunk(
        first.first,
        join([chunk.rows for chunk in chunks]),
        {role: _stacked([chunk.columns[role] for chunk in chunks]) for role in first.columns},
        [(row + chunk.first - first.first, detail) for chunk in chunks for row, detail in chunk.faults],
        replace(first.places, blocks=places),  # type: ignore[arg-type]  # mypy loses the shape of the tuples
        path,
        first.untyped,
    )


def _stacked(parts: list[Values]) -> Values:
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    fill = -1 if parts[0].dtype.kind in "iuf" else ""
    return np.concatenate([np.pad(p, ((0, 0), (0, longest - p.shape[1])), constant_values=fill) for p in parts])


def _chunks(
    blocks: Iterator[Block], found: tuple[ColumnToRead, ...], manifest: Manifest, selection: Selection, rows: int
) -> Iterator[Chunk]:
    """Blocks of a file converted, small ones put together up to a number of rows."""
    waiting: list[Chunk] = []
    for block in blocks:
        if waiting and sum(map(len, waiting)) + block.rows > rows:
            yield join_chunks(waiting, block.path)
            waiting = []
        waiting.append(_Conversion(block, found, manifest, selection).chunk(sum(map(len, waiting))))
    if waiting:
        yield join_chunks(waiting, waiting[0].path)


def _arrays(found: tuple[ColumnToRead, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.array for one in found))


class _Conversion:
    """One block made rows of a model."""

    def __init__(self, block: Block, found: tuple[ColumnToRead, ...], manifest: Manifest, selection: Selection) -> None:
        self.block, self.found, self.manifest, self.inputs = block, found, manifest, selection.inputs
        self.faults: Faults = [(row, f" {detail}") for row, detail in block.faults]
        self._broken = {row for row, _ in block.faults}
        self._width: dict[str, int] = {}
        for one in found:
            if one.place is not None:
                self._width[one.array] = max(self._width.get(one.array, 0), one.place + 1)

    def chunk(self, first: int) -> Chunk:
        rows = self._rows()
        columns = self._columns()
        places = Places(((0, self.block.path, self.block.first, self.block.lines),))
        untyped = any(
            not isinstance(raw := self.block.columns[one.array], Typed) and not raw.decimal
            for one in self.found
            if one.role == "label"
        )
        return Chunk(first, rows, columns, self.faults, places, self.block.path, untyped)

    def _rows(self) -> Rows:
        numbers, whole = self._numbers()
        if not isinstance(self.inputs, FieldInputs):
            return rows_with(numbers, whole)
        others = whole | {
            one.name: self._text(one) for one in self.found if one.role == "feature" and one.kind == "text"
        }
        sizes = None
        for entry in self.inputs.tensors:
            (one,) = (one for one in self.found if one.role == "tensor" and one.name == entry.name)
            others[entry.name], lengths, faults = tensor(self._raw(one), entry, self.block.path)
            self._note(one, faults)
            sizes = lengths if entry.pad is not None and lengths is not None else sizes
        if self.inputs.varying is not None and sizes is None:
            helpers = {one.role: self._raw(one) for one in self.found if one.role in ("lengths", "label")}
            helpers |= {one.name: self._raw(one) for one in self.found if one.role == "mask"}
            sizes = lengths_of(others[self.inputs.varying.name], self.inputs, helpers, self.block)
        return Fields(numbers, others, sizes)

    def _text(self, one: ColumnToRead) -> Values:
        values = self._converted(one)
        if _substitute(self.manifest, one.name) is None:
            self._note(one, [(row, MISSING) for row, cell in enumerate(values.tolist()) if cell is None])
        return values

    def _numbers(self) -> tuple[Array, Whole]:
        """Columns of numbers, and the whole numbers among them that doubles may not hold."""
        numeric = [one for one in self.found if one.role == "feature" and one.kind in ("number", "integer", "unsigned")]
        if not numeric:
            return np.empty((self.block.rows, 0)), {}
        columns = {one.name: self._floats(one) if one.kind == "number" else self._integers(one) for one in numeric}
        return gathered(columns, () if self.inputs is None else self.inputs.wide, every=True)

    def _floats(self, one: ColumnToRead) -> Values:
        values = self._converted(one)
        feature = self.manifest.features.get(one.name, Feature())
        if feature.missing == "reject":
            known = {row for row, detail in self.faults if detail.startswith(f", column {one.name!r} ")}
            gaps = [row for row in np.flatnonzero(np.isnan(values)).tolist() if row not in known]
            self._note(one, [(row, MISSING) for row in gaps])
        return values

    def _integers(self, one: ColumnToRead) -> Values:
        """Whole numbers; objects where one is missing, because its substitute may be beyond the range of doubles."""
        values, gaps, faults = self._typed(one, lambda raw: cells.integers(raw, unsigned=one.kind == "unsigned"))
        self._note(one, faults)
        if not gaps.any():
            return values
        if _substitute(self.manifest, one.name) is None:
            self._note(one, [(row, MISSING) for row in np.flatnonzero(gaps).tolist()])
        found = values.astype(object)
        found[gaps] = None
        return found

    def _columns(self) -> dict[str, Values]:
        columns = {
            one.role: self._converted(one) for one in self.found if one.role in ("label", "group", "weight", "id")
        }
        columns |= {one.role: raw.values for one in self.found if isinstance(raw := self._lengths(one), Typed)}
        states = [self._converted(one) for one in self.found if one.role == "state"]
        return columns | ({"state": np.column_stack(states)} if states else {})

    def _lengths(self, one: ColumnToRead) -> Cells | None:
        return self.block.columns[one.array] if one.role == "lengths" else None

    def _converted(self, one: ColumnToRead) -> Values:
        values, faults = self._typed(one, cells.CONVERTERS[one.kind])
        self._note(one, faults)
        return values

    def _typed(self, one: ColumnToRead, convert: Callable[[Cells], Converted]) -> Converted:
        try:
            return convert(self._raw(one))
        except cells.WrongColumn as error:
            raise DataError(f"{self.block.path}: column {one.name!r} {error}") from None

    def _raw(self, one: ColumnToRead) -> Cells:
        raw = self.block.columns[one.array]
        if not isinstance(raw, Typed) or one.place is None:
            self._check_rank(one, raw)
            return raw
        values, width = raw.values, self._width[one.array]
        if values.ndim == 1 and width == 1:
            return raw
        if values.ndim != 2 or values.shape[1] != width:
            shape = f"rows of {' by '.join(map(str, values.shape[1:]))}" if values.ndim > 1 else "single values"
            raise DataError(
                f"{self.block.path}: array {one.array!r} has {shape}; the model takes rows of {width} features"
            )
        return Typed(values[:, one.place], None, raw.opaque)

    def _check_rank(self, one: ColumnToRead, raw: Cells) -> None:
        single = one.role in ("feature", "group", "weight", "id", "state")
        if single and isinstance(raw, Typed) and raw.values.ndim != 1:
            raise DataError(f"{self.block.path}: {one.array!r} is not one column")

    def _note(self, one: ColumnToRead, faults: Faults) -> None:
        self.faults += [(r, f", column {one.name!r} {detail}") for r, detail in faults if r not in self._broken]


def _substitute(manifest: Manifest, name: str) -> int | float | str | None:
    feature = manifest.features.get(name, Feature())
    return feature.missing.impute if isinstance(feature.missing, Impute) else None
