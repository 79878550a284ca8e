"""A model run over many rows, in chunks."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from service.core.numerics import Indices
from service.core.pipeline import Posterior
from service.errors import Fault, InvalidInstances, ModelOutputInvalid
from service.runtime.model import Model, Raw
from service.runtime.rows import Rows, counted_from_zero, stack

CHUNK_ROWS = 4096

Track = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the starts of the chunks; a terminal's progress bar is one."""


def untracked(starts: Iterable[int]) -> Iterable[int]:
    """No progress bar."""
    return starts


def raw_of(
    model: Model,
    rows: Rows,
    *,
    track: Track = untracked,
    place: Callable[[int], str] = counted_from_zero,
    rejected: dict[int, str] | None = None,
) -> Raw:
    """What the graph makes of any number of rows.

    Parameters
    ----------
    model : Model
    rows : Rows
    track : callable
        Progress over the rows.
    place : callable
        What to call a row in an error.
    rejected : dict of int to str, optional
        Takes rows that the model refuses with the reason of each, and they are left out; without it they are errors.

    Raises
    ------
    InvalidInstances, ModelOutputInvalid
        With the row's place among all rows; also if none is left.
    """
    parts = list(_parts(model, rows, track, place, rejected))
    if not parts:
        raise InvalidInstances("the model refuses every row")
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Raw(
        np.concatenate([part.columns for part in parts]),
        stack([part.logits for part in parts]).astype(np.float64, copy=False),  # what is fitted is exact
        np.concatenate([part.features for part in parts]),
        np.concatenate(lengths) if lengths else None,
    )


def posterior_of(
    model: Model,
    rows: Rows,
    *,
    track: Track = untracked,
    place: Callable[[int], str] = counted_from_zero,
    rejected: dict[int, str] | None = None,
) -> Posterior:
    """Stages A to C for any number of rows; as `raw_of`."""
    return model.posterior_of(raw_of(model, rows, track=track, place=place, rejected=rejected))


def _parts(
    model: Model, rows: Rows, track: Track, place: Callable[[int], str], rejected: dict[int, str] | None
) -> Iterator[Raw]:
    for start in track(range(0, len(rows), CHUNK_ROWS)):
        part = rows[start : start + CHUNK_ROWS]
        kept = np.ones(len(part), dtype=np.bool_)
        while kept.any():
            try:
                yield model.raw(part if kept.all() else part[kept])
                break
            except (InvalidInstances, ModelOutputInvalid) as error:
                faults = [_moved(fault, start + np.flatnonzero(kept)) for fault in error.faults]
                if rejected is None or not faults:
                    raise type(error)(_line(faults[0], place) if faults else error.detail, faults) from None
                for fault in faults:
                    row = int(fault.path[1])
                    rejected.setdefault(row, _detail(fault))
                    kept[row - start] = False


def _moved(fault: Fault, rows: Indices) -> Fault:
    root, row, *rest = fault.path
    return Fault((root, int(rows[int(row)]), *rest), fault.code, fault.detail)


def _line(fault: Fault, place: Callable[[int], str]) -> str:
    separator = ", " if fault.path[2:] else ": "
    return place(int(fault.path[1])) + separator + _detail(fault)


def _detail(fault: Fault) -> str:
    column = fault.path[2:3]
    return f"column {column[0]!r} {fault.detail}" if column else fault.detail
