"""Which axes of an output hold rows, classes and positions, and the rewrite that brings them into that order.

Tested in tests/importer/test_analysis.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How an output is brought into shape.

    Attributes
    ----------
    rewrite : str or None
        One of `service.graph.rewrite.REWRITES`.
    positions : bool
        Whether there is an answer for every position of a row.
    evidence : str
    """

    rewrite: str | None
    positions: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of an output for some rows, for fewer rows, and for longer rows; and shapes of the inputs.

    The last two are None where the graph takes only one size.
    """

    rows: int
    base: tuple[int, ...]
    fewer: tuple[int, ...] | None
    longer: tuple[int, ...] | None
    inputs: tuple[tuple[int, ...], ...]


def lay_out(name: str, shapes: Shapes, classes: int | None) -> Layout:
    """Find the axes by what changes with the rows.

    Raises
    ------
    GraphError
        If there is not one answer for every row, or the axis of the classes is unknown.
    """
    axis = _row_axis(name, shapes)
    inner = shapes.base[1:]
    if axis == 1:
        return _labels(name, shapes)
    if len(inner) > 1 and (not _moves(shapes)) and sum(size > 1 for size in inner) <= 1:
        return Layout("flatten", positions=False, evidence=f"{_shown(shapes.base)}: axes of length 1 were dropped")
    if len(inner) <= 1:
        return Layout(None, positions=False, evidence="one answer for every row")
    if len(inner) == 2:
        return _sequence(name, shapes, classes)
    if len(inner) == 3:
        return _pixels(name, shapes, classes)
    raise GraphError(
        f"output {name!r} has shape {_shown(shapes.base)}; [rows, classes] or positions of them are needed"
    )


def _row_axis(name: str, shapes: Shapes) -> int:
    """The axis that follows the number of rows."""
    fewer = shapes.fewer
    if fewer is not None and len(fewer) == len(shapes.base):
        moved = [axis for axis, (a, b) in enumerate(zip(shapes.base, fewer, strict=True)) if a != b]
    else:
        moved = [axis for axis, size in enumerate(shapes.base) if size == shapes.rows]
    if moved and (moved[0] == 0 or (moved[0] == 1 and len(shapes.base) == 3)) and shapes.base[moved[0]] == shapes.rows:
        return moved[0]
    raise GraphError(
        f"output {name!r} has shape {_shown(shapes.base)} for {shapes.rows} rows; one answer for every row is needed, "
        "[rows, classes]"
    )


def _labels(name: str, shapes: Shapes) -> Layout:
    if shapes.base[2] != 2:
        raise GraphError(
            f"output {name!r} has shape {_shown(shapes.base)} with rows on axis 1; only [labels, rows, 2] is understood"
        )
    shown = f"[{shapes.base[0]}, rows, 2]"
    return Layout("labels", positions=False, evidence=f"{shown}: the second column of every label, rows first")


def _moves(shapes: Shapes) -> bool:
    return shapes.longer is not None and shapes.longer != shapes.base


def _sequence(name: str, shapes: Shapes, classes: int | None) -> Layout:
    _, a, b = shapes.base
    longer = shapes.longer or shapes.base
    if longer[1] != a or longer[2] != b:
        last = longer[1] != a
        return Layout(None if last else "channels last", positions=True, evidence="longer rows have more answers")
    if classes is not None and (a == classes) != (b == classes):
        last = b == classes
        return Layout(None if last else "channels last", positions=True, evidence=f"{classes} classes were named")
    lengths = {shape[1] for shape in shapes.inputs if len(shape) in (2, 3)}
    if (a in lengths) != (b in lengths):
        last = a in lengths
        return Layout(None if last else "channels last", positions=True, evidence="as many answers as positions go in")
    raise GraphError(_unknown_axis(name, shapes))


def _pixels(name: str, shapes: Shapes, classes: int | None) -> Layout:
    _, a, b, c = shapes.base
    sides = {shape[i : i + 2] for shape in shapes.inputs if len(shape) == 4 for i in (1, 2)}
    first, last = a == classes, c == classes
    if first == last:
        first, last = (b, c) in sides, (a, b) in sides
    if first == last:
        raise GraphError(_unknown_axis(name, shapes))
    rewrite = "pixels" if first else "pixels, channels last"
    return Layout(rewrite, positions=True, evidence=f"{_shown(shapes.base)}: pixels as positions, row by row")


def _unknown_axis(name: str, shapes: Shapes) -> str:
    return (
        f"output {name!r} has shape {_shown(shapes.base)}, and the axis of the classes is unknown; name the "
        "classes, their number shows it: --classes a,b,…"
    )


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def as_table(values: Array) -> Array:
    """Scores of shape (rows or positions, columns) in float64."""
    flat = np.asarray(values, dtype=np.float64)
    return flat[:, None] if flat.ndim == 1 else flat.reshape(-1, flat.shape[-1])
