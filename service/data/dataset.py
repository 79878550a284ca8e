"""Labelled rows from CSV, Parquet and NPZ files, checked against what the model expects."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Manifest
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Flags, Indices
from service.data.blocks import Places
from service.data.column_roles import DEFAULT_COLUMNS, Columns, Selection, reserved
from service.data.formats import digest_of
from service.data.labels import LabelRules, Reading, interpret, read_positions, read_presences
from service.data.reader import Chunk, join_chunks, read_chunks
from service.data.undeclared_padding import refuse_undeclared
from service.errors import DataError
from service.runtime.inputs import Inputs
from service.runtime.rows import Fields, Rows, counted_from_zero


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled rows of a model.

    Attributes
    ----------
    rows : ndarray of shape (N, F), or Fields
        In manifest order, NaN where a value is missing.
    labels : ndarray of shape (N,)
        Class indices. Multilabel: 0 or 1, shape (N, M). Sequence: class indices of shape (N, L), -1 behind the end.
    groups : ndarray of shape (N,) or None
        0..G-1; rows of a group (a patient) are never split.
    weights : ndarray of shape (N,) or None
    digest : str
        ``sha256:…`` of the file, or of a directory's parts.
    notes : tuple of str
        Decisions made in reading the file, in words.
    places : Places or None
        Places of the rows in the file.
    """

    rows: Rows
    labels: Indices
    groups: Indices | None
    weights: Array | None
    digest: str
    notes: tuple[str, ...] = ()
    places: Places | None = None

    @property
    def units(self) -> int:
        """Number of rows or, if there are groups, of groups: folds and halves are drawn from these."""
        return len(self) if self.groups is None else int(self.groups.max()) + 1

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def numbers(self) -> Array:
        """The columns of numbers among the inputs, shape (N, F)."""
        return self.rows.numbers if isinstance(self.rows, Fields) else self.rows

    def where(self, row: int) -> str:
        """A row as an error names it: its file and its line."""
        return counted_from_zero(row) if self.places is None else self.places.where(row)

    def part(self, kept: Flags) -> "Dataset":
        """Some of the rows; groups are numbered anew."""
        groups = None if self.groups is None else np.unique(self.groups[kept], return_inverse=True)[1]
        weights = None if self.weights is None else self.weights[kept]
        places = None if self.places is None else self.places.part(kept)
        return replace(
            self, rows=self.rows[kept], labels=self.labels[kept], groups=groups, weights=weights, places=places
        )


def read_dataset(
    path: Path, manifest: Manifest, columns: Columns = DEFAULT_COLUMNS, *, inputs: Inputs | None = None
) -> Dataset:
    """Read a file of labelled rows.

    An ``.npz`` file has one array per graph input under its own name, or all columns, or the only tensor, as ``X``;
    strings are fixed-width (``U``) arrays. The others have a column per feature; in Parquet a tensor of rank 1 may be
    a column of lists. Rows that vary in length are padded at their end, with any value. Their lengths come from an
    array ``lengths``, from that of a mask under its own name, or from the labels of a sequence model, where -1 is
    padding; without any of these no row may end in the padding value. `cells` has the rules for every cell.

    Parameters
    ----------
    path : Path
        ``.npz``, ``.csv`` or ``.parquet``, or a directory of parts.
    manifest : Manifest
    columns : Columns
    inputs : Inputs, optional
        What the graph takes; without it, columns of numbers.

    Raises
    ------
    DataError
        One line that names the file, the column and the first row at fault.
    """
    task = manifest.graph.task
    if columns.labels_as is not None and task == "multilabel":
        raise DataError("labels of a multilabel model in a file are zeros and ones: --labels-as does not apply")
    whole = _read(path, manifest, Selection(inputs, columns))
    reading = _LABEL_READERS[task](whole, columns, manifest)
    _refuse_padding(whole, reading.labels, inputs)
    weights = whole.columns.get("weight")
    if weights is not None and not weights.any():
        raise DataError(f"{path}: weights must not all be zero")
    notes = (*_reserved_notes(whole, columns), *([] if reading.note is None else [reading.note]))
    return Dataset(
        whole.rows,
        reading.labels,
        _numbered(whole.columns.get("group")),
        weights,
        digest_of(path),
        (*notes, *_absent_notes(reading.labels, manifest)),
        whole.places,
    )


def read_rows(path: Path, manifest: Manifest, *, inputs: Inputs | None = None) -> Rows:
    """Rows without labels; DataError as `read_dataset`."""
    return _read(path, manifest, Selection(inputs)).rows


def _read(path: Path, manifest: Manifest, selection: Selection) -> Chunk:
    chunks: list[Chunk] = []
    for chunk in read_chunks(path, manifest, selection):
        chunk.refuse_faults()
        chunks.append(chunk)
    if not chunks:
        raise DataError(f"{path} has no rows")
    return join_chunks(chunks, path)


def _refuse_padding(whole: Chunk, labels: Indices, inputs: Inputs | None) -> None:
    """Raise DataError where lengths or labels end before their row does and no input declares a padding value."""
    ends = whole.columns.get("lengths")
    if ends is not None and ends.shape == (len(whole),) and ends.dtype.kind in "iu":
        evidence = "'lengths' ends them"
        refuse_undeclared(whole.rows, inputs, ends.astype(np.intp), where=str(whole.path), evidence=evidence)
    elif labels.ndim == 2:
        evidence = f"their labels end in {PADDING}"
        refuse_undeclared(whole.rows, inputs, (labels != PADDING).sum(axis=1), where=str(whole.path), evidence=evidence)


def _label_rules(whole: Chunk, columns: Columns, manifest: Manifest) -> LabelRules:
    where = f"{whole.path}, column {columns.label or 'y'!r}"
    return LabelRules.of(manifest.graph.classes, columns.labels_as, where, untyped=whole.untyped, place=whole.name)


def _class_labels(whole: Chunk, columns: Columns, manifest: Manifest) -> Reading:
    column = whole.columns["label"]
    found = column.tolist()
    if column.ndim != 1 or any(isinstance(value, np.ndarray) for value in found):
        raise DataError(f"{whole.path}: the labels in {columns.label or 'y'!r} are not one column")
    return interpret(found, _label_rules(whole, columns, manifest))


def _label_states(whole: Chunk, columns: Columns, manifest: Manifest) -> Reading:
    own = whole.columns.get("state")
    where = str(whole.path) if own is not None else f"{whole.path}, column {columns.label or 'y'!r}"
    values = own if own is not None else _square(whole.columns["label"])
    return Reading(read_presences(values, manifest.graph.classes, where=where, place=whole.name))


def _position_labels(whole: Chunk, columns: Columns, manifest: Manifest) -> Reading:
    return read_positions(whole.columns["label"], _label_rules(whole, columns, manifest))


def _square(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Lists of one length as an array of rank 2; anything else as it is."""
    rows = values.tolist() if values.dtype.kind == "O" else []
    alike = bool(rows) and all(isinstance(row, np.ndarray) for row in rows) and len({row.shape for row in rows}) == 1
    return np.stack(rows) if alike else values


def _numbered(column: npt.NDArray[Any] | None) -> Indices | None:
    if column is None:
        return None
    # In order of appearance, so that the name of a group has no influence on its fold or half.
    number: dict[str, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in column.tolist()], dtype=np.intp)


def _reserved_notes(whole: Chunk, columns: Columns) -> list[str]:
    what = {"group": "groups whose rows stay together", "weight": "row weights"}
    return [
        f"column {role!r} is read as {what[role]}, because of its name"
        for role in reserved(tuple(whole.columns), columns)
    ]


def _absent_notes(labels: Indices, manifest: Manifest) -> list[str]:
    classes = manifest.graph.classes
    if manifest.graph.rules.by_label:
        absent = [name for name, count in zip(classes, labels.sum(axis=0).tolist(), strict=True) if count == 0]
    else:
        counts = np.bincount(labels[labels >= 0].ravel(), minlength=len(classes)).tolist()
        absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not absent:
        return []
    names = ", ".join(repr(name) for name in absent[:10]) + (", …" if len(absent) > 10 else "")
    return [f"{'class' if len(absent) == 1 else 'classes'} {names} never {'occurs' if len(absent) == 1 else 'occur'}"]


_LABEL_READERS: Final[dict[str, Callable[[Chunk, Columns, Manifest], Reading]]] = {
    "multiclass": _class_labels,
    "multilabel": _label_states,
    "sequence": _position_labels,
}
