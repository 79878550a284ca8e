"""The model repository on disk: `models/<name>/<version>/`, its aliases and its drafts, read-only."""

import hashlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.bundle.binding import check_bound
from service.bundle.manifest import MANIFEST_FILE, Manifest, parse_manifest
from service.bundle.record import RECORD_FILE, Record, parse_record
from service.bundle.state import STATE_FILE, State, load_state
from service.errors import BundleDamaged, BundleNotFound, ManifestInvalid

GRAPH_FILE = "model.onnx"
SUMS_FILE = "SHA256SUMS"
ALIASES_FILE = "aliases.toml"
RETIRED_FILE = "retired.toml"
NO_ALIAS = "# every alias was removed: no version is served\n"
DRAFT = "draft"
PARTS = (GRAPH_FILE, MANIFEST_FILE, RECORD_FILE, STATE_FILE, SUMS_FILE)
"""Every file of a bundle but its graph's external data."""

KEPT = frozenset({MANIFEST_FILE, RECORD_FILE, SUMS_FILE})
"""What stays of a retired version when its weights are deleted."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a model, or its draft.

    Attributes
    ----------
    name : str
    version : int or None
        None for a draft.
    path : Path
    manifest : Manifest
    record : Record or None
        None when uncalibrated.
    state : dict of str to ndarray
    digest : str or None
        ``sha256:…`` of `SHA256SUMS`; None for a draft.
    """

    name: str
    version: int | None
    path: Path
    manifest: Manifest
    record: Record | None
    state: State
    digest: str | None

    @property
    def graph_path(self) -> Path:
        """The ONNX file."""
        return self.path / GRAPH_FILE

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.name} {'draft' if self.version is None else f'version {self.version}'}"


class Repository:
    """A directory of bundles.

    Parameters
    ----------
    root : Path
    is_named : bool
        Whether a user named it on the command line: commands in messages then name it too.
    """

    def __init__(self, root: Path, *, is_named: bool = False) -> None:
        self.root = root
        self.is_named = is_named

    def command(self, *words: object) -> str:
        """A command for the reader of a message, in back quotes."""
        place = f" --models {shlex.quote(str(self.root))}" if self.is_named else ""
        return f"`temperance {' '.join(map(str, words))}{place}`"

    def names(self) -> list[str]:
        """Models that have a version or a draft."""
        if not self.root.is_dir():
            raise BundleNotFound(f"the model repository {self.root} is not a directory")
        folders = (path for path in sorted(self.root.iterdir()) if path.is_dir() and NAME.fullmatch(path.name))
        return [p.name for p in folders if self.versions(p.name) or (p / DRAFT).is_dir() or self.retired(p.name)]

    def folder(self, name: str) -> Path:
        """Where a model's versions lie; BundleNotFound for a name that no model can have."""
        if not NAME.fullmatch(name):
            raise BundleNotFound(
                "a model's name has at most 64 letters, digits, dots, dashes and underscores, "
                "and begins with a letter or digit"
            )
        return self.root / name

    def versions(self, name: str) -> list[int]:
        """Published versions that are not retired, ascending."""
        return sorted(self._numbers(name) - set(self.retired(name)))

    def retired(self, name: str) -> list[int]:
        """Versions that were withdrawn for good, ascending."""
        entries = _toml(self.folder(name) / RETIRED_FILE).get("retired", [])
        if not isinstance(entries, list) or not all(type(v) is int and v > 0 for v in entries):
            raise ManifestInvalid(f"{self.folder(name) / RETIRED_FILE}: retired must be a list of versions")
        return sorted(set(entries))

    def next_version(self, name: str) -> int:
        """A number that no version has or had."""
        return max([*self._numbers(name), *self.retired(name)], default=0) + 1

    def has_no_alias_left(self, name: str) -> bool:
        """Whether every alias was removed on purpose, so that no version is to be served."""
        path = self.folder(name) / ALIASES_FILE
        return not self.aliases(name) and path.is_file() and path.read_text(encoding="utf-8").startswith(NO_ALIAS)

    def aliases(self, name: str) -> dict[str, int]:
        """Movable names of versions; every one of them is checked to exist."""
        path = self.folder(name) / ALIASES_FILE
        entries = _toml(path)
        published = self.versions(name)
        for label, version in entries.items():
            if isinstance(version, bool) or not isinstance(version, int) or version not in published:
                raise ManifestInvalid(f"{path}: alias {label!r} does not name a published version of {name}")
        return entries

    def bundle(self, name: str, version: int) -> Bundle:
        """A published version, its files checked against their sums."""
        path = self.folder(name) / str(version)
        self.check_published(name, version)
        return read_bundle(path, name=name, version=version, digest=verify_sums(path))

    def check_published(self, name: str, version: int) -> None:
        """BundleNotFound for a version that does not exist, or is retired."""
        published = self.versions(name)
        known = ", ".join(map(str, published)) or "none"
        if version in self.retired(name):
            raise BundleNotFound(f"version {version} of {name} is retired and does not come back (published: {known})")
        if version not in published:
            raise BundleNotFound(f"{name} has no version {version} (published: {known})")

    def _numbers(self, name: str) -> set[int]:
        folder = self.folder(name)
        if not folder.is_dir():
            return set()
        return {int(p.name) for p in folder.iterdir() if p.is_dir() and VERSION.fullmatch(p.name)}

    def draft(self, name: str) -> Bundle:
        """The draft that people edit."""
        path = self.folder(name) / DRAFT
        if not path.is_dir():
            raise BundleNotFound(
                f"{name} has no draft; {self.command('draft', name)} makes one from a published version, "
                f"{self.command('import', 'FILE', '--name', name)} from an .onnx file"
            )
        return read_bundle(path, name=name, version=None, digest=None)


def read_bundle(path: Path, *, name: str, version: int | None, digest: str | None) -> Bundle:
    """A bundle's parts, parsed; its files are not checked against any sums."""
    manifest = parse_manifest(_text(path / MANIFEST_FILE), where=str(path / MANIFEST_FILE))
    if not (path / GRAPH_FILE).is_file():
        raise BundleDamaged(f"{path / GRAPH_FILE} is missing")
    record_path, state_path = path / RECORD_FILE, path / STATE_FILE
    if not record_path.is_file():
        return Bundle(name, version, path, manifest, None, {}, digest)
    record = parse_record(_text(record_path), where=str(record_path))
    state = load_state(state_path.read_bytes(), where=str(state_path)) if state_path.is_file() else {}
    if version is not None:
        check_bound(record, state, where=path)
    return Bundle(name, version, path, manifest, record, state, digest)


def verify_sums(path: Path) -> str:
    """Digest of a version whose files are exactly those that were published.

    Raises
    ------
    BundleDamaged
        Naming the first file that is missing, changed, added, or not a regular file.
    """
    sums = path / SUMS_FILE
    if sums.is_symlink():
        raise BundleDamaged(f"{sums} is not a regular file")
    expected = dict(_parse_sums(_text(sums), where=sums))
    present = {file.name for file in path.iterdir()} - {SUMS_FILE}
    for name in sorted(present | set(expected)):
        file = path / name
        if name not in present:
            raise BundleDamaged(f"{file} is missing")
        if name not in expected:
            raise BundleDamaged(f"{file} was added after publication; a version is immutable")
        if file.is_symlink() or not file.is_file():
            raise BundleDamaged(f"{file} is not a regular file")
        if file_sha256(file) != expected[name]:
            raise BundleDamaged(f"{file} does not match its sum in {SUMS_FILE}: restore it, or publish another version")
    return f"sha256:{file_sha256(sums)}"


def verify_retired(path: Path) -> bool:
    """Check what is left of a retired version against its sums; whether its weights were deleted.

    Raises
    ------
    BundleDamaged
        If anything but weights and state is missing, or anything was changed or added.
    """
    expected = dict(_parse_sums(_text(path / SUMS_FILE), where=path / SUMS_FILE))
    present = {file.name for file in path.iterdir()} - {SUMS_FILE}
    for name in sorted(expected.keys() & KEPT - present):
        raise BundleDamaged(f"{path / name} is missing")
    for name in sorted(present):
        if (path / name).is_symlink() or file_sha256(path / name) != expected.get(name):
            raise BundleDamaged(f"{path / name} does not match its sum in {SUMS_FILE}")
    return GRAPH_FILE not in present


def graph_sha256(path: Path) -> str:
    """One hash over the graph and its external data files: what a calibration is bound to."""
    files = sorted(file for file in path.iterdir() if file.name == GRAPH_FILE or file.name not in PARTS)
    lines = (f"{file_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_sums(text: str, *, where: Path) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  ([^/\0]+)", line)
        if not found:
            raise BundleDamaged(f"{where} is not a list of SHA-256 sums")
        yield found[2], found[1]


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"{path} is not TOML: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleDamaged(f"{path} is missing") from None
    except UnicodeDecodeError:
        raise BundleDamaged(f"{path} is not UTF-8 text") from None
