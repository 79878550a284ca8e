"""Instances of a request as rows in manifest order, and rows as instances."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

from service.api.plain_numbers import plain_numbers
from service.api.v1.filled_inputs import Filled
from service.api.v1.uniform_rows import NUMBERS_OR_NULL, UniformRows
from service.core.numerics import EXACT, Array, Indices
from service.errors import MOST_FAULTS, Fault, InvalidInstances, TooManyRows
from service.runtime.inputs import Inputs
from service.runtime.integers import INEXACT, among, beyond, integers, is_wide, rows_with
from service.runtime.numbers import misfits
from service.runtime.rows import Entry, Fields, Rows, Values, stretched

MOST_EXAMPLE_CELLS = 100
TYPES: Final = {
    str: "a string",
    bool: "a boolean",
    type(None): "null",
    list: "a list",
    dict: "an object",
    int: "a number",
    float: "a number",
}
NUMBER: Final = (NUMBERS_OR_NULL, "a number")
_CELLS: Final[dict[str, tuple[frozenset[type], str]]] = {
    "O": (frozenset({str, type(None)}), "a string"),
    "b": (frozenset({int, float, bool, type(None)}), "true or false"),
}
NOTHING: Final = Fields(np.empty((0, 0)), {})


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a model's rows look like."""

    entries: tuple[Entry, ...]
    names: tuple[str, ...]
    """Every cell of a row."""
    numbers: bool
    """Whether all of them are numbers."""
    filled: Filled
    """What the service fills itself."""

    @property
    def is_one_tensor(self) -> bool:
        return len(self.entries) == 1 and bool(self.entries[0].shape)


class InstanceReader:
    """Reads the instances of requests to one model.

    Parameters
    ----------
    inputs : Inputs
    most : int
        Rows of one request.
    """

    def __init__(self, inputs: Inputs, *, most: int) -> None:
        self._inputs = inputs
        self._most = most
        self._layout = _layout(inputs)
        self._uniform = UniformRows(self._layout.names, inputs.wide) if self._layout.numbers else None

    def plain(self, text: bytes) -> tuple[list[Any], Rows] | None:
        """Instances, and the rows that they are, of a JSON array of rows of numbers; None for any other."""
        if self._uniform is None or text.count(b"[") > self._most + 1:  # what is too much is read once, to be refused
            return None
        instances = plain_numbers(text)
        if not instances:
            return None
        rows = self._uniform.table(instances)
        return None if rows is None else (instances, rows)

    def parse(self, instances: Sequence[object]) -> Rows:
        """Rows of a model: an array of shape (N, F), NaN for null, where all its inputs are columns of numbers.

        A row is a list of cells in manifest order, an object by feature name, or an object by graph input whose
        values are lists. The cell of a tensor is a nested list; where a tensor is all there is, it may be the row
        itself.

        Raises
        ------
        InvalidInstances
            With a fault for every cell at fault, 20 at most.
        TooManyRows
        """
        self.check_number(instances)
        rows = None if self._uniform is None else self._uniform.rows(instances)
        return self._checked(instances) if rows is None else rows

    def check_number(self, instances: Sequence[object]) -> None:
        """Raise TooManyRows for more instances than a request may have."""
        if len(instances) > self._most:
            raise TooManyRows(f"a request has at most {self._most} instances; send them in parts")

    def located(self, error: InvalidInstances, instances: Sequence[object]) -> InvalidInstances:
        """The same error, its paths pointing into the rows as they were sent: by name or by index."""
        faults = [_placed(fault, instances, self._layout) for fault in error.faults]
        return InvalidInstances(error.detail, faults)

    def _checked(self, instances: Sequence[object]) -> Rows:
        faults: list[Fault] = []
        layout, inputs = self._layout, self._inputs
        rows = [_cells(row, i, layout, faults) for i, row in enumerate(instances) if len(faults) < MOST_FAULTS]
        if not faults:
            found = _table(rows, layout, inputs, faults) if layout.numbers else _fields(rows, layout, inputs, faults)
            if not faults:
                return found
        raise self.located(InvalidInstances(_summary(faults), faults), instances)


def example(inputs: Inputs) -> list[object] | None:
    """A row as it may be sent; None where it would fill pages."""
    rows = inputs.synthetic()
    if not isinstance(rows, Fields):
        cells: list[object] = rows[0].tolist()
        return [cells]
    if sum(values[0].size if values.ndim > 1 else 1 for values in rows.others.values()) > MOST_EXAMPLE_CELLS:
        return None
    by_name: dict[str, Any] = dict(zip(inputs.columns, rows.numbers[0].tolist(), strict=True))
    by_name |= {name: values[:1].tolist()[0] for name, values in rows.others.items()}
    return [{name: by_name[name] for name in _layout(inputs).names}]


def nearest(key: object, known: Iterable[str]) -> str:
    """A hint at the known name that an unknown one resembles; the unknown one is never repeated."""
    match = difflib.get_close_matches(str(key)[:200], list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _layout(inputs: Inputs) -> _Layout:
    entries = inputs.entries
    names = tuple(cell for entry in entries for cell in entry.cells)
    numbers = not any(entry.shape or entry.is_text for entry in entries)
    return _Layout(entries, names, numbers, Filled.of(inputs))


def _cells(row: object, i: int, layout: _Layout, faults: list[Fault]) -> list[object]:
    try:
        cells = _named(row, i, layout, faults) if isinstance(row, dict) else _listed(row, i, layout)
    except InvalidInstances as error:
        faults.extend(error.faults)
        return []
    if layout.numbers and not NUMBERS_OR_NULL.issuperset(map(type, cells)):
        faults.extend(_wrong_types(cells, i, layout))
    return cells


def _listed(row: object, i: int, layout: _Layout) -> list[object]:
    if not isinstance(row, list):
        raise _refusal(_fault((i,), "wrong-type", f"must be a list or an object, it is {TYPES[type(row)]}"))
    if layout.is_one_tensor:
        return [row]
    width = len(layout.names)
    if len(row) != width:
        raise _refusal(_fault((i,), "wrong-length", f"must have {width} values, it has {len(row)}"))
    return row


def _named(row: dict[str, object], i: int, layout: _Layout, faults: list[Fault]) -> list[object]:
    sent = layout.filled.names & row.keys()
    if not sent:
        return _ordered(row, i, layout)
    faults.extend(layout.filled.faults(row, i))
    return _ordered({name: cell for name, cell in row.items() if name not in sent}, i, layout)


def _ordered(row: dict[str, object], i: int, layout: _Layout) -> list[object]:
    if row.keys() == {entry.name for entry in layout.entries} and _has_lists(row, layout):
        return _joined(row, i, layout)
    if len(row) == len(layout.names) and all(name in row for name in layout.names):
        return [row[name] for name in layout.names]
    raise _refusal(*_wrong_names(row, i, layout.names))


def _has_lists(row: dict[str, object], layout: _Layout) -> bool:
    return any(isinstance(row[entry.name], list) for entry in layout.entries if not entry.shape)


def _joined(row: dict[str, object], i: int, layout: _Layout) -> list[object]:
    cells: list[object] = []
    for entry in layout.entries:
        width, part = len(entry.cells), row[entry.name]
        if entry.shape:
            cells.append(part)
        elif not isinstance(part, list) or len(part) != width:
            kind = "strings" if entry.is_text else "numbers"
            raise _refusal(_fault((i, entry.name), "wrong-length", f"must be a list of {width} {kind}"))
        else:
            cells += part
    return cells


def _wrong_names(row: dict[str, object], i: int, columns: tuple[str, ...]) -> list[Fault]:
    missing = [name for name in columns if name not in row]
    faults = [_fault((i, name), "missing-feature", "is missing") for name in missing]
    for key in sorted(row.keys() - set(columns))[:MOST_FAULTS]:
        hint = nearest(key, missing or columns)
        faults.append(_fault((i, "?"), "unknown-feature", f"this key is not a feature of the model{hint}"))
    # Unknown names first: each is usually the misspelt form of a missing one, and carries the hint.
    return faults[::-1][:MOST_FAULTS]


def _table(rows: list[list[object]], layout: _Layout, inputs: Inputs, faults: list[Fault]) -> Rows:
    try:
        table: Array = np.array(rows, dtype=np.float64)
    except OverflowError:
        faults += _too_large(rows, layout.names)
        return np.empty((0, len(layout.names)))
    return rows_with(table, among(rows, table, inputs.wide))


def _wrong_types(row: list[object], i: int, layout: _Layout) -> list[Fault]:
    kinds = [entry.dtype.kind for entry in layout.entries for _ in entry.cells]
    return [
        _fault((i, name), "wrong-type", f"must be {_CELLS.get(kind, NUMBER)[1]}, it is {TYPES[type(cell)]}")
        for name, kind, cell in zip(layout.names, kinds, row, strict=True)
        if type(cell) not in NUMBERS_OR_NULL and not (kind == "b" and isinstance(cell, bool))
    ][:MOST_FAULTS]


def _too_large(rows: Iterable[Sequence[object]], columns: tuple[str, ...]) -> list[Fault]:
    return [
        _fault((i, name), "number-out-of-range", "must fit a double")
        for i, row in enumerate(rows)
        for name, cell in zip(columns, row, strict=True)
        if isinstance(cell, int) and abs(cell) >= 1 << 1023
    ][:MOST_FAULTS]


def _fields(rows: list[list[object]], layout: _Layout, inputs: Inputs, faults: list[Fault]) -> Fields:
    columns = inputs.columns
    cells = dict(zip(layout.names, zip(*rows, strict=True), strict=True))
    for entry in layout.entries:
        faults += islice(_misfits(entry, cells), MOST_FAULTS)
    if columns and not faults:
        faults += _too_large(zip(*(cells[name] for name in columns), strict=True), columns)
    if faults:
        return NOTHING
    texts = {name: _objects(cells[name]) for entry in layout.entries if entry.is_text for name in entry.cells}
    stacked = {entry.name: _stacked(entry, cells[entry.name], faults) for entry in layout.entries if entry.shape}
    sizes = {entry.name: stacked[entry.name][1] for entry in layout.entries if entry.pad is not None}
    lengths = next(iter(sizes.values()), None)
    for name in sizes if not faults else ():
        faults += _unequal(name, sizes[name], lengths)
    numbers = _numbers([cells[name] for name in columns], len(rows))
    whole = {one.name: integers(cells[one.name]) for one in inputs.wide if beyond(numbers[:, one.index]).any()}
    return Fields(numbers, texts | whole | {name: tensor for name, (tensor, _) in stacked.items()}, lengths)


def _numbers(columns: Sequence[Sequence[object]], rows: int) -> Array:
    if not columns:
        return np.empty((rows, 0))
    table: Array = np.array(columns, dtype=np.float64)
    return table.T


def _misfits(entry: Entry, cells: dict[str, tuple[object, ...]]) -> Iterator[Fault]:
    if entry.shape:
        for i, cell in enumerate(cells[entry.name]):
            yield from _misshapen(cell, entry, (i, entry.name))
        return
    taken, kind = _CELLS.get(entry.dtype.kind, NUMBER)
    for name in entry.cells:
        if taken.issuperset(map(type, cells[name])):
            continue
        for i, cell in enumerate(cells[name]):
            if type(cell) not in taken:
                yield _fault((i, name), "wrong-type", f"must be {kind}, it is {TYPES[type(cell)]}")


def _misshapen(cell: object, entry: Entry, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """Where a nested list departs from the tensor's shape, or holds what is no number."""
    depth = len(path) - 2
    if not isinstance(cell, list):
        yield _fault(path, "wrong-type", f"must be a list, it is {TYPES[type(cell)]}")
        return
    size, shorter = entry.shape[depth], entry.pad is not None and depth == 0
    if size is not None and (len(cell) > size if shorter else len(cell) != size):
        yield _fault(path, "wrong-length", f"must have {'at most ' if shorter else ''}{size} entries, has {len(cell)}")
    elif not cell:
        yield _fault(path, "wrong-length", "must not be empty")
    elif depth < len(entry.shape) - 1:
        for j, part in enumerate(cell):
            yield from _misshapen(part, entry, (*path, j))
    else:
        yield from _no_numbers(cell, entry, path)


def _no_numbers(cell: list[object], entry: Entry, path: tuple[str | int, ...]) -> Iterator[Fault]:
    taken = {bool, int} if entry.dtype.kind == "b" else {int, float}
    if not taken.issuperset(map(type, cell)):
        kind = "true or false" if entry.dtype.kind == "b" else "a number"
        for j, value in enumerate(cell):
            if type(value) not in taken:
                yield _fault((*path, j), "wrong-type", f"must be {kind}, it is {TYPES[type(value)]}")


def _stacked(entry: Entry, cells: Sequence[object], faults: list[Fault]) -> tuple[Values, Indices]:
    """Tensors of all rows as one array, the shorter ones padded with zeros, and their lengths."""
    parts: list[Values] = []
    for i, cell in enumerate(cells):
        try:
            part = _as_taken(np.array(cell), cell, entry, i, faults)
        except ValueError:
            faults.append(_fault((i, entry.name), "wrong-shape", "its inner lists must be of equal length"))
            continue
        if part.dtype.kind == "O":
            faults.append(_fault((i, entry.name), "number-out-of-range", f"holds what does not fit {entry.dtype}"))
        first = 0 if entry.pad is None else 1
        if parts and part.shape[first:] != parts[0].shape[first:]:
            faults.append(_fault((i, entry.name), "wrong-shape", "must have the shape of the row before it"))
        parts.append(part)
    sizes = np.array([len(part) for part in parts], dtype=np.intp)
    if faults:
        return np.empty(0), sizes
    longest = int(sizes.max())
    return np.concatenate([stretched(part[None], longest) for part in parts]), sizes


def _as_taken(part: Values, cell: object, entry: Entry, i: int, faults: list[Fault]) -> Values:
    """A row's tensor; of 64-bit integers it is made such where that changes no value, for among doubles some would."""
    if not is_wide(entry.dtype):
        return part
    if part.dtype.kind == "f" and beyond(part).any():
        items = np.array(cell, dtype=object)
        odd = [index for index, item in np.ndenumerate(items) if isinstance(item, float) and abs(item) >= EXACT]
        odd += [index for index, item in np.ndenumerate(items) if isinstance(item, float) and not item.is_integer()]
        faults += [_fault((i, entry.name, *index), "wrong-type", INEXACT) for index in odd[:MOST_FAULTS]]
        part = part if odd else integers([int(item) for item in items.ravel()]).reshape(part.shape)
    if part.dtype.kind not in "iufO":
        return part
    found = [(bad, detail) for bad, _, detail in misfits(part, entry.dtype) if bad.any()]
    if part.dtype.kind == "O":  # of integers that fit no type
        places = [(index, detail) for bad, detail in found for index in np.argwhere(bad)[:MOST_FAULTS].tolist()]
        faults += [_fault((i, entry.name, *index), "number-out-of-range", detail) for index, detail in places]
        return np.zeros(part.shape, dtype=entry.dtype)
    return part if found else part.astype(entry.dtype)


def _unequal(name: str, sizes: Indices, lengths: Indices | None) -> list[Fault]:
    detail = "must be as long as the row's other inputs"
    rows = np.flatnonzero(sizes != lengths)[:MOST_FAULTS]
    return [_fault((int(i), name), "wrong-length", detail) for i in rows]


def _objects(cells: Sequence[object]) -> Values:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def _placed(fault: Fault, instances: Sequence[object], layout: _Layout) -> Fault:
    root, i, *rest = fault.path
    row = instances[int(i)]
    if not rest or rest[0] not in layout.names or (isinstance(row, dict) and rest[0] in row):
        return fault
    if fault.code == "missing-feature":
        return fault
    name, *inner = rest
    if isinstance(row, list) and layout.is_one_tensor:
        return Fault((root, i, *inner), fault.code, fault.detail)
    detail = f"{name!r} {fault.detail}"
    if isinstance(row, list):
        return Fault((root, i, layout.names.index(str(name)), *inner), fault.code, detail)
    entry = next(entry for entry in layout.entries if name in entry.cells)
    return Fault((root, i, entry.name, entry.cells.index(str(name)), *inner), fault.code, detail)


def _refusal(*faults: Fault) -> InvalidInstances:
    return InvalidInstances(_summary(list(faults)), faults)


def _fault(path: tuple[str | int, ...], code: str, detail: str) -> Fault:
    return Fault(("instances", *path), code, detail)


def _summary(faults: list[Fault]) -> str:
    count = f"{MOST_FAULTS} or more" if len(faults) >= MOST_FAULTS else str(len(faults))
    return f"{count} place{'s' if len(faults) > 1 else ''} in the instances cannot be used; nothing was answered"
