"""How versions, aliases and drafts get onto the disk: aside first, durable, then renamed into place."""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import tomlkit

from service.bundle.durability import sync
from service.bundle.files import file_sha256
from service.bundle.record import RECORD_FILE, Record
from service.bundle.repository import (
    ALIASES_FILE,
    DRAFT,
    NAME,
    NO_ALIAS,
    RETIRED_FILE,
    Bundle,
    Repository,
)
from service.bundle.state import STATE_FILE, State, dump_state
from service.bundle.sums import KEPT, SUMS_FILE
from service.errors import BundleError, BundleNotFound, DraftExists, ManifestInvalid

FIRST_ALIAS = "stable"
PUBLISH_ATTEMPTS = 20


def publish(repository: Repository, draft: Bundle, *, record: Record | None, state: State) -> int:
    """Make the next version from a draft, and remove the draft once the version is durable.

    Parameters
    ----------
    repository : Repository
    draft : Bundle
        Its graph and manifest are taken as they are.
    record, state
        The calibration; no record publishes an uncalibrated version.

    Returns
    -------
    int
        The new version. The first one of a model also becomes `stable`.
    """
    folder = repository.folder(draft.name)
    # Checked first: unreadable aliases must stop it before anything is written. Where all were removed, none is set.
    first = not repository.aliases(draft.name) and not repository.has_no_alias_left(draft.name)
    staging = Path(tempfile.mkdtemp(prefix=".publishing-", dir=folder))
    try:
        _stage(staging, draft.path, record, state)
        version = _rename_to_next_version(repository, draft.name, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if first:
        set_alias(repository, draft.name, FIRST_ALIAS, version)
    _remove(draft.path)
    return version


def set_alias(repository: Repository, name: str, label: str, version: int) -> None:
    """Point a movable name at a published version; this is what deploys and rolls back."""
    if not NAME.fullmatch(label) or label.isdigit():
        raise ManifestInvalid(
            "an alias has at most 64 letters, digits, dots, dashes and underscores, and is not a number"
        )
    repository.check_published(name, version)
    _write_aliases(repository, name, {**repository.aliases(name), label: version})


def remove_alias(repository: Repository, name: str, label: str) -> dict[str, int]:
    """Remove an alias, and return those that are left. Without any, no version is served.

    Raises
    ------
    BundleNotFound
        If no alias is called that.
    """
    aliases = repository.aliases(name)
    if label not in aliases:
        raise BundleNotFound(f"{name} has no alias of that name (aliases: {', '.join(aliases) or 'none'})")
    left = {other: version for other, version in aliases.items() if other != label}
    _write_aliases(repository, name, left)
    return left


def retire(repository: Repository, name: str, version: int, *, purge: bool = False) -> list[str]:
    """Withdraw a version for good: no alias names it, nothing serves it, and its number is never used again.

    Its files stay; with ``purge`` only manifest, record and sums do. Each step is durable before the next, and a
    retirement that was interrupted goes on where it is repeated.

    Returns
    -------
    list of str
        Aliases that named it, and were removed.

    Raises
    ------
    BundleNotFound
    """
    retired = repository.retired(name)
    if version not in retired:
        repository.check_published(name, version)
    aliases = repository.aliases(name)
    removed = [label for label, target in aliases.items() if target == version]
    if removed:
        _write_aliases(repository, name, {label: v for label, v in aliases.items() if v != version})
    if version not in retired:
        text = tomlkit.dumps({"retired": sorted({*retired, version})})
        _write_atomically(repository.folder(name) / RETIRED_FILE, text)
    folder = repository.folder(name) / str(version)
    if purge and folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file.name not in KEPT:
                file.unlink()
        sync(folder)
    return removed


def _write_aliases(repository: Repository, name: str, aliases: dict[str, int]) -> None:
    text = tomlkit.dumps(dict(sorted(aliases.items()))) if aliases else NO_ALIAS
    _write_atomically(repository.folder(name) / ALIASES_FILE, text)


def create_draft(repository: Repository, name: str, files: dict[str, Path | str], *, force: bool = False) -> Path:
    """Lay out a draft.

    Parameters
    ----------
    repository : Repository
    name : str
    files : dict of str to (Path or str)
        File name to the file that is copied, or to the text that is written.
    force : bool
        Replace a draft that is there.

    Raises
    ------
    DraftExists
    """
    folder = repository.folder(name)
    target = folder / DRAFT
    if target.exists() and not force:
        raise DraftExists(f"{target} exists and may hold edits; publish it, or add --force to replace it")
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".drafting-", dir=folder))
    try:
        for file_name, content in files.items():
            _put(staging / file_name, content)
        staging.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def draft_files(bundle: Bundle) -> dict[str, Path | str]:
    """Files of a published version that a draft starts from, calibration included."""
    return {file.name: file for file in sorted(bundle.path.iterdir()) if file.name != SUMS_FILE}


def _stage(staging: Path, source: Path, record: Record | None, state: State) -> None:
    for file in sorted(source.iterdir()):
        if not stat.S_ISREG(file.lstat().st_mode):  # a file that another publisher took away is missing, not irregular
            raise BundleError(f"{file} is not a regular file; a bundle holds nothing else")
        if file.name not in {RECORD_FILE, STATE_FILE, SUMS_FILE}:
            shutil.copyfile(file, staging / file.name)
    if record is not None:
        (staging / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
        (staging / STATE_FILE).write_bytes(dump_state(state))
    files = sorted(staging.iterdir())
    sums = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    (staging / SUMS_FILE).write_text(sums, encoding="utf-8")
    for file in staging.iterdir():
        file.chmod(0o644)
        sync(file)
    staging.chmod(0o755)
    sync(staging)


def _rename_to_next_version(repository: Repository, name: str, staging: Path) -> int:
    folder = repository.folder(name)
    for _ in range(PUBLISH_ATTEMPTS):
        version = repository.next_version(name)
        try:
            staging.rename(folder / str(version))
        except OSError:
            continue  # another publisher was faster: a version, never empty, cannot be renamed over
        sync(folder)
        return version
    raise BundleError(f"could not publish {name}: {folder} cannot be written, or others keep publishing")


def _write_atomically(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    sync(path.parent)


def _put(path: Path, content: Path | str) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_text(content, encoding="utf-8")


def _remove(draft: Path) -> None:
    # Renamed away first: another publisher of the same draft finds all of it or none.
    aside = Path(tempfile.mkdtemp(prefix=".published-", dir=draft.parent))
    with contextlib.suppress(FileNotFoundError):
        draft.rename(aside / draft.name)
    shutil.rmtree(aside)
