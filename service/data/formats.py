"""The format of a file, by its bytes: a data set, or something else, which is named together with the remedy."""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from service.errors import DataError

SUFFIXES: Final = (".npz", ".csv", ".parquet")
HEAD: Final = 4096

_AS_CSV: Final = "save the sheet as CSV UTF-8 (comma delimited)"
_UNPACK: Final = "decompress it first"
_MAGIC: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _AS_CSV),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"\x93NUMPY", "a single NumPy array (.npy)", "write its arrays by name with numpy.savez"),
    (b"ARROW1", "an Arrow (Feather) file", "write it as Parquet"),
    (b"\x89HDF", "an HDF5 file", "write it as Parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"%PDF", "a PDF document", "export the table as CSV"),
    (b"\x80\x04", "a Python pickle, which is never read", "write it as Parquet"),
    (b"\x80\x05", "a Python pickle, which is never read", "write it as Parquet"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "save it as CSV UTF-8"),
    (b"\xff\xfe", "UTF-16 text", "save it as CSV UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as CSV UTF-8"),
)
_KINDS: Final[dict[str, tuple[str, str]]] = {
    ".xlsx": ("an Excel workbook", _AS_CSV),
    ".xlsm": ("an Excel workbook", _AS_CSV),
    ".xls": ("an Excel workbook", _AS_CSV),
    ".ods": ("a spreadsheet", _AS_CSV),
    ".tsv": ("separated by tabs", "write it with commas, as .csv"),
    ".tab": ("separated by tabs", "write it with commas, as .csv"),
    ".gz": ("compressed with gzip", _UNPACK),
    ".zip": ("a ZIP archive", _UNPACK),
    ".npy": ("a single NumPy array", "write its arrays by name with numpy.savez"),
}
_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of a data set: itself or, of a directory, its parts in the order of their names.

    Names that begin with a dot or an underscore, as ``_SUCCESS``, are no parts.

    Raises
    ------
    DataError
        If it is no data set; the message names what it is and what to do.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_dir():
        _check(path)
        return (path,)
    parts = tuple(sorted(part for part in path.iterdir() if not part.name.startswith((".", "_"))))
    folders = [part for part in parts if part.is_dir()]
    if folders:
        raise DataError(
            f"{path} has directories inside; values that are names of directories are not read: write parts"
        )
    kinds = {part.suffix.lower() for part in parts}
    if len(kinds) != 1 or not kinds <= {".csv", ".parquet"}:
        raise DataError(f"{path} is a directory; its parts must all be .parquet files or all be .csv files")
    for part in parts:
        _check(part)
    return parts


def out_of_order(parts: Sequence[Path]) -> tuple[str, str] | None:
    """The first two parts whose names differ in numbers alone, the larger number first: `part-10` and `part-2`."""
    for one, other in pairwise(part.name for part in parts):
        words, numbers = zip(*map(_by_numbers, (one, other)), strict=True)
        if words[0] == words[1] and numbers[0] > numbers[1]:
            return one, other
    return None


def digest_of(path: Path) -> str:
    """``sha256:…`` of a file's bytes or, of a directory, of its parts' names and digests in order."""
    if not path.is_dir():
        return f"sha256:{_sha256(path)}"
    lines = [f"{_sha256(part)}  {part.name}\n" for part in parts_of(path)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def separator_of(header: str) -> str | None:
    """What seems to separate the columns of a header without the needed names; None where nothing does."""
    counts = {name: header.count(sign) for sign, name in _SEPARATORS.items()}
    name = max(counts, key=lambda one: counts[one])
    return name if counts[name] else None


def _check(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} is not a regular file")
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    found = _kind_by_bytes(path, head, suffix)
    if found is None and suffix not in SUFFIXES:
        found = _KINDS.get(suffix, ("of another kind", "convert it"))
    if found is None:
        return
    what, remedy = found
    usual = f"; a data set is one of {', '.join(SUFFIXES)}" if suffix not in SUFFIXES else ""
    raise DataError(f"{path} is {what}: {remedy}{usual}")


def _kind_by_bytes(path: Path, head: bytes, suffix: str) -> tuple[str, str] | None:
    if not head:
        return "empty", "write a data set there"
    if head[:4] == b"PK\x03\x04":
        return _kind_by_archive(path, suffix)
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic) and not (magic == b"PAR1" and suffix == ".parquet"):
            return what, remedy
    return _kind_by_text(head) if suffix == ".csv" else None


def _kind_by_text(head: bytes) -> tuple[str, str] | None:
    if b"\0" in head:
        return "not text in UTF-8 (UTF-16, or binary)", "save it as CSV UTF-8"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "empty", "write a header and rows there"
    if start[:1] == b"<":
        return "an HTML or XML document", "save the table as CSV UTF-8"
    if start[:1] in b"{[" and start[1:].lstrip()[:1] in b'"{[]}':
        return "a JSON document", "write the table as CSV or Parquet"
    if start[:4].lower() == b"sep=":
        return "written for Excel, with a line that names the separator", "remove that line, and separate by commas"
    return None


def _kind_by_archive(path: Path, suffix: str) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return None if suffix == ".npz" else ("a damaged ZIP archive", "write it again")
    if "[Content_Types].xml" in names:
        return "an Excel workbook (or another Office document)", _AS_CSV
    if any(name.endswith(".npy") for name in names) or (suffix == ".npz" and not names):
        return None if suffix == ".npz" else ("a NumPy archive", "let its name end in .npz")
    if "mimetype" in names:
        return "an OpenDocument file", _AS_CSV
    return "a ZIP archive", _UNPACK


def _by_numbers(name: str) -> tuple[list[str], list[int]]:
    pieces = re.split("([0-9]+)", name)
    return pieces[::2], list(map(int, pieces[1::2]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
