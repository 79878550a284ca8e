"""Columns and arrays of a file as rows that a model takes."""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Manifest
from service.core.numerics import Array, Flags, Indices
from service.errors import DataError
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.rows import Entry, Fields, Rows, Values, stretched
from service.runtime.whole import Whole, gathered, rows_with

Table = dict[str, npt.NDArray[Any]]
PADDED_LABEL = -1
_PLAIN: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def rows_of(
    table: Table,
    manifest: Manifest,
    path: Path,
    *,
    inputs: Inputs | None = None,
    label: str | None = None,
    first: int = 0,
) -> Rows:
    """Rows in manifest order, from columns by name or from the arrays of an .npz file.

    Parameters
    ----------
    table : dict of str to ndarray
    manifest : Manifest
    path : Path
        Where the table comes from: what a name in it means, and what to call it in an error.
    inputs : Inputs, optional
        What the graph takes; without it, columns of numbers.
    label : str, optional
        Labels of every position, -1 where a row has ended, say how long rows are.
    first : int
        Place of the first row in the file.

    Raises
    ------
    DataError
        Naming the file, the column and the first row at fault.
    """
    if isinstance(inputs, FieldInputs):
        return _fields(table, manifest, inputs, path, label=label, first=first)
    if path.suffix.lower() == ".npz":
        table = _split_arrays(table, manifest, path)
    _refuse_absent(table, manifest.columns, path)
    rows, whole = _numbers(table, manifest.columns, inputs, path, first)
    _refuse_missing(rows, manifest.columns, manifest, path, first)
    return rows_with(rows, whole)


def _numbers(
    table: Table, names: tuple[str, ...], inputs: Inputs | None, path: Path, first: int
) -> tuple[Array, Whole]:
    """Columns of numbers; whole numbers stay whole where the graph takes 64-bit integers."""
    flags, wide = (frozenset(), ()) if inputs is None else (_flags(inputs), inputs.wide)
    columns: Table = {c: numbers(table[c], c, path, flag=c in flags, first=first) for c in names}
    for one in wide:
        if table[one.name].dtype.kind in "iuO":
            columns[one.name] = table[one.name]
    return gathered(columns, wide, every=True) if columns else (np.empty((0, 0)), {})


def numbers(column: npt.NDArray[Any], name: str, path: Path, *, flag: bool = False, first: int = 0) -> Array:
    """A column as doubles, NaN where a value is missing; true and false where ``flag`` says that it takes them."""
    if column.dtype.kind == "O":  # polars gives a column with nulls in this form when it cannot be numeric
        column = np.array([np.nan if value is None else value for value in column])
    if column.dtype.kind not in ("fiub" if flag else "fiu"):
        raise DataError(f"{path}: column {name!r} is not numeric{_first_word(column, first)}")
    doubles = column.astype(np.float64)
    if np.isinf(doubles).any():
        raise DataError(f"{path}: infinity in row {first + int(np.isinf(doubles).argmax())}, column {name!r}")
    return doubles


def _first_word(column: npt.NDArray[Any], first: int) -> str:
    """Where a column that should be numeric holds something else, and how a gap is written."""
    for i, cell in enumerate(column.tolist()):
        if isinstance(cell, str) and not _PLAIN.fullmatch(cell.strip()):
            return f": text in row {first + i} (rows count from 0); a missing value is an empty cell"
    return ""


def _flags(inputs: Inputs) -> frozenset[str]:
    return frozenset(cell for entry in inputs.entries if entry.dtype.kind == "b" for cell in entry.cells)


def _refuse_absent(table: Table, names: tuple[str, ...], path: Path) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{path} has no column {missing[0]!r}{more}; the model takes {len(names)} features")
    lengths = {len(table[name]) for name in names}
    if lengths == {0}:
        raise DataError(f"{path} has no rows")
    if len(lengths) > 1:
        raise DataError(f"{path}: the graph's inputs have different numbers of rows: {sorted(lengths)}")


def _split_arrays(table: Table, manifest: Manifest, path: Path) -> Table:
    if "X" in table and "X" not in [entry.name for entry in manifest.inputs]:
        return _columns_of(table["X"], manifest.columns, "X", path)
    split: Table = {}
    for entry in manifest.inputs:
        if entry.name not in table:
            raise DataError(f"{path} has neither an array 'X' nor one named after the graph input {entry.name!r}")
        split |= _columns_of(table[entry.name], entry.columns, entry.name, path)
    return split


def _columns_of(array: npt.NDArray[Any], names: tuple[str, ...], title: str, path: Path) -> Table:
    if array.ndim == 1 and len(names) == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != len(names):
        shape = " by ".join(map(str, array.shape)) or "a single value"
        raise DataError(f"{path}: array {title!r} is {shape}; the model takes rows of {len(names)} features")
    return {name: array[:, i] for i, name in enumerate(names)}


def _refuse_missing(rows: Array, columns: tuple[str, ...], manifest: Manifest, path: Path, first: int) -> None:
    for i, name in enumerate(columns):
        gaps = np.isnan(rows[:, i])
        feature = manifest.features.get(name)
        if gaps.any() and (feature is None or feature.missing == "reject"):
            raise DataError(
                f"{path}: NaN in row {first + int(gaps.argmax())}, column {name!r} (rows count from 0); the manifest "
                "can declare what a missing value means"
            )


def _fields(
    table: Table, manifest: Manifest, inputs: FieldInputs, path: Path, *, label: str | None, first: int
) -> Fields:
    names = tuple(cell for entry in inputs.entries for cell in entry.cells)
    archive = path.suffix.lower() == ".npz"
    cells = _split_fields(table, inputs, path) if archive else {name: table[name] for name in names if name in table}
    _refuse_absent(cells, names, path)
    rows = len(cells[names[0]])
    found, whole = _numbers(cells, inputs.columns, inputs, path, first)
    table_of_numbers = found if inputs.columns else np.empty((rows, 0))
    _refuse_missing(table_of_numbers, inputs.columns, manifest, path, first)
    others = whole | {c: _text(cells[c], c, path) for entry in inputs.entries if entry.is_text for c in entry.cells}
    lengths: Indices | None = None
    for entry in inputs.tensors:
        others[entry.name], sizes = _tensor(cells[entry.name], entry, path)
        lengths = sizes if entry.pad is not None and sizes is not None else lengths
    if inputs.varying is not None and lengths is None:
        lengths = _lengths(table, inputs, others[inputs.varying.name], path, label)
    return Fields(table_of_numbers, others, lengths)


def _split_fields(table: Table, inputs: FieldInputs, path: Path) -> Table:
    entries = inputs.entries
    if len(entries) == 1 and "X" in table and entries[0].name not in table:
        table = {entries[0].name: table["X"]}
    split: Table = {}
    for entry in entries:
        if entry.name not in table:
            raise DataError(f"{path} has no array named after the graph input {entry.name!r}")
        array = table[entry.name]
        split |= {entry.name: array} if entry.shape else _columns_of(array, entry.cells, entry.name, path)
    return split


def _text(column: npt.NDArray[Any], name: str, path: Path) -> Values:
    cells = column.tolist()
    if not all(cell is None or isinstance(cell, str) for cell in cells):
        raise DataError(f"{path}: column {name!r} is not text")
    texts = np.empty(len(cells), dtype=object)
    texts[:] = cells
    return texts


def _tensor(column: npt.NDArray[Any], entry: Entry, path: Path) -> tuple[Values, Indices | None]:
    """A tensor, and the lengths of its rows where they are lists."""
    if column.dtype.kind == "O":
        return _ragged(column, entry, path)
    if column.ndim != len(entry.shape) + 1 or column.dtype.kind not in "fiub":
        raise DataError(f"{path}: {entry.name!r} is not an array of numbers of rank {len(entry.shape) + 1}")
    return column, None


def _ragged(column: npt.NDArray[Any], entry: Entry, path: Path) -> tuple[Values, Indices]:
    rows = [np.asarray(cell) for cell in column.tolist()]
    sizes = np.array([row.size for row in rows], dtype=np.intp)
    for i, row in enumerate(rows):
        if len(entry.shape) != 1 or row.ndim != 1 or row.dtype.kind not in "fiub" or not row.size:
            raise DataError(f"{path}: row {i} of {entry.name!r} is no list of numbers (rows count from 0)")
    if entry.pad is None and len(set(sizes.tolist())) > 1:
        raise DataError(f"{path}: the rows of {entry.name!r} differ in length, and the manifest declares no pad")
    longest = int(sizes.max())
    return np.concatenate([stretched(row[None], longest) for row in rows]), sizes


def _lengths(table: Table, inputs: FieldInputs, values: Values, path: Path, label: str | None) -> Indices:
    rows, width = values.shape[:2]
    if "lengths" in table:
        return _said_lengths(table["lengths"], rows, width, path)
    sources = {mask.name: table[mask.name] == 1 for mask in inputs.masks if mask.name in table}
    if label is not None and label in table and table[label].ndim == 2:
        sources[label] = table[label] != PADDED_LABEL
    if sources:
        name, real = next(iter(sources.items()))
        return _counted(real, name, rows, width, path)
    if inputs.varying is not None and (values[:, -1] == inputs.varying.pad).reshape(rows, -1).all(axis=1).any():
        raise DataError(f"{path}: rows end in the padding value; say how long each row is in an array 'lengths'")
    return np.full(rows, width, dtype=np.intp)


def _said_lengths(lengths: npt.NDArray[Any], rows: int, width: int, path: Path) -> Indices:
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise DataError(f"{path}: 'lengths' is not one whole number for each of {rows} rows")
    outside = (lengths < 1) | (lengths > width)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(f"{path}: 'lengths' does not lie in 1 to {width} in row {row} (rows count from 0)")
    return lengths.astype(np.intp)


def _counted(real: Flags, name: str, rows: int, width: int, path: Path) -> Indices:
    if real.shape != (rows, width):
        raise DataError(f"{path}: {name!r} is not {rows} by {width}, as the rows are")
    lengths: Indices = real.sum(axis=1)
    if (lengths == 0).any() or (real != (np.arange(width) < lengths[:, None])).any():
        raise DataError(f"{path}: {name!r} says that a row is empty or has padding before its end")
    return lengths
