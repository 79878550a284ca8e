"""What the record holds of one row, by the paths of its members, as JSON has it."""

from typing import Any

import numpy as np

from service.prediction.record_layout import Block
from service.prediction.record_reader import Recorded

Json = dict[str, Any]


def row_values(recorded: Recorded, row: int) -> Json:
    """Values of every member of a row; of a sequence, members of positions are lists over its positions.

    Parameters
    ----------
    recorded : Recorded
    row : int
        Among all its rows, from 0.
    """
    of_positions = {block.name for block in recorded.layout.positions}
    of_positions |= {pick.name for pick in recorded.layout.picks if pick.by in of_positions}
    found: Json = {}
    for name in recorded.names:
        values = recorded.values(name)
        if name in of_positions:
            found[name] = [_value(recorded, name, one) for one in values[_positions(recorded, row)]]
        else:
            found[name] = _value(recorded, name, values[row])
    return found


def _positions(recorded: Recorded, row: int) -> slice:
    lengths = recorded.lengths
    if lengths is None:
        return slice(row, row + 1)
    start = int(np.sum(lengths[:row]))
    return slice(start, start + int(lengths[row]))


def _value(recorded: Recorded, name: str, value: Any) -> Any:
    if name in {pick.name for pick in recorded.layout.picks}:
        return _item(None, value)
    block = recorded.block(name)
    if block.axis is None:
        return _item(block, value)
    return {label: _item(block, item) for label, item in zip(block.axis, value, strict=True)}


def _item(block: Block | None, value: Any) -> Any:
    if block is not None and block.kind == "flags":
        return None if value < 0 else bool(value)
    if block is not None and block.kind == "names":
        names = block.names or ()
        return names[int(value)] if value >= 0 else None
    return float(value) if np.isfinite(value) else None
