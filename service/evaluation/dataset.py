"""Labelled rows from CSV, Parquet and NPZ files, checked against what the model expects."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Manifest
from service.bundle.record import read_archive
from service.core.numerics import Array, Indices
from service.errors import DataError
from service.evaluation.padding import refuse_undeclared
from service.evaluation.table import PADDED_LABEL, Table, numbers, rows_of
from service.evaluation.truth import presence_columns, read_labels, read_positions, read_presences
from service.runtime.inputs import Inputs
from service.runtime.rows import Fields, Rows

LARGEST_WEIGHT: Final = 1e100
RESERVED: Final = ("y", "group", "weight")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where labels, groups and weights are found.

    Attributes
    ----------
    label, group, weight : str or None
        None means the reserved names `y`, `group` and `weight`, where the model has no feature called so; a group or
        weight that is named must be there.
    """

    label: str | None = None
    group: str | None = None
    weight: str | None = None


DEFAULT_COLUMNS = Columns()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows a model can judge.

    Attributes
    ----------
    rows : ndarray of shape (N, F), or Fields
        In manifest order, NaN where a value is missing.
    labels : ndarray of shape (N,)
        Class indices. Of labels, presences of shape (N, M); of sequences class indices of shape (N, L), -1 behind
        the end.
    groups : ndarray of shape (N,) or None
        0..G-1; rows of a group (a patient) are never parted.
    weights : ndarray of shape (N,) or None
    digest : str
        ``sha256:…`` of the file.
    """

    rows: Rows
    labels: Indices
    groups: Indices | None
    weights: Array | None
    digest: str

    @property
    def units(self) -> int:
        """How many rows or, if there are groups, groups: what folds and halves are drawn from."""
        return len(self) if self.groups is None else int(self.groups.max()) + 1

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def numbers(self) -> Array:
        """The columns of numbers among the inputs, shape (N, F)."""
        return self.rows.numbers if isinstance(self.rows, Fields) else self.rows


def read_dataset(
    path: Path, manifest: Manifest, columns: Columns = DEFAULT_COLUMNS, *, inputs: Inputs | None = None
) -> Dataset:
    """Read a file of labelled rows.

    An ``.npz`` file has one array per graph input under its own name, or all columns, or the only tensor, as ``X``;
    strings are fixed-width (``U``) arrays. The others have a column per feature; in Parquet a tensor of rank 1 may be
    a column of lists. Rows that vary in length are padded at their end, with anything. How long each is says an array
    ``lengths``, or that of a mask under its own name, or the labels of a sequence model, of which -1 is padding;
    without any of these no row may end in the padding value.

    Parameters
    ----------
    path : Path
        ``.npz``, ``.csv`` or ``.parquet``.
    manifest : Manifest
    columns : Columns
    inputs : Inputs, optional
        What the graph takes; without it, columns of numbers.

    Raises
    ------
    DataError
        One line that names the file, the column and the first row at fault.
    """
    label = columns.label or "y"
    table = read_table(path, texts=_text_columns(inputs))
    rows = rows_of(table, manifest, path, inputs=inputs, label=label)
    labels = _TRUTHS[manifest.graph.task](table, columns, manifest, path)
    _refuse_padding(rows, labels, table, inputs, path)
    if len(labels) != len(rows):
        raise DataError(f"{path} has {len(rows)} rows and {len(labels)} labels")
    table = {name: column for name, column in table.items() if name not in RESERVED or name not in manifest.columns}
    groups = _optional(table, columns.group, "group", path, rows=len(rows))
    weights = _optional(table, columns.weight, "weight", path, rows=len(rows))
    return Dataset(
        rows,
        labels,
        None if groups is None else _groups(groups, path),
        None if weights is None else _weights(weights, path),
        _digest(path),
    )


def _refuse_padding(rows: Rows, labels: Indices, table: Table, inputs: Inputs | None, path: Path) -> None:
    taken = () if inputs is None else tuple(cell for entry in inputs.entries for cell in entry.cells)
    ends = table.get("lengths") if "lengths" not in taken else None
    if ends is not None and ends.shape == (len(rows),) and ends.dtype.kind in "iu":
        refuse_undeclared(rows, inputs, ends.astype(np.intp), where=str(path), said="'lengths' says that they are over")
    elif labels.ndim == 2:
        said = f"their labels end in {PADDED_LABEL}"
        refuse_undeclared(rows, inputs, (labels != PADDED_LABEL).sum(axis=1), where=str(path), said=said)


def _label_column(table: Table, columns: Columns, manifest: Manifest, path: Path) -> tuple[npt.NDArray[Any], str]:
    label = columns.label or "y"
    if columns.label is None and label in manifest.columns:
        raise DataError(f"{path}: {label!r} is a feature of the model; name the column of the labels with --label")
    if label not in table:
        raise DataError(f"{path} has no column {label!r} for the labels; name it with --label")
    return table[label], f"{path}, column {label!r}"


def _true_classes(table: Table, columns: Columns, manifest: Manifest, path: Path) -> Indices:
    column, where = _label_column(table, columns, manifest, path)
    if column.ndim != 1:
        raise DataError(f"{path}: the labels in {columns.label or 'y'!r} are not one column")
    return read_labels(column.tolist(), manifest.graph.classes, where=where)


def _true_presences(table: Table, columns: Columns, manifest: Manifest, path: Path) -> Indices:
    labels = manifest.graph.classes
    own = presence_columns(table, labels, manifest.columns) if columns.label is None else None
    values, where = _label_column(table, columns, manifest, path) if own is None else (own, str(path))
    return read_presences(values, labels, where=where)


def _true_positions(table: Table, columns: Columns, manifest: Manifest, path: Path) -> Indices:
    values, where = _label_column(table, columns, manifest, path)
    return read_positions(values, manifest.graph.classes, where=where)


def read_rows(path: Path, manifest: Manifest, *, inputs: Inputs | None = None) -> Rows:
    """Rows without labels; DataError as `read_dataset`."""
    return rows_of(read_table(path, texts=_text_columns(inputs)), manifest, path, inputs=inputs)


def read_table(path: Path, *, texts: frozenset[str] = frozenset()) -> Table:
    """Columns of a file by name; those in ``texts`` are strings, also where a CSV file has only digits."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a data set is one of {', '.join(_READERS)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return reader(path, texts)


def _text_columns(inputs: Inputs | None) -> frozenset[str]:
    entries = () if inputs is None else inputs.entries
    return frozenset(cell for entry in entries if entry.is_text for cell in entry.cells)


def _optional(table: Table, named: str | None, reserved: str, path: Path, *, rows: int) -> npt.NDArray[Any] | None:
    if named is not None and named not in table:
        raise DataError(f"{path} has no column {named!r} for --{reserved}")
    column = table.get(named or reserved)
    if column is not None and column.shape != (rows,):
        raise DataError(f"{path}: {named or reserved!r} is not one column of {rows} rows")
    return column


def _groups(column: npt.NDArray[Any], path: Path) -> Indices:
    missing = np.array([value is None or value != value for value in column.tolist()])  # noqa: PLR0124  # NaN alone
    if missing.any():
        raise DataError(f"{path}: the group is missing in row {int(missing.argmax())} (rows count from 0)")
    return np.unique(column, return_inverse=True)[1].astype(np.intp)


def _weights(column: npt.NDArray[Any], path: Path) -> Array:
    weights = numbers(column, "weight", path)
    if not (weights >= 0.0).all() or weights.max() == 0.0:
        raise DataError(f"{path}: weights must be non-negative and not all zero")
    if weights.max() > LARGEST_WEIGHT:
        raise DataError(f"{path}: weights above {LARGEST_WEIGHT:g} cannot be summed safely; only their ratios matter")
    return weights


def _read_npz(path: Path, texts: frozenset[str]) -> Table:
    del texts
    try:
        with path.open("rb") as file:
            return read_archive(file)
    except ValueError:
        raise DataError(f"{path} is not an archive of plain arrays; objects are never unpickled") from None


def _read_csv(path: Path, texts: frozenset[str]) -> Table:
    from service.evaluation import frames  # noqa: PLC0415  # polars costs a server 0.2 s and 23 MB, and reads nothing

    return frames.read_csv(path, texts)


def _read_parquet(path: Path, texts: frozenset[str]) -> Table:
    from service.evaluation import frames  # noqa: PLC0415  # as above

    del texts
    return frames.read_parquet(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


_READERS: Final[dict[str, Callable[[Path, frozenset[str]], Table]]] = {
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
_TRUTHS: Final[dict[str, Callable[[Table, Columns, Manifest, Path], Indices]]] = {
    "multiclass": _true_classes,
    "multilabel": _true_presences,
    "sequence": _true_positions,
}
