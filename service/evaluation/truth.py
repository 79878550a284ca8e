"""True labels as a model's task has them: one class a row, states of labels, or a class at every position."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.losses.sequence import PADDING
from service.core.numerics import Flags, Indices
from service.errors import DataError, Fault

Values = npt.NDArray[Any]


def read_labels(values: Sequence[object], classes: tuple[str, ...], *, where: str) -> Indices:
    """Class indices from names or, when no class is named like a number, from indices.

    Parameters
    ----------
    values : sequence
        Strings are class names. Integers match integer class names, or else are indices, provided that all of
        them lie in 0..K-1.
    classes : tuple of str
    where : str
        What to call the labels in an error.

    Raises
    ------
    DataError
        Naming the first row whose label is no class; for integers, with both readings.
    """
    index = {name: i for i, name in enumerate(classes)}
    numeric_names = any(name.lstrip("-").isdigit() for name in classes)
    labels = np.empty(len(values), dtype=np.intp)
    for row, value in enumerate(values):
        found = _label(value, index, numeric_names=numeric_names)
        if found is None:
            detail = _expected(value, classes, numeric_names=numeric_names)
            fault = Fault(("labels", row), "unknown-class", detail)
            raise DataError(f"{where}: the label of row {row} {detail} (rows count from 0)", [fault])
        labels[row] = found
    return labels


def _label(value: object, index: dict[str, int], *, numeric_names: bool) -> int | None:
    if isinstance(value, str):
        return index.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    if numeric_names:
        return index.get(str(int(value)))
    return int(value) if 0 <= value < len(index) else None


def _expected(value: object, classes: tuple[str, ...], *, numeric_names: bool) -> str:
    names = ", ".join(repr(name) for name in classes[:10]) + (", …" if len(classes) > 10 else "")
    if isinstance(value, str):
        return f"is none of the classes {names}"
    if numeric_names:
        return f"names none of the classes {names}, and is no index because they are named by numbers"
    return f"is neither one of the classes {names} nor an index from 0 to {len(classes) - 1}"


def read_presences(values: Values, labels: tuple[str, ...], *, where: str) -> Indices:
    """Presence of every label, shape (N, M), from zeros and ones.

    Raises
    ------
    DataError
        Naming the first row that says anything else.
    """
    if values.ndim != 2 or values.shape[1] != len(labels):
        shape = " by ".join(map(str, values.shape)) or "a single value"
        raise DataError(f"{where}: labels are {shape}; every row has {len(labels)} zeros and ones, one of each label")
    sound: Flags = (values == 0) | (values == 1)
    if not np.all(sound):
        row, m = (int(place) for place in np.argwhere(~sound)[0])
        fault = Fault(("labels", row), "unknown-state", "is neither 0 nor 1")
        raise DataError(f"{where}: row {row} is neither 0 nor 1 for {labels[m]!r} (rows count from 0)", [fault])
    return values.astype(np.intp)


def presence_columns(table: Mapping[str, Values], labels: tuple[str, ...], features: tuple[str, ...]) -> Values | None:
    """A table's own columns of the labels, shape (N, M); None where one is missing, or is a feature of the model."""
    if set(labels) & set(features) or not set(labels) <= table.keys():
        return None
    return np.column_stack([table[label] for label in labels])


def read_positions(values: Values, classes: tuple[str, ...], *, where: str) -> Indices:
    """Class of every position, shape (N, L), -1 behind the end of a sequence.

    Parameters
    ----------
    values : ndarray of shape (N, L), or (N, …)
        Names, with an empty one for padding; or integers as `read_labels` takes them, with -1. Further axes are
        positions too.
    classes : tuple of str
    where : str

    Raises
    ------
    DataError
        Naming the first sequence at fault.
    """
    if values.ndim < 2:
        raise DataError(f"{where}: labels are one column; a sequence has a label for every position")
    flat = values.reshape(len(values), -1)
    padding: Flags = flat == ("" if flat.dtype.kind == "U" else PADDING)
    found, which = np.unique(flat[~padding], return_inverse=True)
    index = {name: i for i, name in enumerate(classes)}
    numeric_names = any(name.lstrip("-").isdigit() for name in classes)
    known = np.array([_known(value, index, numeric_names=numeric_names) for value in found.tolist()], dtype=np.intp)
    labels = np.full(flat.shape, PADDING)
    labels[~padding] = known[which]
    _refuse_sequences(np.any((labels == PADDING) & ~padding, axis=1), "has a label that is no class", where)
    _refuse_sequences(np.all(padding, axis=1), "has no label", where)
    _refuse_sequences(np.any(padding[:, :-1] & ~padding[:, 1:], axis=1), "has a label behind its padding", where)
    return labels


def _known(value: object, index: dict[str, int], *, numeric_names: bool) -> int:
    found = _label(value, index, numeric_names=numeric_names)
    return PADDING if found is None else found


def _refuse_sequences(bad: Flags, detail: str, where: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        fault = Fault(("labels", row), "unknown-class", detail)
        raise DataError(f"{where}: sequence {row} {detail} (sequences count from 0)", [fault])
