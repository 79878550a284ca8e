"""How a model gets into the repository: from an .onnx file to a draft, from a draft to a version."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.bundle.manifest import MANIFEST_FILE, Manifest, parse_manifest
from service.bundle.repository import GRAPH_FILE, Bundle, Repository, graph_sha256
from service.bundle.tasks import ABSENT, PRESENT
from service.bundle.writer import FIRST_ALIAS, create_draft, draft_files, publish
from service.core.decision import drowned
from service.core.utility import dominated_actions
from service.errors import BundleNotFound
from service.graph.inspect import check_draft
from service.importer.declared import Conclusion, Declared
from service.importer.sandbox import Limits
from service.importer.study import study
from service.importer.text import manifest_text
from service.runtime.model import load_model
from service.runtime.policies import tables_of

LIMITS = Limits()


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
        return Imported(create_draft(repository, name, files, force=force), found.conclusions)


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


def _without_calibration(draft: Bundle) -> Bundle:
    return Bundle(draft.name, draft.version, draft.path, draft.manifest, None, {}, draft.digest)
