"""How a model gets into the repository: from an .onnx file to a draft, from a draft to a version."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from service.bundle.guards import Kinds
from service.bundle.manifest import MANIFEST_FILE, Manifest, parse_manifest
from service.bundle.policies import tables_of
from service.bundle.repository import GRAPH_FILE, Bundle, Repository, graph_sha256
from service.bundle.sections import Input
from service.bundle.tasks import ABSENT, PRESENT
from service.bundle.writer import FIRST_ALIAS, create_draft, draft_files, publish
from service.core.assessment.utility import dominated_actions
from service.core.decision import drowned
from service.errors import BundleNotFound
from service.graph.inspect import Input as GraphInput
from service.graph.inspect import check_draft, inspect_graph
from service.importer.declared import Conclusion, Declared
from service.importer.feeds import Filled
from service.importer.sandbox import Limits
from service.importer.study import study
from service.importer.text import manifest_text
from service.runtime.model import load_model

LIMITS = Limits()
MATRIX = 2


@dataclass(frozen=True, slots=True)
class Imported:
    """A draft, the conclusions in it, and what its inputs are."""

    draft: Path
    conclusions: tuple[Conclusion, ...]
    kinds: Kinds


@dataclass(frozen=True, slots=True)
class Published:
    """A version. ``why_uncalibrated`` is None when the draft's calibration holds for it."""

    version: int
    why_uncalibrated: str | None


def import_model(
    repository: Repository,
    name: str,
    path: Path,
    declared: Declared,
    *,
    force: bool = False,
    limits: Limits = LIMITS,
) -> Imported:
    """Make a draft from an .onnx file.

    Evidence is taken in this order: what the user says, the graph's operators and attributes, a dry run on synthetic
    rows in a child process. What none of them tells is asked for, by the flag that answers it.

    Raises
    ------
    GraphError
        If the file cannot be used, or its meaning must be declared.
    ManifestInvalid
        If what was concluded is more than this release serves.
    DraftExists
    """
    found = study(path, declared, limits)
    text = manifest_text(name, found)
    parse_manifest(text)
    with tempfile.TemporaryDirectory(prefix="temperance-") as folder:
        graph = path
        if found.graph is not None:
            graph = Path(folder) / GRAPH_FILE
            graph.write_bytes(found.graph)
        files: dict[str, Path | str] = {GRAPH_FILE: graph, MANIFEST_FILE: text}
        files |= {file: path.parent / file for file in found.external_files}
        return Imported(create_draft(repository, name, files, force=force), found.conclusions, _kinds(found.inputs))


def open_draft(repository: Repository, name: str, version: int | None = None, *, force: bool = False) -> Path:
    """Make a draft from a published version (by default `stable`), calibration included.

    Raises
    ------
    DraftExists, BundleNotFound
    """
    chosen = version or repository.aliases(name).get(FIRST_ALIAS)
    if chosen is None and repository.versions(name):
        raise BundleNotFound(f"no alias {FIRST_ALIAS!r} of {name} names a version to start from; add --from VERSION")
    if chosen is None:
        raise BundleNotFound(f"{name} has no published version to start from")
    return create_draft(repository, name, draft_files(repository.bundle(name, chosen)), force=force)


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


def kinds_of(bundle: Bundle) -> Kinds:
    """What a bundle's inputs are, by the names of its manifest."""
    types = {entry.name: entry for entry in inspect_graph(bundle.graph_path).inputs}
    sorted_out: dict[str, list[str]] = {"numbers": [], "texts": [], "tensors": []}
    for entry in bundle.manifest.inputs:
        kind = "texts" if types[entry.name].type == "STRING" else "tensors" if _is_tensor(entry, types) else "numbers"
        sorted_out[kind].extend(entry.columns)
    return Kinds(**{kind: tuple(names) for kind, names in sorted_out.items()})


def _is_tensor(entry: Input, types: dict[str, GraphInput]) -> bool:
    dims = types[entry.name].dims or ()
    shaped = entry.shape is not None or entry.pad is not None or len(dims) > MATRIX
    return entry.features is None and (shaped or (len(dims) == MATRIX and dims[1] != 1))


def write_ranges(draft: Path, ranges: dict[str, tuple[float, float, str]]) -> None:
    """Write plausible ranges, each with its reason, into a draft's manifest."""
    path = draft / MANIFEST_FILE
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    features = document.setdefault("features", tomlkit.table(is_super_table=True))
    for name, (low, high, why) in ranges.items():
        entry = features.setdefault(name, tomlkit.table())
        entry["plausible"] = [low, high]
        entry["plausible"].comment(why)
    text = tomlkit.dumps(document)
    parse_manifest(text)
    path.write_text(text, encoding="utf-8")


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


def taken_for_equal(manifest: Manifest) -> list[str]:
    """A sentence for every cost table with a class in which the tie rule takes different costs for equal."""
    sentences = []
    for name, section in manifest.policies.items():
        names = manifest.graph.classes if section.labels is None else (ABSENT, PRESENT)
        for title, policy in tables_of(name, section, manifest.graph.classes).items():
            found = drowned(policy.cost)
            for k, one, other in found[:1]:
                pair = f"{policy.actions[one]!r} and {policy.actions[other]!r}"
                more = f" (and in {len(found) - 1} more classes)" if len(found) > 1 else ""
                sentences.append(
                    f"{title}: in class {names[k]!r}{more} the costs of {pair} differ by less than a millionth of the "
                    "largest difference there, so a row that is surely of that class is a tie between them"
                )
    return sentences


def _kinds(inputs: tuple[Filled, ...]) -> Kinds:
    asked = [f for f in inputs if f.fill is None and not f.mask]
    columns = [(f.features or (), f.input.type == "STRING") for f in asked]
    return Kinds(
        tuple(name for names, text in columns if not text for name in names),
        tuple(name for names, text in columns if text for name in names),
        tuple(f.input.name for f in asked if f.features is None),
    )


def _without_calibration(draft: Bundle) -> Bundle:
    return Bundle(draft.name, draft.version, draft.path, draft.manifest, None, {}, draft.digest)
