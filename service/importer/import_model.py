"""An .onnx file becomes a draft: the use case of `temperance import`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.bundle.guards import Kinds
from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from service.bundle.repository import Repository
from service.bundle.sums import GRAPH_FILE
from service.bundle.writer import create_draft
from service.importer.analysis import analyse
from service.importer.declared import Conclusion, Declared
from service.importer.input_kinds import kinds_of_filled
from service.importer.manifest_text import manifest_text
from service.importer.sandbox import SandboxLimits

LIMITS = SandboxLimits()


@dataclass(frozen=True, slots=True)
class Imported:
    """A draft, the conclusions in it, and what its inputs are."""

    draft: Path
    conclusions: tuple[Conclusion, ...]
    kinds: Kinds


def import_model(
    repository: Repository,
    name: str,
    path: Path,
    declared: Declared,
    *,
    force: bool = False,
    limits: SandboxLimits = LIMITS,
) -> Imported:
    """Make a draft from an .onnx file.

    Evidence is taken in this order: the user's flags, the graph's operators and attributes, a dry run on synthetic
    rows in a child process. An error names the flag for what none of them shows.

    Raises
    ------
    GraphError
        If the file cannot be used, or its meaning must be declared.
    ManifestInvalid
        If what was concluded is more than this release serves.
    DraftExists
    """
    found = analyse(path, declared, limits)
    text = manifest_text(name, found)
    parse_manifest(text)
    with tempfile.TemporaryDirectory(prefix="temperance-") as folder:
        graph = path
        if found.graph is not None:
            graph = Path(folder) / GRAPH_FILE
            graph.write_bytes(found.graph)
        files: dict[str, Path | str] = {GRAPH_FILE: graph, MANIFEST_FILE: text}
        files |= {file: path.parent / file for file in found.external_files}
        return Imported(
            create_draft(repository, name, files, force=force), found.conclusions, kinds_of_filled(found.inputs)
        )
