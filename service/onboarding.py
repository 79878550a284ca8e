"""How a model gets into the repository: from an .onnx file to a draft, from a draft to a version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tomlkit

from service.bundle.manifest import MANIFEST_FILE, Manifest, parse_manifest
from service.bundle.repository import GRAPH_FILE, Bundle, Repository, graph_sha256
from service.bundle.writer import FIRST_ALIAS, create_draft, draft_files, publish
from service.core.utility import dominated_actions
from service.errors import BundleNotFound, GraphError
from service.graph.inspect import Findings, Output, check_class_order, check_draft, inspect_graph
from service.runtime.model import load_model, tables_of
from service.runtime.outputs import RANGE_TOLERANCE, SUM_TOLERANCE
from service.runtime.session import DTYPES, Session, Tensor

PROBE_ROWS = 16


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user says about a graph; None leaves it to the evidence.

    Attributes
    ----------
    output, output_kind, task : str or None
    classes, features : tuple of str or None
    """

    output: str | None = None
    output_kind: str | None = None
    task: str | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """One thing that an import found out, and from what."""

    subject: str
    value: str | tuple[str, ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A draft, and the conclusions in it."""

    draft: Path
    conclusions: tuple[Conclusion, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A version. ``why_uncalibrated`` is None when the draft's calibration holds for it."""

    version: int
    why_uncalibrated: str | None


def import_model(repository: Repository, name: str, path: Path, declared: Declared, *, force: bool = False) -> Imported:
    """Make a draft from an .onnx file.

    Evidence is taken in this order: what the user says, the graph's operators and attributes, one double run on
    synthetic rows. What none of them tells is asked for, by the flag that answers it.

    Raises
    ------
    GraphError
        If the file cannot be loaded, or its meaning must be declared.
    DraftExists
    """
    findings = inspect_graph(path)
    session = Session(path)
    output = _choose_output(findings, declared)
    inputs = _name_columns(session.inputs, declared)
    probe = _probe(session, output.name, inputs)
    kind = _conclude_kind(output, declared, probe)
    classes = _conclude_classes(findings, declared, probe)
    conclusions = (
        Conclusion("output", output.name, _said(declared.output, "the only floating-point tensor")),
        kind,
        classes,
    )
    text = _manifest_text(name, declared, conclusions, inputs)
    parse_manifest(text)
    files: dict[str, Path | str] = {GRAPH_FILE: path, MANIFEST_FILE: text}
    files |= {file: path.parent / file for file in findings.external_files}
    return Imported(create_draft(repository, name, files, force=force), conclusions)


def open_draft(repository: Repository, name: str, version: int | None = None) -> Path:
    """Make a draft from a published version (by default `stable`), calibration included.

    Raises
    ------
    DraftExists, BundleNotFound
    """
    chosen = version or repository.aliases(name).get(FIRST_ALIAS)
    if chosen is None:
        raise BundleNotFound(f"{name} has no published version to start from")
    return create_draft(repository, name, draft_files(repository.bundle(name, chosen)))


def publish_draft(repository: Repository, name: str) -> Published:
    """Publish a draft as it is, with its calibration if that still holds for it.

    Raises
    ------
    BundleNotFound, ManifestInvalid, GraphError
    """
    draft = repository.draft(name)
    check_draft(draft)
    reason = why_uncalibrated(draft)
    kept = draft if reason is None else _without_calibration(draft)
    load_model(kept)
    return Published(publish(repository, kept, record=kept.record, state=kept.state), reason)


def why_uncalibrated(draft: Bundle) -> str | None:
    """Why a draft's calibration does not hold for it, in words; None when it does."""
    if draft.record is None:
        return "it was never fitted"
    if draft.record.graph_sha256 != graph_sha256(draft.path):
        return "the graph changed"
    current = draft.manifest.fingerprints()
    changed = [section for section, value in draft.record.sections.items() if current.get(section) != value]
    return f"[{'], ['.join(changed)}] changed" if changed else None


def never_taken(manifest: Manifest) -> list[str]:
    """A sentence for every action that costs never choose, because another costs no more in any class and less in some.

    Not for the action that takes flagged rows over: its price may well be one that no unflagged row would pay.
    """
    sentences: dict[tuple[str, int], str] = {}
    for name, section in manifest.policies.items():
        for title, policy in tables_of(name, section, manifest.graph.classes).items():
            for worse, better in dominated_actions(policy.cost):
                if worse != policy.on_ood:
                    beaten, by = policy.actions[worse], policy.actions[better]
                    said = f"{title}: action {beaten!r} is never taken: {by!r} costs no more in any class"
                    sentences.setdefault((title, worse), said)
    return list(sentences.values())


def _without_calibration(draft: Bundle) -> Bundle:
    return Bundle(draft.name, draft.version, draft.path, draft.manifest, None, {}, draft.digest)


def _choose_output(findings: Findings, declared: Declared) -> Output:
    names = [output.name for output in findings.outputs]
    if declared.output is not None:
        for output in findings.outputs:
            if output.name == declared.output:
                return output
        raise GraphError(f"--output: the graph has no such floating-point tensor (it has {', '.join(names) or 'none'})")
    if len(names) == 1:
        return findings.outputs[0]
    if names:
        raise GraphError(f"the graph has several outputs; say which carries the scores: --output {'|'.join(names)}")
    remedy = "; convert the model without ZipMap (skl2onnx: options={'zipmap': False})" if findings.unusable else ""
    raise GraphError(f"the graph has no floating-point tensor among its outputs{remedy}")


def _name_columns(inputs: Sequence[Tensor], declared: Declared) -> list[tuple[Tensor, tuple[str, ...]]]:
    for tensor in inputs:
        if tensor.type not in DTYPES or len(tensor.shape) != 2:
            raise GraphError(
                f"input {tensor.name!r} is {tensor.type} of rank {len(tensor.shape)}; this release takes rank-2 inputs "
                f"of {', '.join(DTYPES)}"
            )
    widths = [tensor.shape[1] for tensor in inputs]
    if declared.features is not None:
        return _share_out(inputs, widths, declared.features)
    if None in widths:
        raise GraphError("the graph does not say how wide its rows are; name the features: --features a,b,…")
    return [(t, (t.name,) if t.shape[1] == 1 else _numbered(t, len(inputs))) for t in inputs]


def _share_out(
    inputs: Sequence[Tensor], widths: list[int | None], features: tuple[str, ...]
) -> list[tuple[Tensor, tuple[str, ...]]]:
    if len(inputs) == 1 and widths[0] is None:
        return [(inputs[0], features)]
    needed = sum(width or 1 for width in widths)
    if needed != len(features):
        raise GraphError(f"--features names {len(features)} columns; the graph takes {needed}")
    rest = iter(features)
    return [(tensor, tuple(next(rest) for _ in range(tensor.shape[1] or 1))) for tensor in inputs]


def _numbered(tensor: Tensor, inputs: int) -> tuple[str, ...]:
    prefix = "x" if inputs == 1 else f"{tensor.name}_"
    return tuple(f"{prefix}{i}" for i in range(tensor.shape[1] or 1))


def _probe(session: Session, output: str, inputs: list[tuple[Tensor, tuple[str, ...]]]) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(0)
    drawn = {tensor.name: np.abs(rng.normal(size=(PROBE_ROWS, len(names)))) * 3 for tensor, names in inputs}
    feeds = {tensor.name: drawn[tensor.name].astype(DTYPES[tensor.type]) for tensor, _ in inputs}
    first, second = (np.asarray(session.run(output, feeds), dtype=np.float64) for _ in range(2))
    if not np.isfinite(first).all():
        raise GraphError(f"output {output!r} is not finite on synthetic rows")
    if not np.array_equal(first, second):
        raise GraphError(f"output {output!r} differs between two runs on the same rows; such answers cannot be traced")
    if first.ndim not in (1, 2) or len(first) != PROBE_ROWS:
        raise GraphError(f"output {output!r} has shape {first.shape} for {PROBE_ROWS} rows; [rows, classes] is needed")
    return first[:, None] if first.ndim == 1 else first


def _conclude_kind(output: Output, declared: Declared, probe: npt.NDArray[np.float64]) -> Conclusion:
    proper = _are_probabilities(probe)
    if declared.output_kind is not None:
        if declared.output_kind == "probabilities" and not proper:
            raise GraphError(f"--output-kind probabilities: {output.name!r} is none on synthetic rows")
        return Conclusion("output_kind", declared.output_kind, "declared at import")
    if output.kind == "probabilities" and not proper:
        raise GraphError(f"{output.name!r} should be probabilities ({output.evidence}) and is none: say --output-kind")
    if output.kind is not None:
        return Conclusion("output_kind", output.kind, output.evidence)
    if proper and probe.shape[1] > 1:
        return Conclusion("output_kind", "probabilities", f"{PROBE_ROWS} synthetic rows lie in [0, 1] and sum to 1")
    raise GraphError(
        f"what {output.name!r} holds cannot be told ({output.evidence}); "
        "say --output-kind logits, log_probabilities or probabilities"
    )


def _are_probabilities(probe: npt.NDArray[np.float64]) -> bool:
    inside = bool(((probe >= -RANGE_TOLERANCE) & (probe <= 1 + RANGE_TOLERANCE)).all())
    return inside and (probe.shape[1] == 1 or bool((np.abs(probe.sum(axis=1) - 1.0) <= SUM_TOLERANCE).all()))


def _conclude_classes(findings: Findings, declared: Declared, probe: npt.NDArray[np.float64]) -> Conclusion:
    k = max(2, probe.shape[1])
    if declared.classes is not None:
        if len(declared.classes) != k:
            raise GraphError(f"--classes names {len(declared.classes)} classes; the output has {k}")
        check_class_order(findings.classes, declared.classes)
        return Conclusion("classes", declared.classes, "declared at import")
    if findings.classes is not None and len(findings.classes) == k:
        return Conclusion("classes", findings.classes, "the graph's class labels")
    told = "nothing" if findings.classes is None else f"the graph names {len(findings.classes)}, not {k}, so nothing"
    return Conclusion("classes", tuple(map(str, range(k))), f"{told} names them: numbered in output order")


def _said(value: str | None, otherwise: str) -> str:
    return "declared at import" if value is not None else otherwise


def _manifest_text(
    name: str,
    declared: Declared,
    conclusions: tuple[Conclusion, ...],
    inputs: list[tuple[Tensor, tuple[str, ...]]],
) -> str:
    document = tomlkit.document()
    document["schema"] = 1
    document["title"] = name
    graph = tomlkit.table()
    for conclusion in conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else list(conclusion.value)
        graph[conclusion.subject] = value
        graph[conclusion.subject].comment(conclusion.evidence)
    graph["task"] = declared.task or "multiclass"
    document["graph"] = graph
    tables = tomlkit.aot()
    for tensor, features in inputs:
        table = tomlkit.table()
        table["name"] = tensor.name
        if features != (tensor.name,):
            table["features"] = list(features)
        tables.append(table)
    document["inputs"] = tables
    return tomlkit.dumps(document)
