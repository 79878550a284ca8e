"""Parquet files, a block of rows at a time, by way of polars.

Tested in tests/data/test_sources.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from service.data.blocks import Block, end_of, named_once
from service.data.cells import LISTS, Cells, Text, Typed, Values
from service.errors import DataError

_BY_TEXT: Final = (pl.Decimal, pl.Int128, pl.UInt128)
"""NumPy has no such numbers; their text is exact."""
_WORDS: Final = (pl.String, pl.Categorical, pl.Enum)


class ParquetFile:
    """A table with types.

    Attributes
    ----------
    names : tuple of str
        Columns, without spaces around their names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _one_line(path):
            self._frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            self._columns = self._frame.collect_schema().names()
            self._rows: int = self._frame.select(pl.len()).collect().item()
        self.names = named_once([name.strip() for name in self._columns], path)

    def hint(self, missing: Sequence[str]) -> str:
        """Nothing is known of columns that are missing."""
        del missing
        return ""

    def count(self) -> int:
        """Its rows."""
        return self._rows

    def bound(self) -> int:
        """Its rows."""
        return self.count()

    def blocks(self, names: Sequence[str], *, rows: int, first: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows of a stretch; DataError for a damaged file."""
        own = [self._columns[self.names.index(name)] for name in names]
        chosen = self._frame.select(list(dict.fromkeys(own)))
        end = end_of(self._rows, stop)
        for start in range(first, end, rows):
            size = min(rows, end - start)
            with _one_line(self.path):
                part = chosen.slice(start, size).collect()
                columns = {name: _cells(part[column]) for name, column in zip(names, own, strict=True)}
            yield Block(self.path, start, size, columns)


def _cells(series: pl.Series) -> Cells:
    kind, base = series.dtype, series.dtype.base_type()
    if base in _BY_TEXT:
        return Text(series.cast(pl.String).fill_null("").to_list(), decimal=True)
    if base in _WORDS:
        return Typed(_objects(series.cast(pl.String)))
    if kind.is_numeric() or kind == pl.Boolean:
        missing = series.is_null().to_numpy()
        return Typed(series.fill_null(value=False if kind == pl.Boolean else 0).to_numpy(), missing)
    if kind == pl.Null:
        return Typed(np.zeros(len(series)), np.ones(len(series), dtype=np.bool_))
    return _opaque(series)


def _opaque(series: pl.Series) -> Typed:
    """What is neither number nor text: lists for tensors, times for ids."""
    base = series.dtype.base_type()
    if base in (pl.List, pl.Array):
        return Typed(series.to_numpy(), opaque=LISTS)
    title = f"{str(base).lower()} values"
    if base in (pl.Date, pl.Time, pl.Datetime):
        return Typed(_objects(series.cast(pl.String)), opaque=title)
    return Typed(np.zeros(len(series)), opaque=title)


def _objects(series: pl.Series) -> Values:
    values = np.empty(len(series), dtype=object)
    values[:] = series.to_list()
    return values


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, ValueError):
        raise DataError(f"{path} cannot be read: it is damaged, or no Parquet file") from None
