"""Archives that are not what `fit` writes; what it writes survives the disk in the tests of scores and label sets."""

import contextlib
import io
import struct
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest

from service.bundle.state import MOST_HEADER, MOST_MEMBERS, dump_state, load_state
from service.errors import BundleDamaged

MIB = 1 << 20


def npy(header: str, values: bytes = b"", *, version: bytes = b"\x01\x00") -> bytes:
    """An .npy file with any header."""
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + values


def described(shape: str, dtype: str = "'<f8'", *, by_columns: object = False) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {by_columns}, 'shape': {shape}, }}"


def archive(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def bomb() -> bytes:
    return archive(
        {"unknown.npy": npy(described(f"({64 * MIB},)"), bytes(512 * MIB))}, compression=zipfile.ZIP_DEFLATED
    )


def named_twice() -> bytes:
    first = archive({"a.npy": npy(described("(1,)"), bytes(8)), "b.npy": npy(described("(1,)"), bytes(8))})
    return first.replace(b"b.npy", b"a.npy")


def overlapping() -> bytes:
    """Ten entries of the directory that are all the same megabyte of the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", npy(described(f"({MIB // 8},)"), bytes(MIB)))
        file.filelist = [file.filelist[0]] * 10
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(archive({"a.npy": npy(described("(1,)"), bytes(8))}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def of_one(content: bytes) -> bytes:
    return archive({"a.npy": content})


def of_members(count: int) -> bytes:
    return archive({f"{i}.npy": npy(described("()"), bytes(8)) for i in range(count)})


HEADERS = {
    "a length of 2^40": described("(1099511627776,)"),
    "a length beyond any size": described("(9223372036854775808, 9223372036854775808)"),
    "a product that wraps to what is there": described("(4294967296, 4294967296, 1)"),
    "nothing, but a dimension beyond any size": described("(0, 9999999999999999999)"),
    "a negative length": described("(-1,)"),
    "too many dimensions": described(f"({', '.join('1' * 40)})"),
    "objects": described("(1,)", "'|O'"),
    "records": described("(1,)", "[('x', '<f8')]"),
    "a type of no size": described("(1099511627776,)", "'<U0'"),
    "a type that does not exist": described("(1,)", "'<f3'"),
    "times": described("(1,)", "'<M8[ns]'"),
    "complex numbers": described("(1,)", "'<c16'"),
    "text of huge width": described("(1,)", "'<U9999999'"),
    "an order that is neither": described("(1,)", by_columns=2),
    "Python's long integers": described("(1L,)"),
    "an expression": described("(1,) * 10 ** 10"),
    "a header of brackets": "(" * 900,
    "a header beyond its limit": described("(1,)") + " " * MOST_HEADER,
}
CONTENTS = {
    "no header": b"",
    "half a header": npy(described("(1,)"), bytes(8))[:30],
    "one byte too few": npy(described("(1,)"), bytes(7)),
    "one byte too many": npy(described("(1,)"), bytes(9)),
    "a header of another version": npy(described("(1,)"), bytes(8), version=b"\x03\x00"),
    "text beyond Unicode": npy(described("(1,)", "'<U1'"), b"\xff\xff\xff\xff"),
    "half a pair of surrogates": npy(described("(1,)", "'<U1'"), b"\x00\xd8\x00\x00"),
}
ARCHIVES = {
    "a member of 128 MiB in 128 KiB": bomb,
    "a name twice": named_twice,
    "entries that overlap": overlapping,
    "an encrypted member": encrypted,
    "more members than any state": lambda: of_members(MOST_MEMBERS + 1),
    "a member that is no array": lambda: archive({"a.txt": b"x"}),
    "a folder": lambda: archive({"a/": b""}),
    "a member of another compression": lambda: archive({"a.npy": b"x" * 99}, compression=zipfile.ZIP_LZMA),
    **{f"a header with {what}": partial(of_one, npy(header, bytes(8))) for what, header in HEADERS.items()},
    **{f"a member with {what}": partial(of_one, content) for what, content in CONTENTS.items()},
}


@pytest.mark.parametrize("make", ARCHIVES.values(), ids=ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_that_fit_did_not_write_is_refused_in_one_line_without_room_for_what_it_claims(make) -> None:
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(BundleDamaged, match=r"^m/1/state\.npz is not an archive of plain arrays: ") as caught:
            load_state(data, where="m/1/state.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert peak < 32 * MIB


@pytest.mark.parametrize("position", range(0, 1200, 7))
def test_a_changed_byte_is_refused_or_changes_an_array_but_never_ends_in_another_error(position: int) -> None:
    data = bytearray(dump_state({"a": np.arange(40.0), "b:n": np.array(3), "c": np.array(["x", "y"])}))
    data[position % len(data)] ^= 0x55
    loaded = None
    with contextlib.suppress(BundleDamaged):
        loaded = load_state(bytes(data), where="state.npz")
    assert loaded is None or all(isinstance(value, np.ndarray) for value in loaded.values())


KEPT: dict[str, np.ndarray] = {
    "rows": np.arange(6.0).reshape(2, 3),
    "one number": np.array(3),
    "text": np.array(["x", "yé"]),
    "by columns": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "nothing": np.empty((0, 3)),
    "no text": np.empty(0, "U1"),
    "truth values": np.ones((2, 1, 3), dtype=bool),
    "half precision": np.array([1.5, -2.0], dtype=np.float16),
    "another byte order": np.arange(3, dtype=">i8"),
    "text in another byte order": np.array(["a", "bcd"], dtype=">U3"),
}


@pytest.mark.parametrize("name", KEPT)
def test_arrays_survive_the_disk_to_the_last_bit_in_this_processor_s_byte_order(name: str) -> None:
    restored = load_state(dump_state({name: KEPT[name]}), where="s")[name]
    np.testing.assert_array_equal(restored, KEPT[name])
    assert restored.dtype.isnative
    assert restored.shape == KEPT[name].shape


def test_as_many_members_as_a_graph_has_inputs_are_read() -> None:
    assert len(load_state(of_members(5_000), where="s")) == 5_000
