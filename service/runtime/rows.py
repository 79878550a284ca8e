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
        Everything else by name: columns of text (N,), tensors (N, …) padded to the longest row.
    lengths : ndarray of shape (N,) or None
        How many positions of every row are no padding; None where positions do not vary.
    """

    numbers: Array
    others: dict[str, Values]
    lengths: Indices | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice | Flags) -> "Fields":
        others = {name: values[part] for name, values in self.others.items()}
        return Fields(self.numbers[part], others, None if self.lengths is None else self.lengths[part])


Rows = Array | Fields
"""An array of shape (N, F) where every input is a column of numbers, which is the fast path; `Fields` otherwise."""


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several requests as one batch; all parts come from one model.

    Tensors that vary in length are padded again, with zeros, to the longest of all.
    """
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays:
        joined: Array = np.concatenate(arrays)
        return joined
    return _join_fields([part for part in parts if isinstance(part, Fields)])


def _join_fields(parts: Sequence[Fields]) -> Fields:
    others = {name: _stack([part.others[name] for part in parts]) for name in parts[0].others}
    lengths = [part.lengths for part in parts if part.lengths is not None]
    first = replace(parts[0], numbers=np.concatenate([part.numbers for part in parts]), others=others)
    return replace(first, lengths=np.concatenate(lengths) if lengths else None)


def _stack(arrays: Sequence[Values]) -> Values:
    longest = np.max([array.shape[1:] for array in arrays], axis=0, initial=0).astype(int)
    return np.concatenate([_padded(array, longest) for array in arrays])


def _padded(array: Values, shape: npt.NDArray[np.int_]) -> Values:
    missing = [(0, 0), *((0, int(wanted) - had) for wanted, had in zip(shape, array.shape[1:], strict=True))]
    return array if array.ndim == 1 else np.pad(array, missing)
