"""A graph run twice on synthetic rows, then on fewer and on longer ones: its outputs, and how they follow the rows.

Tested in tests/importer/test_analysis.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.inspect import Findings
from service.importer.input_plan import LARGEST_ROW, PlannedInput, with_mask
from service.importer.output_layout import Shapes
from service.importer.sandbox import Arrays, Sandbox
from service.importer.synthetic_rows import LONGER, SIZES, cells_of, draw, pad, rows_at_once

MASK_TOLERANCE = 1e-4
QUANTISED_TOLERANCE = 0.05  # padding changes the scale of rows that run alone; served, those are never padded
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Outputs of a graph.

    Attributes
    ----------
    filled : tuple of PlannedInput
        Its inputs; with a mask where padding proved to change nothing.
    feeds : list of Arrays
        One set of rows; several where the graph takes a fixed number at a time.
    answers : list of Arrays
        By output, for each of them.
    fewer, longer : Arrays or None
        The same for fewer rows, and for rows of twice the size where their dimensions vary, if the graph takes them.
    size : int
        Size of the dimensions that vary.
    """

    filled: tuple[PlannedInput, ...]
    feeds: list[Arrays]
    answers: list[Arrays]
    fewer: Arrays | None
    longer: Arrays | None
    size: int

    def shapes(self, output: str) -> Shapes:
        """How an output's shape follows the rows'."""
        rows = len(next(iter(self.feeds[0].values())))
        fewer, longer = (None if a is None else a[output].shape for a in (self.fewer, self.longer))
        inputs = tuple(self.feeds[0][f.input.name].shape for f in self.filled if f.features is None)
        return Shapes(rows, self.answers[0][output].shape, fewer, longer, inputs)

    def joined(self, output: str) -> Array:
        """An output of all rows, whatever axis they lie on in the first place."""
        return np.concatenate([answer[output] for answer in self.answers])


def dry_run(
    child: Sandbox, graph: Path, outputs: Sequence[str], findings: Findings, filled: tuple[PlannedInput, ...]
) -> Run:
    """Run a graph, and check that its outputs are finite and repeatable.

    Raises
    ------
    GraphError
        If it fails, or an output is not finite or differs the second time.
    """
    size, feeds, both = _first_that_runs(child, graph, outputs, filled)
    answers, again = both[: len(feeds)], both[len(feeds) :]
    for name in outputs:
        _check(name, [a[name] for a in answers], [a[name] for a in again], findings)
    rows = rows_at_once(filled, size)
    several = all(f.input.batch is None for f in filled)
    fewer = child.run(graph, outputs, [draw(filled, rows - 1, size)])[0] if several and rows > 1 else None
    doubled = any(map(_free, filled)) and cells_of(filled, 2 * size) <= LARGEST_ROW
    longer = _tried(child, graph, outputs, draw(filled, rows, 2 * size)) if doubled else None
    return Run(_masked(child, graph, outputs[0], filled, feeds[0]), feeds, answers, fewer, longer, size)


def _first_that_runs(
    child: Sandbox, graph: Path, outputs: Sequence[str], filled: tuple[PlannedInput, ...]
) -> tuple[int, list[Arrays], list[Arrays]]:
    """Dimensions that vary must have some size; the first of a few that the graph takes."""
    several = (size for size in SIZES[1:] if cells_of(filled, size) <= LARGEST_ROW)
    sizes = (SIZES[0], *several) if any(_free(f) for f in filled) else SIZES[:1]
    failure = GraphError("the graph was never run")
    for size in sizes:
        rows = rows_at_once(filled, size)
        batches = -(-rows_at_once(filled, size, several=True) // rows) if _fixed(filled) else 1
        feeds = [draw(filled, rows, size, seed=seed) for seed in range(batches)]
        try:
            return size, feeds, child.run(graph, outputs, [*feeds, *feeds])  # twice, in one session
        except GraphError as error:
            if not str(error).startswith("the graph fails"):
                raise
            failure = error
    raise failure


def _free(f: PlannedInput) -> bool:
    return f.features is None and any(not isinstance(d, int) for d in (f.input.dims or ())[1:])


def _fixed(filled: tuple[PlannedInput, ...]) -> bool:
    return any(f.input.batch is not None for f in filled)


def _tried(child: Sandbox, graph: Path, outputs: Sequence[str], feeds: Arrays) -> Arrays | None:
    try:
        return child.run(graph, outputs, [feeds])[0]
    except GraphError:
        return None  # it declares a dimension that varies, and takes one size only


def _masked(
    child: Sandbox, graph: Path, output: str, filled: tuple[PlannedInput, ...], feeds: Arrays
) -> tuple[PlannedInput, ...]:
    """The inputs with a mask, if padded rows with it answer as they do without."""
    candidate = with_mask(filled)
    if candidate is None:
        return filled
    plain, padded = (_tried(child, graph, [output], f) for f in (feeds, pad(candidate, feeds, LONGER)))
    if plain is None or padded is None:
        return filled
    short, long = plain[output], padded[output]
    if long.shape != short.shape:
        long = long[tuple(slice(n) for n in short.shape)]
    tolerance = QUANTISED_TOLERANCE if child.alone else MASK_TOLERANCE
    same = long.shape == short.shape and np.allclose(long, short, atol=tolerance, rtol=tolerance)
    return candidate if same else filled


def _check(name: str, first: list[Array], second: list[Array], findings: Findings) -> None:
    if any(a.dtype.kind not in "fiub" for a in first):
        return
    if not all(np.isfinite(a).all() for a in first):
        raise GraphError(
            f"output {name!r} is not finite on synthetic rows: it holds NaN or infinity; look for a logarithm or a "
            "division without a floor, or float16 that overflows, and export the model again"
        )
    if not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        named = f" (it uses {', '.join(findings.random)})" if findings.random else ""
        raise GraphError(
            f"output {name!r} differs between two runs on the same rows{named}; such outputs cannot be reproduced: "
            "export the model in evaluation mode"
        )
