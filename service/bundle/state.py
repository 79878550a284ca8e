"""`state.npz`: arrays by name, each within the bytes that are there; nothing in it is ever unpickled or unpacked."""

import io
import math
import re
import struct
import zipfile
from typing import Final

import numpy as np
import numpy.typing as npt

from service.bundle.wording import one_line
from service.errors import BundleDamaged

State = dict[str, npt.NDArray[np.generic]]

STATE_FILE = "state.npz"
MOST_MEMBERS: Final = 10_000  # a graph can have an input for each of 4,096 features
LISTED: Final = b"PK\x01\x02"
"""Begins a member's entry in the directory of an archive."""

ENCRYPTED: Final = 1
UNREADABLE: Final = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, OverflowError),
    *(struct.error, zipfile.BadZipFile),
)
"""What reading an archive raises when it is damaged."""

NPY: Final = re.compile(rb"\x93NUMPY(?:\x01\x00(?P<short>..)|\x02\x00(?P<long>....))", re.DOTALL)
HEADER: Final = re.compile(
    r"\{'descr': '(?P<dtype>[<>|][biufU]\d{1,7})', 'fortran_order': (?P<by_columns>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,19},)?|\d{1,19}(?:, \d{1,19}){1,31})\), \} *\n"
)
"""As `np.save` writes it for an array of numbers, truth values or text; so no header is evaluated as Python."""

MOST_HEADER: Final = 1_024
LAST_CHARACTER: Final = 0x10FFFF
SURROGATES: Final = (0xD800, 0xDFFF)


def dump_state(state: State) -> bytes:
    """Bytes of `state.npz`, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **state)
    return buffer.getvalue()


def load_state(data: bytes, *, where: str) -> State:
    """Arrays of `state.npz`, read-only and in this processor's byte order.

    Only what `dump_state` writes is read: members that are stored as they are. So no array is larger than its own
    bytes in the file, and no header makes room for more.

    Parameters
    ----------
    data : bytes
    where : str
        What to call it in an error.

    Raises
    ------
    BundleDamaged
        In one line.
    """
    try:
        return _read_archive(data)
    except UNREADABLE as error:
        raise BundleDamaged(f"{where} is not an archive of plain arrays: {one_line(error)}") from None


def _read_archive(data: bytes) -> State:
    if data.count(LISTED) > MOST_MEMBERS:  # before zipfile makes an object of each
        raise ValueError(f"it has more than {MOST_MEMBERS} members")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_members(members, len(data))
        return {m.filename.removesuffix(".npy"): _array(archive.read(m), m.filename) for m in members}


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len({member.filename for member in members}) < len(members):
        raise ValueError("a member is there twice")
    for member in members:
        name = member.filename[:64]
        if not member.filename.endswith(".npy"):
            raise ValueError(f"member {name!r} is no array")
        if member.flag_bits & ENCRYPTED:
            raise ValueError(f"member {name!r} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"member {name!r} is compressed, which `fit` does not do")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members are larger than the file")


def _array(content: bytes, name: str) -> npt.NDArray[np.generic]:
    dtype, shape, by_columns, start = _header(content, name)
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"member {name[:64]!r} does not hold as many bytes as its header says")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_columns else "C")
    if dtype.kind == "U":
        _check_characters(values, name)
    return values if dtype.isnative else values.astype(dtype.newbyteorder("="))


def _header(content: bytes, name: str) -> tuple[np.dtype[np.generic], tuple[int, ...], bool, int]:
    """Type, shape, whether it is stored by columns, and where the values begin."""
    magic = NPY.match(content)
    length = 0 if magic is None else int.from_bytes(magic["short"] or magic["long"], "little")
    if magic is None or length > MOST_HEADER:
        raise ValueError(f"member {name[:64]!r} is no array, or has a header longer than that of one")
    start = magic.end() + length
    header = HEADER.fullmatch(content[magic.end() : start].decode("latin-1"))
    if header is None:
        raise ValueError(f"member {name[:64]!r} is no plain array of numbers or text")
    shape = tuple(int(size) for size in header["shape"].split(",") if size)
    return np.dtype(header["dtype"]), shape, header["by_columns"] == "True", start


def _check_characters(values: npt.NDArray[np.generic], name: str) -> None:
    codes = np.ascontiguousarray(values).reshape(-1).view(f"{values.dtype.str[0]}u4")
    first, last = SURROGATES
    if np.any((codes > LAST_CHARACTER) | ((codes >= first) & (codes <= last))):
        raise ValueError(f"member {name[:64]!r} holds text that is no Unicode")
