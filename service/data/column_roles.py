"""Which columns or arrays of a file are read for a model, and what each is: feature, label, group, weight, id.

Tested in tests/data/test_dataset.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from service.bundle.manifest import Manifest
from service.data.blocks import Source
from service.errors import DataError
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.rows import Entry

LABELS_AS: Final = ("names", "index0", "index1")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where labels, groups and weights are found.

    Attributes
    ----------
    label, group, weight : str or None
        None means the reserved names `y`, `group` and `weight`, where the model has no feature called so; a group or
        weight that is named must be there.
    labels_as : str or None
        What labels are, in `LABELS_AS`; None decides by the labels, where they have one reading.
    """

    label: str | None = None
    group: str | None = None
    weight: str | None = None
    labels_as: str | None = None


DEFAULT_COLUMNS = Columns()


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of a file.

    Attributes
    ----------
    inputs : Inputs or None
        What the graph takes; None: columns of numbers.
    columns : Columns or None
        Labels, groups and weights; None reads none.
    id_column : str or None
        A column to be copied.
    """

    inputs: Inputs | None = None
    columns: Columns | None = None
    id_column: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnToRead:
    """One column to be read.

    Attributes
    ----------
    role : str
        feature | tensor | lengths | mask | label | state | group | weight | id
    name : str
        Its name in the model, or on the command line.
    kind : str
        In `cells.CONVERTERS`, or `integer`, `unsigned` or `tensor`.
    array : str
        The file's column or array.
    place : int or None
        Its column in an array of rank 2.
    """

    role: str
    name: str
    kind: str
    array: str
    place: int | None = None


def columns_to_read(source: Source, path: Path, manifest: Manifest, selection: Selection) -> tuple[ColumnToRead, ...]:
    """The columns of a file that a model needs, in manifest order, and those of labels, groups and weights.

    Raises
    ------
    DataError
        Naming the first column that the file does not have.
    """
    entries = _entries(manifest, selection.inputs)
    if path.suffix.lower() == ".npz":
        found = _of_arrays(source, path, entries, manifest)
    else:
        found = _of_columns(source, path, entries, manifest)
    if isinstance(selection.inputs, FieldInputs) and selection.inputs.tensors:
        found += _of_lengths(source, selection.inputs)
    if selection.columns is not None:
        found += _of_labelled(source, path, manifest, selection.columns)
    if selection.id_column is not None:
        found.append(ColumnToRead("id", selection.id_column, "id", _named(source, selection.id_column, path, "--id")))
    return tuple(found)


def reserved(found: Sequence[str], columns: Columns) -> tuple[str, ...]:
    """Which of the reserved columns `group` and `weight` were read because of their names alone."""
    named = {"group": columns.group, "weight": columns.weight}
    return tuple(role for role in found if role in named and named[role] is None)


def _entries(manifest: Manifest, inputs: Inputs | None) -> tuple[Entry, ...]:
    if inputs is not None:
        return inputs.entries
    rows = [entry for entry in manifest.inputs if not entry.is_filled]
    return tuple(Entry(entry.name, entry.columns, np.dtype(np.float64)) for entry in rows)


def _kind(entry: Entry) -> str:
    if entry.shape:
        return "tensor"
    if entry.is_text:
        return "text"
    if entry.dtype == np.uint64:
        return "unsigned"
    return "integer" if entry.dtype.kind in "iu" else "number"


def _find(source: Source, name: str) -> str | None:
    """The file's own name of a column; spaces around a name are no part of it."""
    if name in source.names:
        return name
    return name.strip() if name.strip() and name.strip() in source.names else None


def _of_columns(source: Source, path: Path, entries: Sequence[Entry], manifest: Manifest) -> list[ColumnToRead]:
    kinds = {cell: (entry, _kind(entry)) for entry in entries for cell in entry.cells}
    ordered = [name for name in manifest.columns if name in kinds]
    places = {name: _find(source, name) for name in ordered}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            f"{path} has no column {missing[0]!r}{more}; the model takes {len(ordered)} features{source.hint(missing)}"
        )
    return [
        ColumnToRead("tensor" if kinds[name][1] == "tensor" else "feature", name, kinds[name][1], place)
        for name, place in places.items()
        if place is not None
    ]


def _of_arrays(source: Source, path: Path, entries: Sequence[Entry], manifest: Manifest) -> list[ColumnToRead]:
    numbers = all(not entry.shape and not entry.is_text for entry in entries)
    one = len(entries) == 1 and entries[0].name not in source.names
    whole = "X" in source.names and "X" not in [entry.name for entry in manifest.inputs] and (numbers or one)
    found: list[ColumnToRead] = []
    for entry in entries:
        array = "X" if whole else entry.name
        if array not in source.names:
            neither = "neither an array 'X' nor one" if numbers or one else "no array"
            raise DataError(f"{path} has {neither} named after the graph input {entry.name!r}")
        kind, start = _kind(entry), len(found) if whole else 0
        if entry.shape:
            found.append(ColumnToRead("tensor", entry.name, kind, array))
        else:
            found += [ColumnToRead("feature", cell, kind, array, start + i) for i, cell in enumerate(entry.cells)]
    return found


def _of_lengths(source: Source, inputs: FieldInputs) -> list[ColumnToRead]:
    taken = {cell for entry in inputs.entries for cell in entry.cells}
    present = "lengths" in source.names and "lengths" not in taken
    found = [ColumnToRead("lengths", "lengths", "tensor", "lengths")] if present else []
    return found + [
        ColumnToRead("mask", mask.name, "tensor", mask.name) for mask in inputs.masks if mask.name in source.names
    ]


def _of_labelled(source: Source, path: Path, manifest: Manifest, columns: Columns) -> list[ColumnToRead]:
    found = _of_labels(source, path, manifest, columns)
    for role, named in (("group", columns.group), ("weight", columns.weight)):
        if named is not None:
            found.append(ColumnToRead(role, named, role, _named(source, named, path, f"--{role}")))
        elif role in source.names and role not in manifest.columns:
            found.append(ColumnToRead(role, role, role, role))
    return found


def _of_labels(source: Source, path: Path, manifest: Manifest, columns: Columns) -> list[ColumnToRead]:
    classes, label = manifest.graph.classes, columns.label or "y"
    if columns.label is None and manifest.graph.rules.by_label and not set(classes) & set(manifest.columns):
        own = [_find(source, name) for name in classes]
        if None not in own:
            return [ColumnToRead("state", name, "number", str(place)) for name, place in zip(classes, own, strict=True)]
    if columns.label is None and label in manifest.columns:
        raise DataError(f"{path}: {label!r} is a feature of the model; name the column of the labels with --label")
    place = _find(source, label)
    if place is None:
        by_label = manifest.graph.rules.by_label and columns.label is None
        absent = [name for name in classes if _find(source, name) is None] if by_label else []
        if absent and len(absent) < len(classes):
            raise DataError(f"{path} has columns of some labels, and none of {absent[0]!r}: every label needs its own")
        raise DataError(f"{path} has no column {label!r} for the labels; name it with --label{source.hint([label])}")
    return [ColumnToRead("label", label, "label", place)]


def _named(source: Source, name: str, path: Path, option: str) -> str:
    place = _find(source, name)
    if place is None:
        raise DataError(f"{path} has no column {name!r} for {option}")
    return place
