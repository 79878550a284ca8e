"""CSV and Parquet files as columns, by way of polars."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from service.errors import DataError
from service.evaluation.table import Table


def read_csv(path: Path, texts: frozenset[str]) -> Table:
    """Columns by name; those in ``texts`` are strings, also where there are only digits.

    Raises
    ------
    DataError
    """

    def read() -> pl.DataFrame:
        known = set(pl.read_csv(path, n_rows=0).columns) if texts else set()
        return pl.read_csv(path, infer_schema_length=None, schema_overrides=dict.fromkeys(known & texts, pl.String))

    return _columns(path, read)


def read_parquet(path: Path) -> Table:
    """Columns by name; DataError if it is no such file."""
    return _columns(path, lambda: pl.read_parquet(path))


def _columns(path: Path, read: Callable[[], pl.DataFrame]) -> Table:
    try:
        frame = read()
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be read: {first}") from None
    return {name: as_array(frame[name]) for name in frame.columns}


def as_array(series: pl.Series) -> npt.NDArray[Any]:
    """A column; whole numbers with gaps, or of 128 bits, as objects: NumPy would make doubles of them."""
    if not series.dtype.is_integer() or (not series.null_count() and series.dtype not in (pl.Int128, pl.UInt128)):
        return series.to_numpy()
    values = np.empty(len(series), dtype=object)
    values[:] = series.to_list()
    return values
