"""Changes of a graph are checked on the rows of the dry run, or the import fails.

Tested in tests/conformance/test_tap.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.tap import Tapped
from service.importer.dry_run import Run
from service.importer.output_layout import as_table
from service.importer.sandbox import Arrays, Sandbox

TOLERANCE = 1e-6
Array = npt.NDArray[Any]


def check_same(child: Sandbox, graph: Path, run: Run, output: str, expected: Array) -> None:
    """Raise GraphError unless an output of appended operators equals what NumPy computes from the original."""
    found = answered(child, graph, run, output)
    if found.shape != expected.shape or not np.allclose(found, expected, atol=TOLERANCE):
        raise GraphError(
            f"output {output!r}, made from the graph's own, is not what it was made from; please report it"
        )


def check_tap(before: Array, run: Run, output: str, tapped: Tapped, logits: Array) -> None:
    """Raise GraphError unless a tapped graph, and its logits, give the probabilities that it gave before."""
    before = as_table(before)
    tolerance = max(TOLERANCE, float(np.finfo(run.answers[0][output].dtype).eps))
    after = as_table(run.joined(output))
    again = _linked(logits, tapped.link)
    if before.min() < 0:
        before, after = np.exp(before), np.exp(after)
    if again.shape[1] == 2 and before.shape[1] == 1:
        again = again[:, 1:]
    for values in (after, again):
        if values.shape != before.shape or np.abs(values - before).max() > tolerance:
            raise GraphError(
                f"--expose-logits: the probabilities of {output!r} cannot be made from {tapped.output!r} to within "
                f"{tolerance:g}; leave the flag out: calibration works on the logarithms of its probabilities"
            )


def answered(child: Sandbox, graph: Path, run: Run, output: str) -> Array:
    """An output of another graph for the rows of a run."""
    return np.concatenate([answer[output] for answer in child.run(graph, [output], run.feeds)])


def check_missing(child: Sandbox, graph: Path, run: Run, output: str) -> None:
    """Raise GraphError unless the graph answers with a number when any column of numbers is missing."""
    for f in run.filled:
        if f.features is None or f.input.is_flat or f.input.type not in {"FLOAT", "DOUBLE", "FLOAT16"}:
            continue
        for first in range(0, len(f.features), len(run.feeds[0][f.input.name])):
            feeds = _with_holes(run.feeds[0], f.input.name, first)
            if not np.isfinite(child.run(graph, [output], [feeds])[0][output]).all():
                raise GraphError(
                    f"--missing nan: with a value missing in input {f.input.name!r} the output is not finite; leave "
                    "the flag out, and declare missing = { impute = … } in the manifest where a value can stand in"
                )


def _with_holes(feeds: Arrays, name: str, first: int) -> Arrays:
    rows = feeds[name].copy()
    for row in range(min(len(rows), rows.shape[1] - first)):
        rows[row, first + row] = np.nan
    return {**feeds, name: rows}


def _linked(logits: Array, link: str) -> Array:
    if link == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    p = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return np.concatenate([1.0 - p, p], axis=1) if logits.shape[1] == 1 else p
