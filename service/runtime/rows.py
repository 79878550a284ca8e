"""Rows on their way to a graph: what every model takes, whatever its inputs are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Flags, Indices

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fields:
    """N rows of a model whose inputs are not all columns of numbers; the first axis of every array is the rows.

    Attributes
    ----------
    numbers : ndarray of shape (N, F)
        The columns of numbers among the inputs, in manifest order, NaN where a value is missing; F may be 0.
    others : dict of str to ndarray
        Everything else by name: columns of text (N,), of which None is a missing value; tensors (N, …), those that
        vary in length as long as the longest row. What lies beyond a row's length is never read.
        Columns of 64-bit integers (N,) too, where their doubles among ``numbers`` cannot hold them.
    lengths : ndarray of shape (N,) or None
        How many positions of every row are no padding; None where positions do not vary.
    """

    numbers: Array
    others: dict[str, Values]
    lengths: Indices | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice | Flags | Indices) -> "Fields":
        others = {name: values[part] for name, values in self.others.items()}
        return Fields(self.numbers[part], others, None if self.lengths is None else self.lengths[part])


Rows = Array | Fields
"""An array of shape (N, F) where every input is a column of numbers, which is the fast path; `Fields` otherwise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row holds for one graph input.

    Attributes
    ----------
    name : str
        The graph's input.
    cells : tuple of str
        Names of its columns; of a tensor its own name.
    dtype : dtype
        As the graph takes it; ``object`` for text.
    shape : tuple of int or None
        Of one row of a tensor, None where the graph leaves a dimension open. Columns have no shape, which is ``()``.
    pad : float or None
        What fills a row that is shorter than others along the first of its dimensions; None if none may be.
    fixed : bool
        With ``pad``: every row is filled up to ``shape[0]``. Otherwise that is the most there may be, and rows are
        filled up to the longest among them.
    allowed : tuple of (float, float) or None
        What a tensor's elements may be, padding aside.
    """

    name: str
    cells: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] = ()
    pad: float | None = None
    fixed: bool = False
    allowed: tuple[float, float] | None = None

    @property
    def is_text(self) -> bool:
        """Whether its cells are strings."""
        return self.dtype.kind == "O"


def counted_from_zero(row: int) -> str:
    """What an error calls a row that has no line of a file."""
    return f"row {row} (rows count from 0)"


def alike(one: Rows, other: Rows) -> bool:
    """Whether joining rows changes neither.

    Padding to a longer row may change what a graph without a mask answers; joined with others, integers may become
    doubles.
    """
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype
    if isinstance(other, np.ndarray):
        return False
    if one.others.keys() != other.others.keys():
        return False
    for name, values in one.others.items():  # a loop, for this runs for every two requests that meet
        its = other.others[name]
        if values.dtype != its.dtype or values.shape[1:] != its.shape[1:]:
            return False
    return True


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several requests as one batch; all parts come from one model and are `alike`.

    Tensors that vary in length are made as long as the longest of all.
    """
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if 0 < len(arrays) < len(parts) or len({array.dtype for array in arrays}) > 1:
        raise TypeError("rows that are joined must be alike")
    if arrays:
        joined: Array = np.concatenate(arrays)
        return joined
    return _join_fields([part for part in parts if isinstance(part, Fields)])


def stretched(values: Values, length: int) -> Values:
    """An array whose second axis is at least ``length`` long; zeros fill it."""
    missing = length - values.shape[1] if values.ndim > 1 else 0
    return values if missing <= 0 else np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])


def _join_fields(parts: Sequence[Fields]) -> Fields:
    others = {name: stack([part.others[name] for part in parts]) for name in parts[0].others}
    lengths = [part.lengths for part in parts if part.lengths is not None]
    first = replace(parts[0], numbers=np.concatenate([part.numbers for part in parts]), others=others)
    return replace(first, lengths=np.concatenate(lengths) if lengths else None)


def stack(arrays: Sequence[Values]) -> Values:
    """Arrays of several batches as one, their second axis as long as the longest; zeros fill it."""
    longest = max(array.shape[1] if array.ndim > 1 else 0 for array in arrays)
    return np.concatenate([stretched(array, longest) for array in arrays])
