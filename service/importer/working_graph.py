"""The graph that an import works on: changed where it must be, and run by a child process after every change.

Tested in tests/importer/test_analysis.py.
"""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from service.graph.inspect import Findings
from service.graph.rewrite import save, set_width
from service.graph.specification import spell_transforms
from service.importer.constant_outputs import SAME
from service.importer.input_plan import PlannedInput
from service.importer.sandbox import Sandbox, SandboxLimits, sandbox
from service.importer.synthetic_rows import SIZES, draw, rows_at_once


@dataclass
class WorkingGraph:
    """A graph while it is analysed.

    Attributes
    ----------
    path : Path
        The file.
    findings : Findings
        What its operators show; ``findings.model`` is what is changed.
    folder : Path
        Temporary, for changed graphs and the weights beside them.
    child : Sandbox
        Runs them.
    changes : list of str
        What was changed, in words.
    linked : bool
        Whether the file or its weights are symbolic links, which may lead out of its folder.
    """

    path: Path
    findings: Findings
    folder: Path
    child: Sandbox
    changes: list[str] = field(default_factory=list)
    linked: bool = False

    def place(self) -> Path:
        """The graph as it is now, as a file with its weights beside it."""
        if not self.changes and not self.linked:
            return self.path
        target = self.folder / f"graph-{len(self.changes)}.onnx"
        save(self.findings.model, target)
        return target


@contextmanager
def working_graph(path: Path, findings: Findings, limits: SandboxLimits) -> Iterator[WorkingGraph]:
    """A graph with its weights beside it in a temporary folder, and a child process that runs it."""
    with tempfile.TemporaryDirectory(prefix="temperance-") as folder, sandbox(path, limits) as child:
        for name in findings.external_files:
            _beside((path.parent / name).resolve(), Path(folder) / name)
        linked = any(file.is_symlink() for file in (path, *(path.parent / name for name in findings.external_files)))
        yield WorkingGraph(path, findings, Path(folder), child, list(findings.changes), linked)


def _beside(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def declare_widths(graph: WorkingGraph, filled: tuple[PlannedInput, ...]) -> None:
    """Write the width of a table into the graph where the graph leaves it open or names another one."""
    for f in filled:
        dims, width = f.input.dims, len(f.features or ())
        if (
            f.features is not None
            and not f.input.is_flat
            and (dims is None or (isinstance(dims[1], int) and dims[1] != width))
        ):
            set_width(graph.findings.model, f.input.name, width)
            graph.changes.append(f"input {f.input.name!r} is declared as rows of {width} columns")


def follow_specification(graph: WorkingGraph, filled: tuple[PlannedInput, ...]) -> None:
    """Write transforms out in standard operators, if the dry run shows that the runtime reads them otherwise."""
    outputs, model = [o.name for o in graph.findings.outputs], graph.findings.model
    before, place = copy.deepcopy(model), graph.place()
    if not outputs or not (done := spell_transforms(model)):
        return
    feeds = [draw(filled, rows_at_once(filled, SIZES[0]), SIZES[0])]
    as_it_is = graph.child.run(place, outputs, feeds)[0]
    graph.changes += done
    spelled = graph.child.run(graph.place(), outputs, feeds)[0]
    if all(np.allclose(as_it_is[n], spelled[n], atol=SAME, equal_nan=True) for n in outputs):
        del graph.changes[-len(done) :]
        model.CopyFrom(before)
    else:
        graph.changes.append("ONNX Runtime computes something else on synthetic rows")
