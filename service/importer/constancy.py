"""Outputs that cannot tell rows apart: refused where the graph proves it, said where only synthetic rows show it."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.evidence import Output
from service.graph.inspect import Findings
from service.importer.declared import Conclusion

SAME: Final = 1e-6
Array = npt.NDArray[Any]


def refuse_constant(findings: Findings, output: Output) -> None:
    """Raise GraphError if no operator behind an output looks at a value of an input."""
    if reason := findings.constant.get(output.name):
        raise GraphError(f"output {output.name!r} does not depend on the input: {reason}; it cannot tell classes apart")


def refuse_one_column(findings: Findings, output: Output, values: Array) -> None:
    """Raise GraphError if an output, shape (rows, columns), is a softmax over an axis of length one."""
    always = next((number for number in (0.0, 1.0) if np.abs(values - number).max() <= SAME), None)
    if output.name in findings.normalised and always is not None:
        raise GraphError(
            f"output {output.name!r} is {always:g} for every row: a softmax over one column, or an axis of length 1 "
            f"({output.evidence}); such a network has learned nothing: train it with a sigmoid, or with a column for "
            "every class"
        )


def one_answer(table: Array) -> Conclusion | None:
    """Say that all synthetic rows gave one answer: inputs that are not scaled do it, and so does a broken export."""
    if len(table) < 2:
        return None
    if np.ptp(table, axis=0).max() <= SAME:
        what = "the same scores"
    elif table.shape[1] > 1 and np.ptp(table.argmax(axis=1)) == 0:
        what = "the same class"
    else:
        return None
    note = "usual where inputs are not scaled; give the toolchain's own answers to be sure: --expect"
    return Conclusion("dry run", "one answer", f"all {len(table)} synthetic rows got {what}: {note}")
