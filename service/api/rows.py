"""Instances of a request, as one array in manifest order."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from service.errors import Fault, InvalidInstances, TooManyRows
from service.runtime.inputs import Inputs
from service.runtime.rows import Rows

MOST_FAULTS = 20
NUMBERS_OR_NULL: Final = frozenset({int, float, type(None)})
TYPES: Final = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}


def parse_rows(instances: Sequence[object], inputs: Inputs, *, most: int) -> Rows:
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
    if not faults:
        try:
            return np.array(rows, dtype=np.float64)
        except OverflowError:
            faults = _too_large(rows, inputs.columns)
    raise at_home(InvalidInstances(_summary(faults), faults), instances, inputs)


def at_home(error: InvalidInstances, instances: Sequence[object], inputs: Inputs) -> InvalidInstances:
    """The same error, its paths pointing into the rows as they were sent: by name into objects, by index into lists."""
    faults = [_placed(fault, instances, inputs) for fault in error.faults]
    return InvalidInstances(error.detail, faults)


def nearest(key: object, known: Iterable[str]) -> str:
    """A hint at the known name that an unknown one resembles; the unknown one is never repeated."""
    match = difflib.get_close_matches(str(key)[:200], list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _cells(row: object, i: int, inputs: Inputs, faults: list[Fault]) -> list[object]:
    try:
        cells = _ordered(row, i, inputs) if isinstance(row, dict) else _listed(row, i, len(inputs.columns))
    except InvalidInstances as error:
        faults.extend(error.faults)
        return []
    if not NUMBERS_OR_NULL.issuperset(map(type, cells)):
        faults.extend(_wrong_types(cells, i, inputs.columns))
    return cells


def _listed(row: object, i: int, width: int) -> list[object]:
    if not isinstance(row, list):
        kind = TYPES.get(type(row), "a number")
        raise _refusal(_fault((i,), "wrong-type", f"must be a list or an object, it is {kind}"))
    if len(row) != width:
        raise _refusal(_fault((i,), "wrong-length", f"must have {width} values, it has {len(row)}"))
    return row


def _ordered(row: dict[str, object], i: int, inputs: Inputs) -> list[object]:
    if row.keys() == {slot.name for slot in inputs.slots} and any(isinstance(part, list) for part in row.values()):
        return _joined(row, i, inputs)
    if len(row) == len(inputs.columns) and all(name in row for name in inputs.columns):
        return [row[name] for name in inputs.columns]
    raise _refusal(*_wrong_names(row, i, inputs.columns))


def _joined(row: dict[str, object], i: int, inputs: Inputs) -> list[object]:
    cells: list[object] = []
    for slot in inputs.slots:
        width, part = slot.columns.stop - slot.columns.start, row[slot.name]
        if not isinstance(part, list) or len(part) != width:
            raise _refusal(_fault((i, slot.name), "wrong-length", f"must be a list of {width} numbers"))
        cells += part
    return cells


def _wrong_names(row: dict[str, object], i: int, columns: tuple[str, ...]) -> list[Fault]:
    missing = [name for name in columns if name not in row]
    faults = [_fault((i, name), "missing-feature", "is missing") for name in missing]
    for key in sorted(row.keys() - set(columns))[:MOST_FAULTS]:
        hint = nearest(key, missing or columns)
        faults.append(_fault((i, "?"), "unknown-feature", f"one name is no feature of this model{hint}"))
    # Unknown names first: each is usually the misspelt form of a missing one, and carries the hint.
    return faults[::-1][:MOST_FAULTS]


def _wrong_types(row: list[object], i: int, columns: tuple[str, ...]) -> list[Fault]:
    return [
        _fault((i, name), "wrong-type", f"must be a number, it is {TYPES[type(cell)]}")
        for name, cell in zip(columns, row, strict=True)
        if type(cell) not in NUMBERS_OR_NULL
    ][:MOST_FAULTS]


def _too_large(rows: list[list[object]], columns: tuple[str, ...]) -> list[Fault]:
    return [
        _fault((i, name), "number-out-of-range", "must fit a double")
        for i, row in enumerate(rows)
        for name, cell in zip(columns, row, strict=True)
        if isinstance(cell, int) and abs(cell) >= 1 << 1023
    ][:MOST_FAULTS]


def _placed(fault: Fault, instances: Sequence[object], inputs: Inputs) -> Fault:
    root, i, *rest = fault.path
    row = instances[int(i)]
    if not rest or rest[0] not in inputs.columns or (isinstance(row, dict) and rest[0] in row):
        return fault
    if fault.code == "missing-feature":
        return fault
    column = inputs.columns.index(str(rest[0]))
    detail = f"{rest[0]!r} {fault.detail}"
    if isinstance(row, list):
        return Fault((root, i, column), fault.code, detail)
    slot = next(slot for slot in inputs.slots if slot.columns.start <= column < slot.columns.stop)
    return Fault((root, i, slot.name, column - slot.columns.start), fault.code, detail)


def _refusal(*faults: Fault) -> InvalidInstances:
    return InvalidInstances(_summary(list(faults)), faults)


def _fault(path: tuple[str | int, ...], code: str, detail: str) -> Fault:
    return Fault(("instances", *path), code, detail)


def _summary(faults: list[Fault]) -> str:
    count = f"{MOST_FAULTS} or more" if len(faults) >= MOST_FAULTS else str(len(faults))
    return f"{count} place{'s' if len(faults) > 1 else ''} in the instances cannot be used; nothing was answered"
