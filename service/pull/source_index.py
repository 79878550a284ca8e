"""What a source holds of a model, read before anything is fetched: its aliases, and each version's list of files.

Tested in `tests/pull/test_hostile_sources.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.bundle.aliases import LAST_VERSION, Alias, parse_alias
from service.bundle.foreign_files import maker_of
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import ALIASES_FILE, MOST_LISTED, NAME, RETIRED_FILE
from service.bundle.sums import GRAPH_FILE, MOST_BYTES, SUMS_FILE, parse_sums
from service.bundle.toml_text import parse_toml
from service.errors import BundleDamaged, ManifestInvalid
from service.pull.pull_errors import PullFailed, SourceMissing
from service.pull.source import Source, read_text

MOST_NAME: Final = 200
"""Bytes of a file's name; file systems take 255, and a part of a file has a longer one."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of a source.

    Attributes
    ----------
    name : str
    aliases : dict of str to Alias
        Empty where the source states none.
    retired : frozenset of int
    """

    name: str
    aliases: Mapping[str, Alias]
    retired: frozenset[int]

    @property
    def versions(self) -> list[int]:
        """Those that aliases name, ascending."""
        return sorted({alias.version for alias in self.aliases.values()})


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version of a source.

    Attributes
    ----------
    name : str
    version : int
    digest : str
        ``sha256:…`` of its `SHA256SUMS`.
    sums_text : str
    sums : mapping of str to str
        SHA-256 of every other file.
    sizes : mapping of str to int
        Bytes of those files that the source's index states.
    """

    name: str
    version: int
    digest: str
    sums_text: str
    sums: Mapping[str, str]
    sizes: Mapping[str, int]

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.name} version {self.version}"


def listed_model(source: Source, name: str) -> ListedModel:
    """Aliases and retired versions of a model of a source.

    Raises
    ------
    PullFailed
        If the name is none that a model can have, or a list of the source is damaged.
    """
    if not NAME.fullmatch(name):
        raise PullFailed(f"{source.title}: {name[:80]!a} is no name that a model can have")
    try:
        return ListedModel(name, _aliases(source, name), _retired(source, name))
    except ManifestInvalid as error:
        raise PullFailed(str(error)) from None


def listed_version(source: Source, name: str, version: int) -> ListedVersion:
    """Files of a version of a source, and what their sums are.

    Raises
    ------
    PullFailed
        If the source does not hold the version, or lists what no version holds.
    """
    folder = f"{name}/{version}"
    where = f"{source.title}/{folder}/{SUMS_FILE}"
    text = read_text(source, f"{folder}/{SUMS_FILE}", limit=MOST_BYTES[SUMS_FILE])
    if text is None:
        raise SourceMissing(f"{source.title} holds no version {version} of {name}: {where} is not there")
    try:
        sums, digest = parse_sums(text.encode(), where=where)
    except BundleDamaged as error:
        raise PullFailed(str(error)) from None
    _check_names(sums, where)
    sizes = {file: size for file, size in source.sizes(folder).items() if file in sums}
    for file, size in sizes.items():
        check_size(source, f"{folder}/{file}", size)
    return ListedVersion(name, version, digest, text, sums, sizes)


def check_size(source: Source, path: str, size: int | None) -> None:
    """Raise PullFailed for a file that is larger than any of its name can be."""
    limit = MOST_BYTES.get(path.rpartition("/")[2])
    if limit is not None and size is not None and size > limit:
        raise PullFailed(f"{source.title}/{path} is larger than such a file can be")


def _check_names(sums: Mapping[str, str], where: str) -> None:
    for name in sums:
        is_plain = name.isprintable() and "\\" not in name and len(name.encode()) <= MOST_NAME
        if not is_plain or name.startswith(".") or name == SUMS_FILE or maker_of(name) is not None:
            raise PullFailed(f"{where} lists {name[:80]!a}, which is no name of a version's file")
    for name in (GRAPH_FILE, MANIFEST_FILE):
        if name not in sums:
            raise PullFailed(f"{where} lists no {name}, so it is no version of a model")


def _aliases(source: Source, name: str) -> dict[str, Alias]:
    path = f"{name}/{ALIASES_FILE}"
    where = f"{source.title}/{path}"
    entries = parse_toml(read_text(source, path, limit=MOST_LISTED) or "", where=where)
    for label in entries:
        if not NAME.fullmatch(label) or label.isdigit():
            raise PullFailed(f"{where} holds a label that no alias can have")
    try:
        return {label: parse_alias(value) for label, value in entries.items()}
    except ValueError as error:
        raise PullFailed(f"{where}: an alias {error}") from None


def _retired(source: Source, name: str) -> frozenset[int]:
    path = f"{name}/{RETIRED_FILE}"
    where = f"{source.title}/{path}"
    found = parse_toml(read_text(source, path, limit=MOST_LISTED) or "", where=where).get("retired", [])
    if not isinstance(found, list) or not all(type(v) is int and 0 < v <= LAST_VERSION for v in found):
        raise PullFailed(f"{where}: retired must be a list of versions")
    return frozenset(found)
