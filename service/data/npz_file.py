"""NPZ files, a block of rows at a time.

Tested in tests/data/test_sources.py.
"""

import contextlib
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from service.data.blocks import Block, end_of, named_once
from service.data.cells import TITLES, Typed
from service.errors import DataError

_DAMAGE: Final = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, OverflowError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


class NpzFile:
    """Arrays by name, whose first axis is the rows.

    Attributes
    ----------
    names : tuple of str
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading() as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
        self.names = named_once([name.removesuffix(".npy") for name in members], path)

    def hint(self, missing: Sequence[str]) -> str:
        """Nothing is known of arrays that are missing."""
        del missing
        return ""

    def count(self) -> int:
        """Rows of its longest array."""
        with self._reading() as archive:
            return max((self._rows(archive, name) for name in self.names), default=0)

    def bound(self) -> int:
        """Its rows."""
        return self.count()

    def blocks(self, names: Sequence[str], *, rows: int, first: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Blocks of at most ``rows`` rows of a stretch; DataError for what is no archive of plain arrays."""
        with self._reading() as archive, contextlib.ExitStack() as stack:
            members = self._members(archive, names, stack)
            count = end_of(self._common(members), stop)
            for member in members.values() if first < count else ():
                member.skip(first)
            for start in range(first, count, rows):
                size = min(rows, count - start)
                columns = {name: _cells(member.read(size)) for name, member in members.items()}
                yield Block(self.path, start, size, dict(columns))

    def _members(
        self, archive: zipfile.ZipFile, names: Sequence[str], stack: contextlib.ExitStack
    ) -> dict[str, "_Member"]:
        sizes = {name: archive.getinfo(f"{name}.npy").file_size for name in names}
        files = {name: stack.enter_context(archive.open(f"{name}.npy")) for name in names}
        return {name: _Member(file, name, self.path, size=sizes[name]) for name, file in files.items()}

    def _rows(self, archive: zipfile.ZipFile, name: str) -> int:
        with archive.open(f"{name}.npy") as file:
            header = _header_of(file)
            if header is not None and not _fills(header, archive.getinfo(f"{name}.npy").file_size - file.tell()):
                raise ValueError(name)
        return header[0][0] if header is not None and header[0] else 0

    def _common(self, members: dict[str, "_Member"]) -> int:
        lengths: dict[int, str] = {}
        for name, member in members.items():
            lengths.setdefault(member.rows, name)
        if len(lengths) > 1:
            counted = " and ".join(f"{name!r} has {rows}" for rows, name in list(lengths.items())[:2])
            raise DataError(f"{self.path}: its arrays have different numbers of rows: {counted}")
        return next(iter(lengths))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except _DAMAGE:
            raise DataError(f"{self.path} cannot be read: it is damaged, or no archive of NumPy arrays") from None


class _Member:
    """One array of an .npz file, read row by row from its compressed bytes; one stored by columns is read whole."""

    def __init__(self, file: IO[bytes], name: str, path: Path, *, size: int) -> None:
        header = _header_of(file)
        if header is None:
            raise DataError(f"{path}: array {name!r} has a header that plain arrays do not have: write it as one")
        shape, by_columns, self._dtype = header
        if self._dtype.hasobject:
            raise DataError(f"{path}: array {name!r} holds Python objects; objects are never unpickled")
        if not shape:
            raise DataError(f"{path}: array {name!r} is a single value, and needs an entry for every row")
        if not _fills(header, size - file.tell()):
            raise DataError(f"{path}: array {name!r} has not as many bytes as its header says; write the file again")
        self.rows, *rest = shape
        self._row = tuple(rest)
        self._bytes = self._dtype.itemsize * math.prod(rest)
        self._file = file
        self._whole = self._read_whole(shape) if by_columns and rest else None
        self._next = 0

    def skip(self, rows: int) -> None:
        self._next = rows
        if self._whole is None:
            self._file.seek(rows * self._bytes, 1)

    def read(self, rows: int) -> npt.NDArray[Any]:
        if self._whole is not None:
            self._next += rows
            return self._whole[self._next - rows : self._next]
        return np.frombuffer(self._file.read(rows * self._bytes), self._dtype).reshape(rows, *self._row)

    def _read_whole(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        values = np.frombuffer(self._file.read(), self._dtype)
        return values.reshape(shape, order="F")


def _fills(header: Header, size: int) -> bool:
    """Whether an array has exactly the bytes that are there; checked before there is room for it. Objects have any."""
    shape, _, dtype = header
    return dtype.hasobject or (min(shape, default=0) >= 0 and math.prod(shape) * dtype.itemsize == size)


def _header_of(file: IO[bytes]) -> Header | None:
    """Shape, whether it is stored by columns, and type; None for a version that only records with odd names need."""
    read = _HEADERS.get(np.lib.format.read_magic(file))
    return None if read is None else read(file)


def _cells(values: npt.NDArray[Any]) -> Typed:
    kind = values.dtype.kind
    if kind == "M":
        return Typed(values.astype(np.str_).astype(object), opaque=TITLES[kind])
    return Typed(values, opaque=None if kind in "fiubU" else TITLES.get(kind, str(values.dtype)))


_HEADERS: Final[dict[tuple[int, int], Callable[[IO[bytes]], Header]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
