"""A model run over many rows, in chunks."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from service.core.pipeline import Posterior
from service.errors import Fault, InvalidInstances, ModelOutputInvalid
from service.runtime.model import Model, Raw
from service.runtime.rows import Rows, stack

CHUNK_ROWS = 4096

Track = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the starts of the chunks; a terminal's progress bar is one."""


def untracked(starts: Iterable[int]) -> Iterable[int]:
    """No progress bar."""
    return starts


def raw_of(model: Model, rows: Rows, *, track: Track = untracked, first: int = 0) -> Raw:
    """What the graph makes of any number of rows, of which ``first`` is the place of the first in its file.

    Raises
    ------
    InvalidInstances, ModelOutputInvalid
        With the row's place among all rows.
    """
    parts = list(_parts(model, rows, track, first))
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Raw(
        np.concatenate([part.columns for part in parts]),
        stack([part.logits for part in parts]).astype(np.float64, copy=False),  # what is fitted is exact
        np.concatenate([part.features for part in parts]),
        np.concatenate(lengths) if lengths else None,
    )


def posterior_of(model: Model, rows: Rows, *, track: Track = untracked, first: int = 0) -> Posterior:
    """Stages A to C for any number of rows."""
    return model.judge(raw_of(model, rows, track=track, first=first))


def _parts(model: Model, rows: Rows, track: Track, first: int) -> Iterator[Raw]:
    for start in track(range(0, len(rows), CHUNK_ROWS)):
        try:
            yield model.raw(rows[start : start + CHUNK_ROWS])
        except (InvalidInstances, ModelOutputInvalid) as error:
            faults = [_moved(fault, first + start) for fault in error.faults]
            raise type(error)(_line(faults[0]) if faults else error.detail, faults) from None


def _moved(fault: Fault, start: int) -> Fault:
    root, row, *rest = fault.path
    return Fault((root, int(row) + start, *rest), fault.code, fault.detail)


def _line(fault: Fault) -> str:
    _, row, *column = fault.path
    place = f"row {row}" + (f", column {column[0]!r}" if column else "")
    return f"{place} (rows count from 0): {fault.detail}"
