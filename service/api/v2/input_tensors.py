"""Tensors of a request as rows of a model.

A tensor holds a whole input of the graph, or one column of it: an input of thirty features comes as one tensor of shape
[N, 30] or as thirty of shape [N] or [N, 1], each named like its feature. What rows may hold is checked where rows of
every protocol are, in `runtime.inputs`; here is checked what only tensors have: names, datatypes, shapes, lengths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from service.api.v2.expected_tensors import Expected, expected_tensors, optional_tensors, row_shape, shape_text
from service.api.v2.row_lengths import check_constants, lengths_of_rows
from service.api.v2.tensors import NUMBERS, OF_GRAPH, TEXT, Place, Sent, Tensor, Values, listed, refusal, text_of, texts
from service.errors import Fault, InvalidInstances, InvalidRequest
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.integers import gathered, rows_with
from service.runtime.numbers import NumberInputs
from service.runtime.rows import Entry, Fields, Rows


def rows_of(tensors: Sequence[Tensor], inputs: Inputs) -> Rows:
    """Rows of a model.

    Parameters
    ----------
    tensors : sequence of Tensor
    inputs : Inputs
        What the model takes.

    Raises
    ------
    InvalidRequest
        If a tensor is unknown, comes twice or is missing, or if its datatype, its shape or its lengths do not fit.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN; as any NaN it is a missing value
        whole = _whole_table(tensors, inputs)
        return _assembled(Sent(tensors), inputs) if whole is None else whole


def raw_tensor(body: bytes, inputs: Inputs) -> Tensor:
    """The one input of a model whose values are the whole body.

    Raises
    ------
    InvalidRequest
        If the model takes several inputs, or the body is no whole number of rows.
    """
    if len(inputs.entries) != 1:
        raise InvalidRequest("a body without JSON is one input's values, and this model takes several")
    (entry,), (expected,) = inputs.entries, expected_tensors(inputs)
    if entry.is_text:
        return Tensor(entry.name, TEXT, texts([text_of(body, ("inputs",))])[None], 0)
    values = _raw_values(body, expected)
    return Tensor(entry.name, expected.datatype, values, 0)


def in_tensors(error: InvalidInstances, tensors: Sequence[Tensor], inputs: Inputs) -> InvalidInstances:
    """The same error, its faults in the tensors as they were sent: `inputs.2.data`, and there a row and a column."""
    by_column = {cell: entry.name for entry in inputs.entries for cell in entry.cells}
    by_name = {tensor.name: tensor.place for tensor in tensors}
    faults = [_moved(fault, by_name, by_column) for fault in error.faults]
    if not faults or faults[0].path[0] != "inputs":
        return error
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidInstances(f"{_dotted(faults[0].path)}: {faults[0].detail}{more}", faults)


def _moved(fault: Fault, by_name: dict[str, int], by_column: dict[str, str]) -> Fault:
    _, row, *rest = fault.path
    if not rest:
        return fault
    name, *index = rest
    place = by_name.get(str(name), by_name.get(by_column.get(str(name), "")))
    if place is None:
        return fault
    where = ", ".join([f"row {row}", repr(name), *(f"position {step}" for step in index)])
    return Fault(("inputs", place, "data"), fault.code, f"{where}: {fault.detail}")


def _dotted(path: Place) -> str:
    return ".".join(map(str, path))


@dataclass(slots=True)
class _Parts:
    """What was found for the inputs of a model."""

    numbers: dict[str, Values] = field(default_factory=dict)
    others: dict[str, Values] = field(default_factory=dict)


def _whole_table(tensors: Sequence[Tensor], inputs: Inputs) -> Rows | None:
    """Rows where one tensor of numbers holds all columns of them, which is the most frequent; None otherwise."""
    if len(tensors) != 1 or not isinstance(inputs, NumberInputs) or inputs.wide or len(inputs.slots) != 1:
        return None
    (entry,) = inputs.entries
    if tensors[0].name != entry.name:
        return None
    return _table(tensors[0], entry).astype(np.float64, copy=False)


def _assembled(sent: Sent, inputs: Inputs) -> Rows:
    parts = _Parts()
    for entry in inputs.entries:
        _take(entry, sent, parts)
    table, whole = _numbers(parts.numbers, inputs, sent.rows)
    if isinstance(inputs, NumberInputs):
        sent.finish(_names(inputs))
        return rows_with(table, whole)
    if not isinstance(inputs, FieldInputs):
        raise TypeError("inputs are columns of numbers or fields")
    lengths = lengths_of_rows(sent, inputs, parts.others)
    check_constants(sent, inputs)
    sent.finish(_names(inputs))
    return Fields(table, parts.others | whole, lengths)


def _take(entry: Entry, sent: Sent, parts: _Parts) -> None:
    if entry.shape and entry.name in sent:
        parts.others[entry.name] = _block(sent.take(entry.name), entry)
    elif not entry.shape and all(cell in sent for cell in entry.cells):
        found = {cell: _table(sent.take(cell), entry, width=1)[:, 0] for cell in entry.cells}
        (parts.others if entry.is_text else parts.numbers).update(found)
    elif entry.name in sent:
        columns = _table(sent.take(entry.name), entry).T
        (parts.others if entry.is_text else parts.numbers).update(zip(entry.cells, columns, strict=True))
    else:
        _refuse_absent(entry, sent)


def _refuse_absent(entry: Entry, sent: Sent) -> NoReturn:
    needed = f"{entry.name!r} of shape {shape_text((None, *row_shape(entry)))}"
    missing = [cell for cell in entry.cells if cell not in sent]
    if 0 < len(missing) < len(entry.cells):
        raise refusal(("inputs",), "missing-input", f"lacks columns of {entry.name!r}: {listed(missing)}")
    by_column = f", or one for each of its {len(entry.cells)} columns" if len(entry.cells) > 1 else ""
    raise refusal(("inputs",), "missing-input", f"must hold a tensor {needed}{by_column}")


def _table(tensor: Tensor, entry: Entry, *, width: int | None = None) -> Values:
    """Columns of an input, shape (N, width)."""
    _check_datatype(tensor, entry)
    wide = len(entry.cells) if width is None else width
    values = tensor.values[:, None] if tensor.values.ndim == 1 and wide == 1 else tensor.values
    if values.ndim != 2 or values.shape[1] != wide:
        raise tensor.refusal("shape", "wrong-shape", f"must be {shape_text((None, wide))}")
    return values


def _block(tensor: Tensor, entry: Entry) -> Values:
    """An input that is no table, shape (N, …)."""
    _check_datatype(tensor, entry)
    found, expected = tensor.values.shape[1:], row_shape(entry)
    fits = len(found) == len(expected) and all(
        size in (None, own) and own > 0 for own, size in zip(found, expected, strict=True)
    )
    if not fits:
        raise tensor.refusal("shape", "wrong-shape", f"must be {shape_text((None, *expected))}")
    if tensor.values.dtype.kind == "O":
        raise tensor.refusal("data", "number-out-of-range", f"must fit {entry.dtype}, without null")
    return tensor.values


def _check_datatype(tensor: Tensor, entry: Entry) -> None:
    if entry.is_text != (tensor.datatype == TEXT) or (tensor.datatype == "BOOL" and entry.dtype.kind != "b"):
        own = OF_GRAPH[entry.dtype.name]
        words = f"must be {own}" if entry.is_text else f"must be of numbers, such as {own}"
        raise tensor.refusal("datatype", "wrong-type", words)


def _numbers(columns: dict[str, Values], inputs: Inputs, rows: int) -> tuple[Values, dict[str, Values]]:
    """Columns of numbers side by side, and the integers that doubles do not hold."""
    if not columns:
        return np.empty((rows, 0)), {}
    return gathered({name: columns[name] for name in inputs.columns}, inputs.wide)


def _raw_values(body: bytes, expected: Expected) -> Values:
    """Numbers in the only shape that they can have: as many rows as there are, or one where a row has an open side."""
    dtype: np.dtype[Any] = NUMBERS[expected.datatype]
    _, *row = expected.shape
    open_sides = [i for i, size in enumerate(row) if size is None]
    known = int(np.prod([size for size in row if size is not None], dtype=np.int64))
    if not body or len(body) % (dtype.itemsize * known) or len(open_sides) > 1:
        kind = f"of {known} values " if not open_sides else ""
        raise InvalidRequest(f"a body without JSON must hold rows {kind}of type {expected.datatype}")
    shape = [1 if open_sides else -1, *(-1 if size is None else size for size in row)]
    return np.frombuffer(body, dtype).reshape(shape)


def _names(inputs: Inputs) -> Iterator[str]:
    yield from (entry.name for entry in inputs.entries)
    yield from (expected.name for expected in optional_tensors(inputs))
    yield from (cell for entry in inputs.entries if not entry.shape for cell in entry.cells if cell != entry.name)
