"""How versions, aliases and drafts get onto the disk: aside first, durable, then renamed into place."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

import tomlkit

from service.bundle.aliases import Alias, aliases_text
from service.bundle.durability import rename, sync, writing
from service.bundle.files import file_sha256
from service.bundle.foreign_files import maker_of
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
GIT_FILE: Final = ".gitattributes"
AS_THEY_ARE: Final = "* -text\n"
"""Git then changes no line ending of a version, which would change its sums."""

TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})
"""What a rename answers where another publisher was faster: a version, never empty, cannot be renamed over."""


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

    Raises
    ------
    BundleError
        If it cannot be written; nothing is then left of it.
    """
    version = publish_beside(repository, draft, record=record, state=state)
    _remove(draft.path)
    return version


def publish_beside(repository: Repository, source: Bundle, *, record: Record | None, state: State) -> int:
    """Make the next version from a draft or another version, which stays as it is; otherwise as `publish`.

    Parameters
    ----------
    repository : Repository
    source : Bundle
        Its graph and manifest are taken as they are.
    record, state
        The calibration.

    Returns
    -------
    int
        The new version.

    Raises
    ------
    BundleError
        If it cannot be written; nothing is then left of it.
    """
    folder = repository.folder(source.name)
    # Checked first: unreadable aliases must stop it before anything is written. Where all were removed, none is set.
    first = not repository.aliases(source.name) and not repository.has_no_alias_left(source.name)
    with writing(folder), _staging(folder, "publishing") as staging:
        _stage(staging, source.path, record, state)
        version = _rename_to_next_version(repository, source.name, staging)
        if first:
            _set_first_alias(repository, source.name, version, staging)
    if version == 1:
        _keep_line_endings(repository.root)
    return version


def set_alias(repository: Repository, name: str, label: str, version: int, *, share: float | None = None) -> None:
    """Point a movable name at a published version; this is what deploys and rolls back.

    Parameters
    ----------
    repository : Repository
    name, label : str
    version : int
    share : float, optional
        Of requests; the version is then a shadow, which sees them after they were answered.

    Raises
    ------
    ManifestInvalid, BundleNotFound
        As `check_alias`.
    """
    check_alias(repository, name, label, version, share=share)
    _write_aliases(repository, name, {**repository.alias_entries(name), label: Alias(version, share)})


def check_alias(repository: Repository, name: str, label: str, version: int, *, share: float | None = None) -> None:
    """What `set_alias` checks before it writes.

    Raises
    ------
    ManifestInvalid
        If nothing can be called that, or `stable` would not answer.
    BundleNotFound
        If the version does not exist.
    """
    if not NAME.fullmatch(label) or label.isdigit():
        raise ManifestInvalid(
            "an alias has at most 64 letters, digits, dots, dashes and underscores, and is not a number"
        )
    if share is not None and label == FIRST_ALIAS:
        raise ManifestInvalid(f"{FIRST_ALIAS} answers requests, and cannot be a shadow; take another label")
    repository.check_published(name, version)


def replace_aliases(repository: Repository, name: str, aliases: Mapping[str, Alias]) -> None:
    """Let a model have these aliases and no others, in one step.

    Raises
    ------
    ManifestInvalid, BundleNotFound
        As `check_alias`.
    """
    for label, alias in aliases.items():
        check_alias(repository, name, label, alias.version, share=alias.share)
    _write_aliases(repository, name, dict(aliases))


def adopt(repository: Repository, name: str, version: int, staging: Path) -> bool:
    """Make a folder beside the versions of a model one of them, once it is durable; False if its number is taken.

    Raises
    ------
    BundleError
        If it cannot be written.
    """
    folder = repository.folder(name)
    with writing(folder):
        try:
            rename(staging, folder / str(version))
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            return False
        sync(folder)
    return True


def remove_alias(repository: Repository, name: str, label: str) -> dict[str, int]:
    """Remove an alias, and return those that are left. Without any, no version is served.

    Raises
    ------
    BundleNotFound
        If no alias is called that.
    """
    aliases = repository.alias_entries(name)
    if label not in aliases:
        raise BundleNotFound(f"{name} has no alias of that name (aliases: {', '.join(aliases) or 'none'})")
    left = {other: alias for other, alias in aliases.items() if other != label}
    _write_aliases(repository, name, left)
    return {other: alias.version for other, alias in left.items()}


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
    aliases = repository.alias_entries(name)
    removed = [label for label, alias in aliases.items() if alias.version == version]
    if removed:
        _write_aliases(repository, name, {label: a for label, a in aliases.items() if a.version != version})
    if version not in retired:
        text = tomlkit.dumps({"retired": sorted({*retired, version})})
        _write_atomically(repository.folder(name) / RETIRED_FILE, text)
    folder = repository.folder(name) / str(version)
    if purge and folder.is_dir():
        with writing(folder):
            _purge(folder)
    return removed


def _purge(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        if file.name not in KEPT:
            file.unlink()
    sync(folder)


def _write_aliases(repository: Repository, name: str, aliases: dict[str, Alias]) -> None:
    text = aliases_text(aliases) if aliases else NO_ALIAS
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
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _staging(folder, "drafting") as staging:
            for file_name, content in files.items():
                _put(staging / file_name, content)
            staging.chmod(0o755)
            _replace_folder(target, staging)
    return target


def draft_files(bundle: Bundle) -> dict[str, Path | str]:
    """Files of a published version that a draft starts from, calibration included."""
    return {file.name: file for file in sorted(bundle.path.iterdir()) if file.name != SUMS_FILE}


@contextlib.contextmanager
def _staging(folder: Path, purpose: str) -> Iterator[Path]:
    """A folder of its own that is gone in the end, unless it was renamed."""
    staging = Path(tempfile.mkdtemp(prefix=f".{purpose}-", dir=folder))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stage(staging: Path, source: Path, record: Record | None, state: State) -> None:
    for file in sorted(source.iterdir()):
        if maker_of(file.name) is not None:
            continue  # no person put it there, and the graph's sum does not count it
        if not stat.S_ISREG(file.lstat().st_mode):  # a file that another publisher took away is missing, not irregular
            raise BundleError(f"{file} is not a regular file; a bundle holds nothing else")
        if file.name not in {RECORD_FILE, STATE_FILE, SUMS_FILE}:
            shutil.copyfile(file, staging / file.name)
    if record is not None:
        (staging / RECORD_FILE).write_text(record.to_json(), encoding="utf-8", newline="\n")
        (staging / STATE_FILE).write_bytes(dump_state(state))
    files = sorted(staging.iterdir())
    sums = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    (staging / SUMS_FILE).write_text(sums, encoding="utf-8", newline="\n")
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
            rename(staging, folder / str(version))
        except NotADirectoryError:
            raise BundleError(f"could not publish {name}: {folder / str(version)} is in the way; remove it") from None
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            continue
        sync(folder)
        return version
    raise BundleError(f"could not publish {name}: others keep publishing; repeat it")


def _set_first_alias(repository: Repository, name: str, version: int, staging: Path) -> None:
    try:
        set_alias(repository, name, FIRST_ALIAS, version)
    except (OSError, BundleError):
        if version not in repository.aliases(name).values():
            (repository.folder(name) / str(version)).rename(staging)  # nothing names it so far, and nothing is left
        raise


def _keep_line_endings(root: Path) -> None:
    with contextlib.suppress(OSError), (root / GIT_FILE).open("x", encoding="utf-8") as file:  # a help, no condition
        file.write(AS_THEY_ARE)


def _write_atomically(path: Path, text: str) -> None:
    with writing(path):
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).chmod(0o644)
            rename(Path(aside), path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        sync(path.parent)


def _put(path: Path, content: Path | str) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_text(content, encoding="utf-8")


def _replace_folder(target: Path, staging: Path) -> None:
    aside = target.with_name(f".replaced-{uuid4().hex}")
    if target.exists():
        rename(target, aside)
    try:
        rename(staging, target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _remove(draft: Path) -> None:
    # Renamed away first: another publisher of the same draft finds all of it or none.
    aside = draft.with_name(f".published-{uuid4().hex}")
    with contextlib.suppress(FileNotFoundError), writing(draft):
        rename(draft, aside)
        shutil.rmtree(aside)
