"""Every format as a source of blocks: the same rows, whole or from any row on."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.data.cells import Cells, Typed, floats, ids
from service.data.sources import SOURCES, open_source
from service.errors import DataError

ROWS = 25
FRAME = pl.DataFrame({"a": np.arange(ROWS) / 4, "b": np.arange(ROWS) * 1.0, "who": [f"p{i}" for i in range(ROWS)]})


def typed(cells: Cells) -> np.ndarray:
    assert isinstance(cells, Typed)
    return cells.values


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def make(suffix: str) -> Path:
        path = tmp_path / f"rows{suffix}"
        if suffix == ".npz":
            a, b = FRAME["a"].to_numpy(), FRAME["b"].to_numpy()
            np.savez_compressed(path, a=a, b=b, who=np.array(FRAME["who"].to_list()))
        elif suffix == ".csv":
            FRAME.write_csv(path)
        else:
            FRAME.write_parquet(path)
        return path

    return make


@pytest.mark.parametrize("suffix", SOURCES)
def test_blocks_put_together_are_the_file(suffix: str, write: Callable[[str], Path]) -> None:
    blocks = list(open_source(write(suffix)).blocks(["a", "b", "who"], rows=10))
    assert [(block.first, block.rows) for block in blocks] == [(0, 10), (10, 10), (20, 5)]
    for name in ("a", "b"):
        found = np.concatenate([floats(block.columns[name])[0] for block in blocks])
        assert found.tolist() == FRAME[name].to_list()
    assert [cell for block in blocks for cell in ids(block.columns["who"])[0]] == FRAME["who"].to_list()


@pytest.mark.parametrize("suffix", SOURCES)
def test_rows_are_counted_without_reading_them_into_memory(suffix: str, write: Callable[[str], Path]) -> None:
    source = open_source(write(suffix))
    assert source.count() == ROWS
    assert source.bound() >= ROWS


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize("first", [0, 1, 20, 24, 25, 99])
def test_reading_goes_on_where_it_ended(suffix: str, first: int, write: Callable[[str], Path]) -> None:
    blocks = list(open_source(write(suffix)).blocks(["who"], rows=10, first=first))
    assert [cell for block in blocks for cell in ids(block.columns["who"])[0]] == FRAME["who"].to_list()[first:]
    assert [block.first for block in blocks] == list(range(first, ROWS, 10))


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(DataError, match="different numbers of rows: 'a' has 3 and 'b' has 2"):
        list(open_source(tmp_path / "rows.npz").blocks(["a", "b"], rows=10))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="objects are never unpickled"):
        list(open_source(tmp_path / "rows.npz").blocks(["a"], rows=10))


@pytest.mark.parametrize("first", [0, 13])
def test_an_array_stored_by_columns_is_the_same_array(first: int, tmp_path: Path) -> None:
    values = np.arange(75.0).reshape(25, 3)
    np.savez(tmp_path / "rows.npz", X=np.asfortranarray(values), Z=np.asfortranarray(np.ones((25, 2, 3))))
    blocks = list(open_source(tmp_path / "rows.npz").blocks(["X", "Z"], rows=10, first=first))
    found = np.concatenate([typed(block.columns["X"]) for block in blocks])
    np.testing.assert_array_equal(found, values[first:])


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
def test_an_array_with_a_header_of_another_version_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.zeros(3), b=np.zeros(3, dtype=[("日", "f4")]))
    source = open_source(tmp_path / "rows.npz")
    assert source.count() == 3
    assert [block.rows for block in source.blocks(["a"], rows=10)] == [3]
    with pytest.raises(DataError, match="array 'b' has a header that plain arrays do not have"):
        list(source.blocks(["b"], rows=10))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("size", [6, 200, 400])
def test_a_damaged_file_is_refused_in_one_line(suffix: str, size: int, write: Callable[[str], Path]) -> None:
    path = write(suffix)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="cannot be read") as error:
        list(open_source(path).blocks(["a"], rows=10))
    assert "\n" not in str(error.value)


def npz(path: Path, shape: str, values: bytes, *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """An array with any shape in its header."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values)
    return path


@pytest.mark.parametrize(
    "shape",
    [
        "(1099511627776,)",
        "(1, 4294967296, 4294967296)",
        "(-1,)",
        "(1, -1)",
        "(9999999999999999999,)",
        "(2,)",
        "(0,)",
        "(" * 900,
        "-" * 4_000 + "1",
    ],
)
def test_an_array_of_another_size_than_its_header_says_is_refused_before_there_is_room_for_it(
    shape: str, tmp_path: Path
) -> None:
    source = open_source(npz(tmp_path / "rows.npz", shape, bytes(8)))
    with pytest.raises(DataError, match=r"rows\.npz"):
        source.count()
    with pytest.raises(DataError, match=r"rows\.npz"):
        list(source.blocks(["a"], rows=10))


def test_a_large_compressed_array_is_read_in_parts(tmp_path: Path) -> None:
    source = open_source(npz(tmp_path / "rows.npz", "(1000000, 2)", bytes(16_000_000)))
    assert source.count() == 1_000_000
    assert next(iter(source.blocks(["a"], rows=10))).rows == 10
