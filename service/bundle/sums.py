"""`SHA256SUMS`: a version's files are exactly those that were published, each read once.

Tested in `tests/bundle/test_repository.py`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.bundle.files import file_sha256, names_in, read_file
from service.bundle.foreign_files import maker_of
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.record import RECORD_FILE
from service.bundle.state import STATE_FILE
from service.errors import BundleDamaged

GRAPH_FILE = "model.onnx"
SUMS_FILE = "SHA256SUMS"
PARTS = (GRAPH_FILE, MANIFEST_FILE, RECORD_FILE, STATE_FILE, SUMS_FILE)
"""Every file of a bundle but its graph's external data."""

KEPT = frozenset({MANIFEST_FILE, RECORD_FILE, SUMS_FILE})
"""What stays of a retired version when its weights are deleted."""

MOST_BYTES: Final[dict[str, int]] = {
    MANIFEST_FILE: 4 << 20,  # 20,000 classes with their costs under three actions are 3 MB
    RECORD_FILE: 16 << 20,
    STATE_FILE: 512 << 20,  # two covariances of 4,096 features are 256 MB
    SUMS_FILE: 1 << 20,
    GRAPH_FILE: (2 << 30) - 1,  # of a protobuf message, so of an ONNX file without its external data
}
"""File -> its largest size. External data has none."""

PARSED: Final = (MANIFEST_FILE, RECORD_FILE, STATE_FILE)
MOST_TEXT: Final = 16 << 20
"""Of a file whose line endings are looked at; what Git changes is text."""

KUBERNETES: Final = "..data"
"""Link through which a ConfigMap, Secret or projected volume shows its files."""

POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Verified:
    """A version's files as they were when they matched their sums.

    Attributes
    ----------
    digest : str
        ``sha256:…`` of `SHA256SUMS`.
    sums : dict of str to str
        SHA-256 of every other file, in hexadecimal.
    contents : dict of str to bytes
        Of the files that are parsed: those very bytes matched their sums.
    """

    digest: str
    sums: dict[str, str]
    contents: dict[str, bytes]


def verify_sums(path: Path) -> Verified:
    """Check that a version's files are exactly those that were published.

    Raises
    ------
    BundleDamaged
        Naming the first file that is missing, changed, added, or not a regular file.
    """
    present = set(names_in(path)) - {SUMS_FILE}
    if KUBERNETES in present:
        raise BundleDamaged(f"{path} is a mounted ConfigMap or Secret, whose files are links; {_MOUNT}")
    expected, digest = _read_sums(path)
    for name in sorted(present ^ expected.keys()):
        raise BundleDamaged(_added(path / name) if name in present else f"{path / name} is missing")
    contents = {name: _verified(path / name, expected[name]) for name in sorted(expected)}
    return Verified(digest, expected, {name: contents[name] for name in PARSED if name in contents})


def verify_retired(path: Path) -> bool:
    """Check what is left of a retired version against its sums; whether its weights were deleted.

    Raises
    ------
    BundleDamaged
        If anything but weights and state is missing, or anything was changed or added.
    """
    expected, _ = _read_sums(path)
    present = set(names_in(path)) - {SUMS_FILE}
    for name in sorted(expected.keys() & KEPT - present):
        raise BundleDamaged(f"{path / name} is missing")
    for name in sorted(present):
        if name not in expected:
            raise BundleDamaged(_added(path / name))
        _verified(path / name, expected[name])
    return GRAPH_FILE not in present


def parse_sums(content: bytes, *, where: Path | str) -> tuple[dict[str, str], str]:
    """SHA-256 of every file that a `SHA256SUMS` lists, and its own digest, ``sha256:…``.

    Parameters
    ----------
    content : bytes
    where : Path or str
        What messages call it.

    Raises
    ------
    BundleDamaged
        If it is no such list, or lists a file twice.
    """
    if b"\r\n" in content:
        raise BundleDamaged(_changed_endings(where))
    found = list(_parse_sums(content, where=where))
    if len(dict(found)) < len(found):
        raise BundleDamaged(f"{where} lists a file twice")
    return dict(found), f"sha256:{hashlib.sha256(content).hexdigest()}"


def sum_of_graph(sums: Mapping[str, str]) -> str:
    """One hash over the graph and its external data files: what a calibration is bound to.

    Parameters
    ----------
    sums : mapping of str to str
        SHA-256 of files of a bundle; those of its other parts do not count.
    """
    names = sorted(name for name in sums if name == GRAPH_FILE or name not in PARTS)
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in names).encode()).hexdigest()


def graph_sha256(path: Path) -> str:
    """`sum_of_graph` of a folder's files as they lie there, but those that no person put there."""
    names = [name for name in names_in(path) if name not in PARTS or name == GRAPH_FILE]
    return sum_of_graph({name: file_sha256(path / name) for name in names if maker_of(name) is None})


def _part(file: Path) -> bytes:
    return read_file(file, limit=MOST_BYTES[file.name], follow=False)


def _read_sums(path: Path) -> tuple[dict[str, str], str]:
    return parse_sums(_part(path / SUMS_FILE), where=path / SUMS_FILE)


def _parse_sums(content: bytes, *, where: Path | str) -> Iterator[tuple[str, str]]:
    lines = content.split(b"\n")
    for line in lines[:-1] if not lines[-1] else lines:
        found = re.fullmatch(rb"([0-9a-f]{64})  ([^/\0]{1,255})", line)
        if not found:
            raise BundleDamaged(f"{where} is not a list of SHA-256 sums")
        yield _text(found[2], where), found[1].decode()


def _text(name: bytes, where: Path | str) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleDamaged(f"{where} is not UTF-8 text") from None


def _verified(file: Path, expected: str) -> bytes:
    """Content of a part that is parsed, else nothing; BundleDamaged where it does not match its sum."""
    content = _part(file) if file.name in PARSED else b""
    found = hashlib.sha256(content).hexdigest() if file.name in PARSED else _streamed(file)
    if found != expected:
        raise BundleDamaged(_mismatch(file, expected))
    return content


def _streamed(file: Path) -> str:
    return file_sha256(file, follow=False, limit=MOST_BYTES.get(file.name))


def _added(file: Path) -> str:
    if maker := maker_of(file.name):
        return f"{file}: {maker} made this beside the published files; delete it"
    named = str(file) if file.name.isprintable() else ascii(str(file))  # a name may hold a line break
    return f"{named} was added after publication; a version is immutable"


def _mismatch(file: Path, expected: str) -> str:
    content = read_file(file, limit=MOST_TEXT, follow=False) if file.stat().st_size <= MOST_TEXT else b""
    if hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == expected:
        return _changed_endings(file)
    if content.startswith(POINTER):
        return f"{file} is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    return f"{file} does not match its sum in {SUMS_FILE}: restore it, or publish another version"


_MOUNT: Final = (
    "mount it at the repository's folder, with items whose path is NAME/VERSION/FILE, so that its folders are the links"
)


def _changed_endings(file: Path | str) -> str:
    return (
        f"{file}: its line endings were changed, e.g. by Git; write `* -text` into .gitattributes in the model "
        "repository, and check the version out again"
    )
