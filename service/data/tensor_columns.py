"""Tensors of a file, and the lengths of their rows.

Tested in tests/data/test_reader.py.
"""

from pathlib import Path

import numpy as np

from service.core.numerics import Flags, Indices
from service.data.blocks import Block, Places
from service.data.cells import LISTS, Cells, Faults, Text, Typed
from service.errors import DataError
from service.runtime.fields import FieldInputs
from service.runtime.rows import Entry, Values, stretched

PADDED_LABEL = -1


def tensor(raw: Cells, entry: Entry, path: Path) -> tuple[Values, Indices | None, Faults]:
    """A tensor, the lengths of its rows where they are lists, and rows that are no lists of numbers.

    Raises
    ------
    DataError
        If the column or array is nothing of the kind.
    """
    if isinstance(raw, Typed) and raw.opaque == LISTS and raw.values.dtype.kind == "O":
        return _ragged(raw.values, entry, path)
    rank = len(entry.shape) + 1
    if isinstance(raw, Text):
        raise DataError(f"{path}: {entry.name!r} is no list of numbers; write lists as Parquet, or arrays as .npz")
    if raw.values.ndim != rank or raw.values.dtype.kind not in "fiub":
        raise DataError(f"{path}: {entry.name!r} is not an array of numbers of rank {rank}")
    return raw.values, None, []


def _ragged(values: Values, entry: Entry, path: Path) -> tuple[Values, Indices, Faults]:
    rows = [np.zeros(0) if cell is None else np.asarray(cell) for cell in values.tolist()]
    bad = [len(entry.shape) != 1 or row.ndim != 1 or row.dtype.kind not in "fiub" or not row.size for row in rows]
    rows = [np.zeros(1, dtype=np.int64) if wrong else row for row, wrong in zip(rows, bad, strict=True)]
    sizes = np.array([row.size for row in rows], dtype=np.intp)
    faults = [(row, "is no list of numbers") for row, wrong in enumerate(bad) if wrong]
    if entry.pad is None and len({row.size for row, wrong in zip(rows, bad, strict=True) if not wrong}) > 1:
        raise DataError(f"{path}: the rows of {entry.name!r} differ in length, and the manifest declares no pad")
    longest = int(sizes.max())
    return np.concatenate([stretched(row[None], longest) for row in rows]), sizes, faults


def lengths_of(values: Values, inputs: FieldInputs, helpers: dict[str, Cells], block: Block) -> Indices:
    """How long the rows of a padded tensor are.

    Parameters
    ----------
    values : ndarray of shape (N, L, …)
    inputs : FieldInputs
    helpers : dict of str to Cells
        ``lengths``; masks by name; ``label`` of a class per position, -1 behind the end.
    block : Block

    Raises
    ------
    DataError
        If there are no lengths and rows end in the padding value, or the lengths contradict the rows.
    """
    rows, width = values.shape[:2]
    arrays = {name: raw.values for name, raw in helpers.items() if isinstance(raw, Typed) and raw.opaque is None}
    if "lengths" in arrays:
        return _given(arrays["lengths"], rows, width, block)
    sources = {repr(mask.name): arrays[mask.name] == 1 for mask in inputs.masks if mask.name in arrays}
    if "label" in arrays and arrays["label"].ndim == 2:
        sources["the array of labels"] = ~np.isin(
            arrays["label"], ["" if arrays["label"].dtype.kind in "UO" else PADDED_LABEL]
        )
    if sources:
        name, real = next(iter(sources.items()))
        return _counted(real, name, (rows, width), block)
    if inputs.varying is not None and (values[:, -1] == inputs.varying.pad).reshape(rows, -1).all(axis=1).any():
        raise DataError(
            f"{block.path}: rows end in the padding value; give the length of every row in an array 'lengths'"
        )
    return np.full(rows, width, dtype=np.intp)


def _given(lengths: Values, rows: int, width: int, block: Block) -> Indices:
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise DataError(f"{block.path}: 'lengths' is not one whole number for each of {rows} rows")
    invalid = (lengths < 1) | (lengths > width)
    if invalid.any():
        place = Places(((0, block.path, block.first, block.lines),)).name(int(invalid.argmax()))
        raise DataError(f"{block.path}: 'lengths' does not lie in 1 to {width} in {place}")
    return lengths.astype(np.intp)


def _counted(real: Flags, name: str, shape: tuple[int, int], block: Block) -> Indices:
    if real.shape != shape:
        raise DataError(f"{block.path}: {name} is not {shape[0]} by {shape[1]}, as the rows are")
    lengths: Indices = real.sum(axis=1)
    if (lengths == 0).any() or (real != (np.arange(shape[1]) < lengths[:, None])).any():
        raise DataError(f"{block.path}: by {name} a row is empty or has padding before its end")
    return lengths
