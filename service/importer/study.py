"""From an .onnx file and what its user says to a manifest, and to the graph that the manifest speaks of."""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from service.bundle.manifest import describe
from service.bundle.sections import Graph
from service.errors import GraphError, ManifestInvalid
from service.graph.evidence import Output
from service.graph.inspect import Findings, inspect_graph
from service.graph.loading import readable
from service.graph.mixing import dynamic_operators
from service.graph.rewrite import REWRITES, apply, save, set_width, stack
from service.graph.specification import spell_transforms
from service.graph.tap import Tapped, expose_features, expose_logits
from service.importer.batches import check_batches
from service.importer.class_names import LEAST_AGREEMENT, agreement, choose_output, compare_labels, conclude_classes
from service.importer.constancy import (
    SAME,
    is_constant,
    one_answer,
    refuse_constant,
    refuse_constant_softmax,
    refuse_one_column,
)
from service.importer.declared import SAID, Conclusion, Declared
from service.importer.domains import with_domains
from service.importer.dry_run import Run, dry_run
from service.importer.expected import check_expected
from service.importer.feeds import SIZES, Filled, draw, plan, rows_at_once
from service.importer.kinds import conclude_kind, conclude_task, is_pair
from service.importer.layout import Layout, as_table, lay_out
from service.importer.proof import answered, check_missing, check_same, check_tap
from service.importer.sandbox import Limits, Sandbox, sandbox
from service.runtime.logits import SUM_TOLERANCE

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Study:
    """What an import found out.

    Attributes
    ----------
    conclusions : tuple of Conclusion
    inputs : tuple of Filled
    graph : bytes or None
        The graph that the conclusions speak of, where it is not the file itself.
    external_files : tuple of str
    """

    conclusions: tuple[Conclusion, ...]
    inputs: tuple[Filled, ...]
    graph: bytes | None
    external_files: tuple[str, ...]


@dataclass
class Bench:
    """A graph under the knife, and the child that runs what becomes of it.

    ``linked`` says that the file or its weights are symbolic links, which may lead out of the folder.
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


def study(path: Path, declared: Declared, limits: Limits) -> Study:
    """Find out what a graph means.

    Raises
    ------
    GraphError
        If the file cannot be used, or its meaning must be declared.
    ManifestInvalid
        If the user names the graph's classes in another order.
    """
    findings = inspect_graph(path)
    if findings.clusters and declared.output_kind is None:
        raise GraphError(
            f"{path} assigns rows to the nearest of several centres (ArgMin): a clusterer, whose scores are distances; "
            "a classifier's logits or probabilities are needed"
        )
    with readable(path), _bench(path, findings, limits) as bench:
        filled = plan(findings.inputs, declared.features, declared.width)
        _declare_widths(bench, filled)
        filled = with_domains(bench.child, findings, bench.folder, filled)
        _follow_specification(bench, filled)
        output, why = _chosen(bench, declared)
        refuse_constant(findings, output)
        return _conclude(bench, declared, filled, output, why)


@contextmanager
def _bench(path: Path, findings: Findings, limits: Limits) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="temperance-") as folder, sandbox(path, limits) as child:
        for name in findings.external_files:
            _beside((path.parent / name).resolve(), Path(folder) / name)
        linked = any(file.is_symlink() for file in (path, *(path.parent / name for name in findings.external_files)))
        yield Bench(path, findings, Path(folder), child, list(findings.changes), linked)


def _beside(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _declare_widths(bench: Bench, filled: tuple[Filled, ...]) -> None:
    for f in filled:
        dims, width = f.input.dims, len(f.features or ())
        if (
            f.features is not None
            and not f.input.is_flat
            and (dims is None or (isinstance(dims[1], int) and dims[1] != width))
        ):
            set_width(bench.findings.model, f.input.name, width)
            bench.changes.append(f"input {f.input.name!r} is declared as rows of {width} columns")


def _follow_specification(bench: Bench, filled: tuple[Filled, ...]) -> None:
    """Write transforms out in standard operators, if the dry run shows that the runtime reads them otherwise."""
    outputs, model = [o.name for o in bench.findings.outputs], bench.findings.model
    before, place = copy.deepcopy(model), bench.place()
    if not outputs or not (done := spell_transforms(model)):
        return
    feeds = [draw(filled, rows_at_once(filled, SIZES[0]), SIZES[0])]
    as_it_is = bench.child.run(place, outputs, feeds)[0]
    bench.changes += done
    spelled = bench.child.run(bench.place(), outputs, feeds)[0]
    if all(np.allclose(as_it_is[n], spelled[n], atol=SAME, equal_nan=True) for n in outputs):
        del bench.changes[-len(done) :]
        model.CopyFrom(before)
    else:
        bench.changes.append("ONNX Runtime computes something else on synthetic rows")


def _chosen(bench: Bench, declared: Declared) -> tuple[Output, str]:
    names = tuple(part.strip() for part in (declared.output or "").split(","))
    known = {output.name: output for output in bench.findings.outputs}
    if len(names) < 2 or not set(names) <= set(known):
        return choose_output(bench.findings, declared)
    bench.changes.append(f"{', '.join(names)} were put side by side in one output")
    name = stack(bench.findings.model, names)
    kinds = {known[n].kind for n in names}
    return Output(name, kinds.pop() if len(kinds) == 1 else None, known[names[0]].evidence), SAID


def _conclude(bench: Bench, declared: Declared, filled: tuple[Filled, ...], output: Output, why: str) -> Study:
    before = bench.place()
    tapped, features = _tap(bench, declared, output)
    scored = output if tapped is None else Output(tapped.output, "logits", tapped.evidence)
    wanted = dict.fromkeys([scored.name, output.name, *bench.findings.labels, *([features] if features else [])])
    read = [scored.name, *([features] if features else [])]
    bench.child.alone = any(dynamic_operators(bench.findings.model, name) for name in read)
    run = dry_run(bench.child, bench.place(), list(wanted), bench.findings, filled)
    scores = _in_shape(bench, declared, run, scored)
    batching = [check_batches(bench.child, bench.folder, run, bench.findings, name) for name in read]
    table = as_table(scores.values)
    refuse_one_column(bench.findings, output, as_table(run.joined(output.name)))
    if is_constant(table):
        refuse_constant_softmax(bench.child, bench.folder, run, bench.findings, scored.name)
    if tapped is None:
        kind = conclude_kind(scores.output, declared, table)
    else:
        check_tap(answered(bench.child, before, run, output.name), run, output.name, tapped, table)
        many = tapped.link == "sigmoid" and table.shape[1] > 1
        kind = Conclusion("output_kind", "sigmoid_logits" if many else "logits", tapped.evidence)
    task = conclude_task(str(kind.value), declared, positions=scores.positions)
    classes = conclude_classes(bench.findings, declared, table.shape[1], multilabel=task.value == "multilabel")
    notes = [next(filter(None, batching), None), one_answer(table)]
    notes.append(_own_label(bench, run, scored, scores, (str(kind.value), str(task.value))))
    if declared.missing is not None:
        check_missing(bench.child, bench.place(), run, scores.name)
    reasons = filter(None, (why if tapped is None else tapped.evidence, scores.evidence))
    found = Conclusion("output", scores.name, "; ".join(reasons))
    changed = bench.place().read_bytes() if bench.changes else None
    if declared.expect is not None:
        meaning = _meaning(found, kind, task, classes)
        notes.append(check_expected(bench.child, bench.place(), run.filled, meaning, declared))
    said = (note for note in notes if note is not None)
    return Study(
        (found, kind, task, classes, *said, *_others(bench, declared, features)),
        run.filled,
        changed,
        bench.findings.external_files,
    )


def _meaning(*conclusions: Conclusion) -> Graph:
    try:
        return Graph.model_validate({c.subject: c.value for c in conclusions})
    except ValidationError as error:
        raise ManifestInvalid(f"graph: {describe(error)}") from None


def _own_label(
    bench: Bench, run: Run, scored: Output, scores: Scores, kind_and_task: tuple[str, str]
) -> Conclusion | None:
    kind, task = kind_and_task
    if task != "multiclass":
        return None
    rows = run.shapes(scored.name).rows
    return compare_labels(run.answers[0], bench.findings, scores.values[:rows].reshape(rows, -1), kind)


def _tap(bench: Bench, declared: Declared, output: Output) -> tuple[Tapped | None, str | None]:
    tapped = features = None
    if declared.expose_logits:
        tapped = expose_logits(bench.findings.model, output.name)
        bench.changes.append(f"{tapped.output!r} is an output now: {tapped.evidence}")
    if declared.expose_features is not None:
        features = expose_features(bench.findings.model, output.name, declared.expose_features)
        bench.changes.append(f"{features!r} is an output now, for feature scores")
    return tapped, features


def _in_shape(bench: Bench, declared: Declared, run: Run, scored: Output) -> Scores:
    """Scores as `[rows, classes]` or `[rows, positions, classes]`, by operators that are appended where need be."""
    classes = None if declared.classes is None else len(declared.classes)
    layout = lay_out(scored.name, run.shapes(scored.name), classes)
    steps = [] if layout.rewrite is None else [layout.rewrite]
    notes = [] if layout.rewrite is None and not layout.positions else [layout.evidence]
    values = _through(steps, run, scored.name)
    if declared.output_kind is None and is_pair(scored, as_table(values)):
        share = agreement(run.answers[0], bench.findings, (values[: run.shapes(scored.name).rows, 1] > 0).astype(int))
        steps.append("first column" if share is not None and share < LEAST_AGREEMENT else "second column")
        notes.append(f"the columns are one margin and its negative: the {steps[-1]} is the second class' logit")
        values = _through(steps, run, scored.name)
    name = scored.name
    for step in steps:
        name = apply(bench.findings.model, name, step)
        bench.changes.append(f"{name!r} is {scored.name!r} brought into shape")
    if steps:
        check_same(bench.child, bench.place(), run, name, values)
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


def _others(bench: Bench, declared: Declared, features: str | None) -> Iterator[Conclusion]:
    if bench.changes:
        yield Conclusion("graph", "rewritten", "; ".join(bench.changes))
    if declared.missing is not None:
        yield Conclusion("missing", declared.missing, SAID)
    elif bench.findings.handles_missing is not None:
        yield Conclusion("missing", "reject", f"{bench.findings.handles_missing} would take NaN: --missing nan lets it")
    if features is not None:
        yield Conclusion("features", features, f'[ood] space = "{features}" lets feature scores look at it')
