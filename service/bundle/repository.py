"""The model repository on disk: `models/<name>/<version>/`, its aliases and its drafts, read-only."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from service.bundle.aliases import LAST_VERSION, Alias, parse_alias
from service.bundle.binding import check_bound
from service.bundle.files import check_regular, folders_in, read_optional_file
from service.bundle.manifest import MANIFEST_FILE, Manifest, parse_manifest
from service.bundle.record import RECORD_FILE, Record, parse_record
from service.bundle.state import STATE_FILE, State, load_state
from service.bundle.sums import GRAPH_FILE, MOST_BYTES, PARSED, graph_sha256, sum_of_graph, verify_sums
from service.bundle.toml_text import parse_toml
from service.errors import BundleDamaged, BundleNotFound, ManifestInvalid

ALIASES_FILE = "aliases.toml"
RETIRED_FILE = "retired.toml"
NO_ALIAS = "# every alias was removed: no version is served\n"
DRAFT = "draft"
MOST_LISTED: Final = 256 << 10
"""Bytes of `aliases.toml` and of `retired.toml`, which are read again and again: 3,000 aliases with long names."""

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
    sums : mapping of str to str
        SHA-256 of the files of a version, which were checked; empty for a draft.
    """

    name: str
    version: int | None
    path: Path
    manifest: Manifest
    record: Record | None
    state: State
    digest: str | None
    sums: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def graph_sha256(self) -> str:
        """What a calibration is bound to; files that were checked are not read again."""
        return sum_of_graph(self.sums) if self.sums else graph_sha256(self.path)

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
        names = (name for name in folders_in(self.root) if NAME.fullmatch(name))
        return [name for name in names if self.versions(name) or self._has_draft(name) or self.retired(name)]

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
        if not isinstance(entries, list) or not all(type(v) is int and 0 < v <= LAST_VERSION for v in entries):
            raise ManifestInvalid(f"{self.folder(name) / RETIRED_FILE}: retired must be a list of versions")
        return sorted(set(entries))

    def next_version(self, name: str) -> int:
        """A number that no version has or had."""
        return max([*self._numbers(name), *self.retired(name)], default=0) + 1

    def has_no_alias_left(self, name: str) -> bool:
        """Whether every alias was removed on purpose, so that no version is to be served."""
        content = read_optional_file(self.folder(name) / ALIASES_FILE, limit=MOST_LISTED)
        return not self.aliases(name) and content is not None and content.startswith(NO_ALIAS.encode())

    def aliases(self, name: str) -> dict[str, int]:
        """Versions by movable names; every one of them is checked to exist."""
        return {label: alias.version for label, alias in self.alias_entries(name).items()}

    def shadows(self, name: str) -> dict[str, Alias]:
        """Those aliases whose versions only run beside the one that answers."""
        return {label: alias for label, alias in self.alias_entries(name).items() if alias.is_shadow}

    def alias_entries(self, name: str) -> dict[str, Alias]:
        """What `aliases.toml` holds, checked."""
        path, published = self.folder(name) / ALIASES_FILE, self.versions(name)
        found = {label: _alias(value, path, label) for label, value in _toml(path).items()}
        for label, alias in found.items():
            if alias.version not in published:
                raise ManifestInvalid(f"{path}: alias {label[:64]!r} does not name a published version of {name}")
        return found

    def bundle(self, name: str, version: int) -> Bundle:
        """A published version, its files checked against their sums."""
        self.check_published(name, version)
        return self.bundle_in(self.folder(name) / str(version), name, version)

    def bundle_in(self, path: Path, name: str, version: int) -> Bundle:
        """As `bundle`, for a folder that is to become that version, or is it."""
        verified = verify_sums(path)
        manifest, record, state = _parsed(path, verified.contents)
        if record is None and STATE_FILE in verified.contents:
            raise BundleDamaged(f"{path / RECORD_FILE} is missing: {STATE_FILE} belongs to one")
        if record is not None:
            check_bound(record, state, where=path)
        return Bundle(name, version, path, manifest, record, state, verified.digest, verified.sums)

    def check_published(self, name: str, version: int) -> None:
        """BundleNotFound for a version that does not exist, or is retired."""
        published = self.versions(name)
        known = ", ".join(map(str, published)) or "none"
        if version in self.retired(name):
            raise BundleNotFound(f"version {version} of {name} is retired and does not come back (published: {known})")
        if version not in published:
            raise BundleNotFound(f"{name} has no version {version} (published: {known})")

    def _numbers(self, name: str) -> set[int]:
        return {int(number) for number in folders_in(self.folder(name)) if VERSION.fullmatch(number)}

    def _has_draft(self, name: str) -> bool:
        return DRAFT in folders_in(self.folder(name))

    def draft(self, name: str) -> Bundle:
        """The draft that people edit."""
        path = self.folder(name) / DRAFT
        if not self._has_draft(name):
            raise BundleNotFound(
                f"{name} has no draft; {self.command('draft', name)} makes one from a published version, "
                f"{self.command('import', 'FILE', '--name', name)} from an .onnx file"
            )
        found = ((part, read_optional_file(path / part, limit=MOST_BYTES[part])) for part in PARSED)
        contents = {part: content for part, content in found if content is not None}
        return Bundle(name, None, path, *_parsed(path, contents), digest=None)


def _parsed(path: Path, contents: Mapping[str, bytes]) -> tuple[Manifest, Record | None, State]:
    """A bundle's parts, from the bytes of its files; without a record it has no state either."""
    if MANIFEST_FILE not in contents:
        raise BundleDamaged(f"{path / MANIFEST_FILE} is missing")
    manifest = parse_manifest(_text(contents[MANIFEST_FILE], path / MANIFEST_FILE), where=str(path / MANIFEST_FILE))
    check_regular(path / GRAPH_FILE, limit=MOST_BYTES[GRAPH_FILE])
    if RECORD_FILE not in contents:
        return manifest, None, {}
    record = parse_record(_text(contents[RECORD_FILE], path / RECORD_FILE), where=str(path / RECORD_FILE))
    if STATE_FILE not in contents:
        return manifest, record, {}
    return manifest, record, load_state(contents[STATE_FILE], where=str(path / STATE_FILE))


def _alias(value: Any, path: Path, label: str) -> Alias:
    try:
        return parse_alias(value)
    except ValueError as error:
        raise ManifestInvalid(f"{path}: alias {label[:64]!r} {error}") from None


def _toml(path: Path) -> dict[str, Any]:
    content = read_optional_file(path, limit=MOST_LISTED)
    if content is None:
        return {}
    try:
        return parse_toml(content.decode("utf-8"), where=path)
    except UnicodeDecodeError:
        raise ManifestInvalid(f"{path} is not UTF-8 text") from None


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleDamaged(f"{path} is not UTF-8 text") from None
