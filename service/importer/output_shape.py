"""Scores brought into the shape `[rows, classes]` or `[rows, positions, classes]`.

Tested in tests/importer/test_analysis.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.graph.output_evidence import Output
from service.graph.rewrite import REWRITES, apply
from service.importer.declared import Declared
from service.importer.dry_run import Run
from service.importer.output_kind import is_pair
from service.importer.output_layout import Layout, as_table, lay_out
from service.importer.predicted_label import LEAST_AGREEMENT, agreement
from service.importer.rewrite_checks import check_same
from service.importer.working_graph import WorkingGraph
from service.runtime.logits import SUM_TOLERANCE

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in shape.

    Attributes
    ----------
    name : str
        Of the output that holds them.
    output : Output
        What its operators prove.
    values : ndarray
        Of all synthetic rows.
    positions : bool
    evidence : str or None
        How they were brought into shape.
    """

    name: str
    output: Output
    values: Array
    positions: bool
    evidence: str | None


def in_shape(graph: WorkingGraph, declared: Declared, run: Run, scored: Output) -> Scores:
    """Scores as `[rows, classes]` or `[rows, positions, classes]`, by operators that are appended where need be."""
    classes = None if declared.classes is None else len(declared.classes)
    layout = lay_out(scored.name, run.shapes(scored.name), classes)
    steps = [] if layout.rewrite is None else [layout.rewrite]
    notes = [] if layout.rewrite is None and not layout.positions else [layout.evidence]
    values = _through(steps, run, scored.name)
    if declared.output_kind is None and is_pair(scored, as_table(values)):
        share = agreement(run.answers[0], graph.findings, (values[: run.shapes(scored.name).rows, 1] > 0).astype(int))
        steps.append("first column" if share is not None and share < LEAST_AGREEMENT else "second column")
        notes.append(f"the columns are one margin and its negative: the {steps[-1]} is the second class' logit")
        values = _through(steps, run, scored.name)
    name = scored.name
    for step in steps:
        name = apply(graph.findings.model, name, step)
        graph.changes.append(f"{name!r} is {scored.name!r} brought into shape")
    if steps:
        check_same(graph.child, graph.place(), run, name, values)
    return Scores(name, _of_pairs(layout, run, scored), values, layout.positions, "; ".join(notes) or None)


def _through(steps: list[str], run: Run, name: str) -> Array:
    parts = []
    for answer in run.answers:
        values = answer[name]
        for step in steps:
            values = REWRITES[step][1](values)
        parts.append(values)
    return np.concatenate(parts)


def _of_pairs(layout: Layout, run: Run, scored: Output) -> Output:
    """Pairs of absent and present are sigmoids, whatever operator averaged them."""
    pairs = run.answers[0][scored.name]
    if layout.rewrite != "labels" or np.abs(pairs.sum(axis=2) - 1.0).max() > SUM_TOLERANCE:
        return scored
    return Output(scored.name, "sigmoid", f"pairs of absent and present that sum to 1 ({scored.evidence})")
