"""A decoded row as bytes: the same whether it came as a list, an object, a nested tensor or a binary tensor.

In manifest order, input by input, everything little-endian. A number is the double nearest to what the graph takes:
-0.0 as 0.0, a missing one as the quiet NaN; behind a 64-bit integer stands what its double lacks, as an integer. A text
is its length in four bytes and its UTF-8, a missing one the length 2^32 - 1. A tensor is its sizes in four bytes each
and its elements in the graph's own type, without padding.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from service.core.numerics import Array
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.integers import Whole, Wide, beyond, parted
from service.runtime.numbers import NumberInputs
from service.runtime.rows import Entry, Fields, Rows, Values

SIZE: Final = struct.Struct("<I")
MISSING: Final = SIZE.pack(0xFFFFFFFF)
DOUBLE: Final = np.dtype("<f8")


def row_bytes(rows: Rows, inputs: Inputs) -> list[bytes]:
    """Every row as bytes.

    Parameters
    ----------
    rows : Rows
        As they were read; those of several requests if they are `alike`.
    inputs : Inputs
        Of the model.
    """
    numbers, whole = parted(rows, inputs.wide)
    table = _plain(inputs.taken(numbers))
    if isinstance(inputs, NumberInputs) or not isinstance(rows, Fields):
        return _cut(_with_remainders(table, inputs.columns, inputs.wide, whole))
    if not isinstance(inputs, FieldInputs):
        raise TypeError("inputs are columns of numbers or fields")
    parts = [_entry(entry, table, rows, inputs, whole) for entry in inputs.entries]
    return [b"".join(row) for row in zip(*parts, strict=True)]


def _entry(entry: Entry, table: Array, rows: Fields, inputs: FieldInputs, whole: Whole) -> Sequence[bytes]:
    if entry.is_text:
        return [b"".join(map(_text, row)) for row in zip(*[rows.others[cell] for cell in entry.cells], strict=True)]
    if entry.shape:
        return list(_tensors(entry, rows.others[entry.name], rows.lengths if entry.pad is not None else None))
    places = [inputs.columns.index(cell) for cell in entry.cells]
    return _cut(_with_remainders(table[:, places], entry.cells, inputs.wide, whole))


def _plain(table: Array) -> Array:
    plain = table.astype(DOUBLE) + 0.0  # of -0.0 it makes 0.0
    if np.isnan(np.add.reduce(plain, axis=None)):  # which an infinity is, too
        plain[np.isnan(plain)] = np.nan
    return plain


def _with_remainders(table: Array, columns: Sequence[str], wide: Sequence[Wide], whole: Whole) -> Values:
    own = [one for one in wide if one.name in columns]
    if not own:
        return table
    behind = {
        columns.index(one.name): _remainders(table[:, columns.index(one.name)], whole.get(one.name)) for one in own
    }
    cells = table.view("<i8")
    return np.stack([part for i in range(len(columns)) for part in _pair(cells[:, i], behind.get(i))], axis=1)


def _pair(cells: Values, remainders: Values | None) -> list[Values]:
    return [cells] if remainders is None else [cells, remainders]


def _remainders(doubles: Array, own: Values | None) -> Values:
    found = np.zeros(len(doubles), dtype="<i8")
    for row in () if own is None else np.flatnonzero(beyond(doubles)).tolist():
        found[row] = int(own[row]) - int(doubles[row])  # type: ignore[index]
    return found


def _cut(table: Values) -> list[bytes]:
    content, size = table.tobytes(), table.itemsize * table.shape[1]
    return [content[i * size : (i + 1) * size] for i in range(len(table))]


def _text(cell: object) -> bytes:
    if not isinstance(cell, str):
        return MISSING
    encoded = cell.encode()
    return SIZE.pack(len(encoded)) + encoded


def _tensors(entry: Entry, values: Values, lengths: Values | None) -> Iterator[bytes]:
    dtype = entry.dtype.newbyteorder("<")
    for row, tensor in enumerate(values):
        own = np.ascontiguousarray(tensor if lengths is None else tensor[: lengths[row]], dtype)
        own = own + dtype.type(0) if dtype.kind == "f" else own
        yield b"".join(map(SIZE.pack, own.shape)) + own.tobytes()
