"""Instances of a request, as one array in manifest order."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from service.core.numerics import Array
from service.errors import Fault, InvalidInstances, TooManyRows
from service.runtime.inputs import Inputs

MOST_FAULTS = 20
NUMBERS_OR_NULL: Final = frozenset({int, float, type(None)})
TYPES: Final = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}


def parse_rows(instances: Sequence[object], inputs: Inputs, *, most: int) -> Array:
    """Rows, shape (N, F), NaN for null.

    A row is a list of numbers in manifest order, an object by feature name, or an object by graph input whose
    values are lists.

    Raises
    ------
    InvalidInstances
        With a fault for every cell at fault, 20 at most.
    TooManyRows
    """
    if len(instances) > most:
        raise TooManyRows(f"a request has at most {most} instances; send them in parts")
    faults: list[Fault] = []
    rows = [_cells(row, i, inputs, faults) for i, row in enumerate(instances) if len(faults) < MOST_FAULTS]
    if faults:
        raise InvalidInstances(_summary(faults), faults)
    return np.array(rows, dtype=np.float64)


def nearest(key: object, known: Iterable[str]) -> str:
    """A hint at the known name that an unknown one resembles; the unknown one is never repeated."""
    match = difflib.get_close_matches(str(key)[:200], list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _cells(row: object, i: int, inputs: Inputs, faults: list[Fault]) -> list[object]:
    if isinstance(row, dict):
        row = _ordered(row, i, inputs, faults)
    if not isinstance(row, list):
        faults.append(
            _fault((i,), "wrong-type", f"must be a list or an object, it is {TYPES.get(type(row), 'a number')}")
        )
        return []
    if len(row) != len(inputs.columns):
        if row or not faults:
            detail = f"must have {len(inputs.columns)} values, it has {len(row)}"
            faults.append(_fault((i,), "wrong-length", detail))
        return []
    if not NUMBERS_OR_NULL.issuperset(map(type, row)):
        faults.extend(_wrong_types(row, i, inputs.columns))
        return []
    return _within_double(row, i, inputs.columns, faults)


def _ordered(row: dict[str, object], i: int, inputs: Inputs, faults: list[Fault]) -> list[object]:
    slots = [slot.name for slot in inputs.slots]
    if set(slots) == set(row) and any(isinstance(value, list) for value in row.values()):
        return _joined(row, i, inputs, faults)
    try:
        cells = [row[name] for name in inputs.columns]
    except KeyError:
        cells = []
    if len(row) == len(cells):
        return cells
    known = set(inputs.columns)
    missing = [name for name in inputs.columns if name not in row]
    faults.extend(_fault((i, name), "missing-feature", "is missing") for name in missing[:MOST_FAULTS])
    for key in row.keys() - known:
        detail = f"one name is no feature of this model{nearest(key, missing or known)}"
        faults.append(_fault((i, "?"), "unknown-feature", detail))
    return []


def _joined(row: dict[str, object], i: int, inputs: Inputs, faults: list[Fault]) -> list[object]:
    cells: list[object] = []
    for slot in inputs.slots:
        width, part = slot.columns.stop - slot.columns.start, row[slot.name]
        if not isinstance(part, list) or len(part) != width:
            faults.append(_fault((i, slot.name), "wrong-length", f"must be a list of {width} numbers"))
            return []
        cells += part
    return cells


def _wrong_types(row: list[object], i: int, columns: tuple[str, ...]) -> list[Fault]:
    return [
        _fault((i, name), "wrong-type", f"must be a number, it is {TYPES[type(cell)]}")
        for name, cell in zip(columns, row, strict=True)
        if type(cell) not in NUMBERS_OR_NULL
    ][:MOST_FAULTS]


def _within_double(row: list[object], i: int, columns: tuple[str, ...], faults: list[Fault]) -> list[object]:
    for name, cell in zip(columns, row, strict=True):
        if type(cell) is int and abs(cell) >= 1 << 1023:
            faults.append(_fault((i, name), "number-out-of-range", "must fit a double"))
    return row


def _fault(path: tuple[str | int, ...], code: str, detail: str) -> Fault:
    return Fault(("instances", *path), code, detail)


def _summary(faults: list[Fault]) -> str:
    count = f"{MOST_FAULTS} or more" if len(faults) >= MOST_FAULTS else str(len(faults))
    return f"{count} place{'s' if len(faults) > 1 else ''} in the instances cannot be used; nothing was answered"
