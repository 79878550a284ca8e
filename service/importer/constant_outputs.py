"""Outputs that are the same for all rows: refused where the graph proves it, noted where synthetic rows show it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.inspect import Findings
from service.graph.mixing import exposed
from service.graph.output_evidence import Output, constant_answer, normalisations
from service.graph.rewrite import save
from service.graph.walk import view
from service.importer.declared import Conclusion
from service.importer.dry_run import Run
from service.importer.sandbox import Sandbox

SAME: Final = 1e-6
Array = npt.NDArray[Any]


def refuse_constant(findings: Findings, output: Output) -> None:
    """Raise GraphError if no operator behind an output looks at a value of an input."""
    if reason := findings.constant.get(output.name):
        raise GraphError(f"output {output.name!r} does not depend on the input: {reason}; it cannot separate classes")


def refuse_one_column(findings: Findings, output: Output, values: Array) -> None:
    """Raise GraphError if an output, shape (rows, columns), is a softmax over an axis of length one."""
    always = next((number for number in (0.0, 1.0) if np.abs(values - number).max() <= SAME), None)
    if output.name in findings.normalised and always is not None:
        raise GraphError(
            f"output {output.name!r} is {always:g} for every row: a softmax over one column, or an axis of length 1 "
            f"({output.evidence}); such a network has learned nothing: train it with a sigmoid, or with a column for "
            "every class"
        )


def refuse_constant_softmax(child: Sandbox, folder: Path, run: Run, findings: Findings, name: str) -> None:
    """Raise GraphError if a tensor depends on the rows only through softmaxes over one column.

    Called where all synthetic rows got the same scores; the length of an axis is what a run shows.
    """
    graph = view(findings.model)
    found = normalisations(graph, name)
    if not found:
        return
    path = folder / "normalised.onnx"
    save(exposed(findings.model, tuple(tensor for tensor, _ in found)), path)
    (answer,) = child.run(path, [tensor for tensor, _ in found], run.feeds[:1])
    one = {tensor for tensor, axes in found if np.prod(answer[tensor].shape[axes]) == 1}
    inputs = frozenset(f.input.name for f in run.filled)
    if one and constant_answer(graph, name, inputs, frozenset(one)):
        raise GraphError(
            f"output {name!r} is the same for every row: it depends on a row only through a softmax over one column, "
            "or an axis of length 1, which is always 1; train the network with a sigmoid, or with a column for every "
            "class"
        )


def is_constant(table: Array) -> bool:
    """Whether all rows of a table, shape (rows, columns), are the same."""
    return len(table) > 1 and float(np.ptp(table, axis=0).max()) <= SAME


def one_answer(table: Array) -> Conclusion | None:
    """A note that all synthetic rows gave one answer: unscaled inputs cause it, and so does a broken export."""
    if len(table) < 2:
        return None
    if is_constant(table):
        what = "the same scores"
    elif table.shape[1] > 1 and np.ptp(table.argmax(axis=1)) == 0:
        what = "the same class"
    else:
        return None
    note = "usual where inputs are not scaled; give the toolchain's own answers to be sure: --expect"
    return Conclusion("dry run", "one answer", f"all {len(table)} synthetic rows got {what}: {note}")
