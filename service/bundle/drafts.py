"""Drafts: made from a published version, and their manifests edited without losing what people wrote."""

from collections.abc import Mapping
from pathlib import Path

import tomlkit

from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from service.bundle.repository import Repository
from service.bundle.writer import FIRST_ALIAS, create_draft, draft_files
from service.errors import BundleNotFound


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


def write_plausible(draft: Path, ranges: Mapping[str, tuple[float, float, str]]) -> None:
    """Write plausible ranges into a draft's manifest: feature -> lowest, highest, reason (a comment)."""
    document = _read(draft)
    features = document.setdefault("features", tomlkit.table(is_super_table=True))
    for name, (low, high, why) in ranges.items():
        entry = features.setdefault(name, tomlkit.table())
        entry["plausible"] = [low, high]
        entry["plausible"].comment(why)
    text = tomlkit.dumps(document)
    parse_manifest(text)
    (draft / MANIFEST_FILE).write_text(text, encoding="utf-8")


def write_ood(draft: Path, changes: Mapping[str, float | bool | list[str]]) -> None:
    """Write keys of `[ood]` into a draft's manifest."""
    if not changes:
        return
    document = _read(draft)
    document.setdefault("ood", tomlkit.table()).update(changes)
    if "scores" in changes:
        document["ood"]["scores"].comment("chosen by `fit --ood-data`")
    (draft / MANIFEST_FILE).write_text(tomlkit.dumps(document), encoding="utf-8")


def _read(draft: Path) -> tomlkit.TOMLDocument:
    return tomlkit.parse((draft / MANIFEST_FILE).read_text(encoding="utf-8"))
