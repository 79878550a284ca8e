"""Data sets larger than memory, a chunk at a time."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from service.errors import DataError
from service.evaluation.frames import as_array
from service.evaluation.table import Table


@dataclass(frozen=True, slots=True)
class Chunks:
    """Which part of a file is read, and in pieces of which size.

    Attributes
    ----------
    rows : int
        Of a chunk; the last one may be shorter.
    first : int
        Row of the file that the first chunk begins with.
    numbers : tuple of str
        Columns that hold numbers; a CSV file does not say so itself.
    others : tuple of str
        Columns that are taken as they are. Of an .npz file every array is taken, whatever the columns.
    whole : tuple of str
        Those of ``numbers`` that hold 64-bit integers.
    """

    rows: int
    first: int
    numbers: tuple[str, ...]
    others: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """How one kind of file is read."""

    count: Callable[[Path], int]
    read: Callable[[Path, Chunks], Iterator[Table]]


def read_chunks(path: Path, chunks: Chunks) -> Iterator[Table]:
    """Columns by name, chunk after chunk, in the order of the file; only one chunk is in memory.

    Raises
    ------
    DataError
        If the file is no data set, or a column is not there.
    """
    source = _source(path)
    with _one_line(path):
        yield from source.read(path, chunks)


def count_rows(path: Path) -> int:
    """Rows of a data set; DataError as `read_chunks`."""
    source = _source(path)
    with _one_line(path):
        return source.count(path)


def _source(path: Path) -> Source:
    source = SOURCES.get(path.suffix.lower())
    if source is None:
        raise DataError(f"{path}: a data set is one of {', '.join(SOURCES)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return source


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, ValueError, zipfile.BadZipFile) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read: {first}") from None


def _read_csv(path: Path, chunks: Chunks) -> Iterator[Table]:
    floats = [name for name in chunks.numbers if name not in chunks.whole]
    frame = pl.scan_csv(path, infer_schema=False, schema_overrides=dict.fromkeys(floats, pl.Float64()))
    wanted = _chosen(frame, path, chunks).collect_schema().names()
    whole = frame.slice(chunks.first)  # every column: a row with too many cells is only seen where all are read
    try:
        for part in whole.collect_batches(chunk_size=chunks.rows, lazy=True, engine="streaming"):
            yield _table(part.select(wanted).with_columns(_integers(part[name]) for name in chunks.whole))
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError):
        _refuse_words(path, chunks)
        raise


def _integers(texts: pl.Series) -> pl.Series:
    for kind in (pl.Int64(), pl.UInt64()):
        found = texts.cast(kind, strict=False)
        if found.null_count() == texts.null_count():
            return found
    return texts.cast(pl.Float64())


def _refuse_words(path: Path, chunks: Chunks) -> None:
    """Say where a column of numbers holds a word; polars would say which word."""
    words = pl.scan_csv(path, infer_schema=False, truncate_ragged_lines=True).with_row_index("row")
    for name in chunks.numbers:
        odd = pl.col(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null()
        row = words.filter(odd).select("row").head(1).collect(engine="streaming")
        if len(row):
            raise DataError(
                f"{path}: column {name!r} is not numeric: text in row {row.item()} (rows count from 0); a missing "
                "value is an empty cell"
            )


def _read_parquet(path: Path, chunks: Chunks) -> Iterator[Table]:
    frame = _chosen(pl.scan_parquet(path), path, chunks)
    for start in range(chunks.first, count_rows(path), chunks.rows):
        yield _table(frame.slice(start, chunks.rows).collect())


def _chosen(frame: pl.LazyFrame, path: Path, chunks: Chunks) -> pl.LazyFrame:
    known = frame.collect_schema().names()
    missing = [name for name in (*chunks.numbers, *chunks.others) if name not in known]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}")
    return frame.select(*chunks.numbers, *chunks.others)


def _table(frame: pl.DataFrame) -> Table:
    return {name: as_array(frame[name]) for name in frame.columns}


def _count_frame(scan: Callable[[Path], pl.LazyFrame]) -> Callable[[Path], int]:
    def count(path: Path) -> int:
        found: int = scan(path).select(pl.len()).collect(engine="streaming").item()
        return found

    return count


def _read_npz(path: Path, chunks: Chunks) -> Iterator[Table]:
    with zipfile.ZipFile(path) as archive, contextlib.ExitStack() as stack:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        members = {name.removesuffix(".npy"): _Member(stack.enter_context(archive.open(name)), path) for name in names}
        rows = _common_rows(members, path)
        for member in members.values():
            member.skip(chunks.first)
        for start in range(chunks.first, rows, chunks.rows):
            count = min(chunks.rows, rows - start)
            yield {name: member.read(count) for name, member in members.items()}


def _count_npz(path: Path) -> int:
    with zipfile.ZipFile(path) as archive, contextlib.ExitStack() as stack:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        return _common_rows({name: _Member(stack.enter_context(archive.open(name)), path) for name in names}, path)


def _common_rows(members: dict[str, "_Member"], path: Path) -> int:
    lengths = {member.rows for member in members.values()}
    if len(lengths) != 1:
        raise DataError(f"{path}: its arrays must have one and the same number of rows, they have {sorted(lengths)}")
    return lengths.pop()


class _Member:
    """One array of an .npz file, read row by row from its compressed bytes."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        header = _HEADERS[np.lib.format.read_magic(file)]
        shape, column_major, self._dtype = header(file)
        if self._dtype.hasobject or column_major or not shape:
            raise DataError(f"{path}: its arrays must be plain, row-major and of rank 1 or more")
        self.rows, *rest = shape
        self._row = tuple(rest)
        self._bytes = self._dtype.itemsize * int(np.prod(rest, dtype=np.int64))
        self._file = file

    def skip(self, rows: int) -> None:
        self._file.seek(rows * self._bytes, 1)

    def read(self, rows: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._file.read(rows * self._bytes), self._dtype).reshape(rows, *self._row)


_HEADERS: Final[dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
SOURCES: Final[dict[str, Source]] = {
    ".npz": Source(_count_npz, _read_npz),
    ".csv": Source(_count_frame(lambda path: pl.scan_csv(path, infer_schema=False)), _read_csv),
    ".parquet": Source(_count_frame(pl.scan_parquet), _read_parquet),
}
