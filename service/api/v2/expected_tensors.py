"""Tensors that a model takes: what a request must bring, and what it may.

Tested in tests/api/v2/test_input_tensors.py.
"""

from dataclasses import dataclass
from typing import Final

from service.api.v2.tensors import OF_GRAPH, TEXT
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.rows import Entry

LENGTHS: Final = "lengths"
ROW_TEXTS: Final = ("subjects", "groups")
"""Inputs that say of every row whose it is and what it is grouped by; no model sees them."""
Size = int | None


@dataclass(frozen=True, slots=True)
class Expected:
    """A tensor that a model takes; an open dimension is None, and the first is the rows."""

    name: str
    datatype: str
    shape: tuple[Size, ...]


def expected_tensors(inputs: Inputs) -> list[Expected]:
    """What a request must bring, by input of the graph."""
    return [Expected(entry.name, OF_GRAPH[entry.dtype.name], (None, *row_shape(entry))) for entry in inputs.entries]


def optional_tensors(inputs: Inputs) -> list[Expected]:
    """What a request may bring besides: masks, lengths, constants that the service fills in, texts about rows."""
    texts = [Expected(name, TEXT, (None,)) for name in row_texts_of(inputs)]
    if not isinstance(inputs, FieldInputs):
        return texts
    masks = [Expected(mask.name, OF_GRAPH[mask.dtype.name], (None, None)) for mask in inputs.masks]
    fixed = [Expected(one.name, OF_GRAPH[one.dtype.name], (None, *one.shape)) for one in inputs.constants]
    return [*masks, *fixed, *([Expected(LENGTHS, "INT64", (None,))] if takes_lengths(inputs) else []), *texts]


def row_shape(entry: Entry) -> tuple[Size, ...]:
    """Shape of one row; a row that may be padded may be of any length up to the graph's."""
    if not entry.shape:
        return (len(entry.cells),)
    return entry.shape if entry.pad is None else (None, *entry.shape[1:])


def takes_lengths(inputs: FieldInputs) -> bool:
    """Whether a request may hold the lengths of its rows, as an input `lengths` that the graph does not have."""
    return inputs.varying is not None and LENGTHS not in _own_names(inputs)


def row_texts_of(inputs: Inputs) -> tuple[str, ...]:
    """Which of `ROW_TEXTS` a request may hold: those that the model has no input or column of the same name for."""
    own = _own_names(inputs)
    return tuple(name for name in ROW_TEXTS if name not in own)


def _own_names(inputs: Inputs) -> set[str]:
    names = {name for entry in inputs.entries for name in (entry.name, *entry.cells)}
    if isinstance(inputs, FieldInputs):
        names |= {mask.name for mask in inputs.masks} | {constant.name for constant in inputs.constants}
    return names


def shape_text(shape: tuple[Size, ...]) -> str:
    """A shape as a message has it.

    Examples
    --------
    >>> shape_text((None, 3, None))
    '[rows, 3, any]'
    """
    _, *row = shape
    return f"[{', '.join(['rows', *('any' if size is None else str(size) for size in row)])}]"
