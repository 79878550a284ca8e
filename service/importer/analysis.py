"""An .onnx file and what its user declares -> what the graph means, with the evidence for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from service.bundle.manifest import describe
from service.bundle.sections import Graph
from service.errors import GraphError, ManifestInvalid
from service.graph.inspect import inspect_graph
from service.graph.loading import readable
from service.graph.mixing import dynamic_operators
from service.graph.output_evidence import Output
from service.graph.rewrite import stack
from service.graph.tap import Tapped, expose_features, expose_logits
from service.importer.batch_dependence import check_batches
from service.importer.class_names import conclude_classes
from service.importer.column_domains import with_domains
from service.importer.constant_outputs import (
    is_constant,
    one_answer,
    refuse_constant,
    refuse_constant_softmax,
    refuse_one_column,
)
from service.importer.declared import DECLARED, Conclusion, Declared
from service.importer.dry_run import Run, dry_run
from service.importer.expected_probabilities import check_expected
from service.importer.input_plan import PlannedInput, plan
from service.importer.output_choice import choose_output
from service.importer.output_kind import conclude_kind, conclude_task
from service.importer.output_layout import as_table
from service.importer.output_shape import Scores, in_shape
from service.importer.predicted_label import compare_labels
from service.importer.rewrite_checks import answered, check_missing, check_tap
from service.importer.sandbox import SandboxLimits
from service.importer.working_graph import WorkingGraph, declare_widths, follow_specification, working_graph


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an import found.

    Attributes
    ----------
    conclusions : tuple of Conclusion
    inputs : tuple of PlannedInput
    graph : bytes or None
        The graph that the conclusions are about, where it is not the file itself.
    external_files : tuple of str
    """

    conclusions: tuple[Conclusion, ...]
    inputs: tuple[PlannedInput, ...]
    graph: bytes | None
    external_files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exposed:
    """The tensors of a graph that are read.

    Attributes
    ----------
    output : Output
        The one that was chosen.
    why : str
        Why that one.
    tapped : Tapped or None
        How logits were exposed behind it.
    features : str or None
        A tensor for feature scores.
    """

    output: Output
    why: str
    tapped: Tapped | None
    features: str | None

    @property
    def scored(self) -> Output:
        """What carries the scores: the output, or the logits behind it."""
        return self.output if self.tapped is None else Output(self.tapped.output, "logits", self.tapped.evidence)

    @property
    def served(self) -> list[str]:
        """Names of the tensors that a served model reads."""
        return [self.scored.name, *([self.features] if self.features else [])]


def analyse(path: Path, declared: Declared, limits: SandboxLimits) -> Analysis:
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
    with readable(path), working_graph(path, findings, limits) as graph:
        filled = plan(findings.inputs, declared.features, declared.width)
        declare_widths(graph, filled)
        filled = with_domains(graph.child, findings, graph.folder, filled)
        follow_specification(graph, filled)
        output, why = _chosen(graph, declared)
        refuse_constant(findings, output)
        return _conclude(graph, declared, filled, output, why)


def _chosen(graph: WorkingGraph, declared: Declared) -> tuple[Output, str]:
    names = tuple(part.strip() for part in (declared.output or "").split(","))
    known = {output.name: output for output in graph.findings.outputs}
    if len(names) < 2 or not set(names) <= set(known):
        return choose_output(graph.findings, declared)
    graph.changes.append(f"{', '.join(names)} were put side by side in one output")
    name = stack(graph.findings.model, names)
    kinds = {known[n].kind for n in names}
    return Output(name, kinds.pop() if len(kinds) == 1 else None, known[names[0]].evidence), DECLARED


def _conclude(
    graph: WorkingGraph, declared: Declared, filled: tuple[PlannedInput, ...], output: Output, why: str
) -> Analysis:
    before = graph.place()
    exposed = _exposed(graph, declared, output, why)
    run = _run(graph, exposed, filled)
    scores = in_shape(graph, declared, run, exposed.scored)
    batching = [check_batches(graph.child, graph.folder, run, graph.findings, name) for name in exposed.served]
    _refuse_uninformative(graph, exposed, run, scores)
    kind = _kind(graph, declared, exposed, run, scores, before=before)
    task = conclude_task(str(kind.value), declared, positions=scores.positions)
    columns = as_table(scores.values).shape[1]
    classes = conclude_classes(graph.findings, declared, columns, multilabel=task.value == "multilabel")
    own = _own_label(graph, run, exposed.scored, scores, (str(kind.value), str(task.value)))
    if declared.missing is not None:
        check_missing(graph.child, graph.place(), run, scores.name)
    meaning = (_output(exposed, scores), kind, task, classes)
    notes = [next(filter(None, batching), None), one_answer(as_table(scores.values)), own]
    notes.append(_expected(graph, declared, run, meaning))
    conclusions = (*meaning, *filter(None, notes), *_others(graph, declared, exposed.features))
    changed = graph.place().read_bytes() if graph.changes else None
    return Analysis(conclusions, run.filled, changed, graph.findings.external_files)


def _exposed(graph: WorkingGraph, declared: Declared, output: Output, why: str) -> Exposed:
    tapped = features = None
    if declared.expose_logits:
        tapped = expose_logits(graph.findings.model, output.name)
        graph.changes.append(f"{tapped.output!r} is an output now: {tapped.evidence}")
    if declared.expose_features is not None:
        features = expose_features(graph.findings.model, output.name, declared.expose_features)
        graph.changes.append(f"{features!r} is an output now, for feature scores")
    return Exposed(output, why, tapped, features)


def _run(graph: WorkingGraph, exposed: Exposed, filled: tuple[PlannedInput, ...]) -> Run:
    findings = graph.findings
    graph.child.alone = any(dynamic_operators(findings.model, name) for name in exposed.served)
    scored, *features = exposed.served
    outputs = dict.fromkeys([scored, exposed.output.name, *findings.labels, *features])
    return dry_run(graph.child, graph.place(), list(outputs), findings, filled)


def _refuse_uninformative(graph: WorkingGraph, exposed: Exposed, run: Run, scores: Scores) -> None:
    refuse_one_column(graph.findings, exposed.output, as_table(run.joined(exposed.output.name)))
    if is_constant(as_table(scores.values)):
        refuse_constant_softmax(graph.child, graph.folder, run, graph.findings, exposed.scored.name)


def _kind(
    graph: WorkingGraph, declared: Declared, exposed: Exposed, run: Run, scores: Scores, *, before: Path
) -> Conclusion:
    table, tapped, name = as_table(scores.values), exposed.tapped, exposed.output.name
    if tapped is None:
        return conclude_kind(scores.output, declared, table)
    check_tap(answered(graph.child, before, run, name), run, name, tapped, table)
    many = tapped.link == "sigmoid" and table.shape[1] > 1
    return Conclusion("output_kind", "sigmoid_logits" if many else "logits", tapped.evidence)


def _output(exposed: Exposed, scores: Scores) -> Conclusion:
    why = exposed.why if exposed.tapped is None else exposed.tapped.evidence
    return Conclusion("output", scores.name, "; ".join(filter(None, (why, scores.evidence))))


def _expected(graph: WorkingGraph, declared: Declared, run: Run, meaning: Iterable[Conclusion]) -> Conclusion | None:
    if declared.expect is None:
        return None
    return check_expected(graph.child, graph.place(), run.filled, _meaning(meaning), declared)


def _meaning(conclusions: Iterable[Conclusion]) -> Graph:
    try:
        return Graph.model_validate({c.subject: c.value for c in conclusions})
    except ValidationError as error:
        raise ManifestInvalid(f"graph: {describe(error)}") from None


def _own_label(
    graph: WorkingGraph, run: Run, scored: Output, scores: Scores, kind_and_task: tuple[str, str]
) -> Conclusion | None:
    kind, task = kind_and_task
    if task != "multiclass":
        return None
    rows = run.shapes(scored.name).rows
    return compare_labels(run.answers[0], graph.findings, scores.values[:rows].reshape(rows, -1), kind)


def _others(graph: WorkingGraph, declared: Declared, features: str | None) -> Iterator[Conclusion]:
    if graph.changes:
        yield Conclusion("graph", "rewritten", "; ".join(graph.changes))
    if declared.missing is not None:
        yield Conclusion("missing", declared.missing, DECLARED)
    elif graph.findings.handles_missing is not None:
        yield Conclusion("missing", "reject", f"{graph.findings.handles_missing} would take NaN: --missing nan lets it")
    if features is not None:
        yield Conclusion("features", features, f'[ood] space = "{features}" lets feature scores look at it')
