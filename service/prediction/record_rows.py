"""Recorded columns as plain values, row by row: for people, JSON Lines and tables."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.prediction.record_layout import Block, Values
from service.prediction.record_reader import Recorded

Row = dict[str, Any]


def rows_of(recorded: Recorded) -> list[Row]:
    """The members of every row, by their path.

    A member of an axis (classes, actions) is an object by its names; of a sequence, it is a list over the positions.
    What has no value is None.
    """
    columns = {name: _plain(recorded.values(name), _block(recorded, name)) for name in recorded.names}
    inner = {block.name for block in recorded.layout.positions}
    inner |= {pick.name for pick in recorded.layout.picks if pick.of in inner}
    by_row = {name: _nested(values, recorded) if name in inner else values for name, values in columns.items()}
    return [dict(zip(by_row, values, strict=True)) for values in zip(*by_row.values(), strict=True)]


def flat_columns(row: Row) -> Iterator[tuple[str, Any]]:
    """Members of a row as columns of a table: an object has a column for each of its names."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{own}", inner) for own, inner in value.items())
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((f"{name}.{own}", [each[own] for each in value]) for own in value[0])
        else:
            yield name, value


def _block(recorded: Recorded, name: str) -> Block:
    picked = {pick.name: pick.of for pick in recorded.layout.picks}
    return Block(name, "numbers") if name in picked else recorded.block(name)


def _plain(values: Values, block: Block) -> list[Any]:
    cells = [_cells(column, block) for column in values.reshape(len(values), -1).T]
    if block.axis is None:
        return cells[0]
    return [dict(zip(block.axis, row, strict=True)) for row in zip(*cells, strict=True)]


def _cells(values: Values, block: Block) -> list[Any]:
    if block.kind == "names":
        names = block.names or ()
        return [names[place] if place >= 0 else None for place in values.tolist()]
    if block.kind == "flags":
        return [bool(flag) if flag >= 0 else None for flag in values.tolist()]
    return [value if is_known else None for value, is_known in zip(values.tolist(), np.isfinite(values), strict=True)]


def _nested(values: list[Any], recorded: Recorded) -> list[list[Any]]:
    lengths = np.zeros(0, dtype=np.intp) if recorded.lengths is None else recorded.lengths
    ends = np.cumsum(lengths).tolist()
    return [values[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
