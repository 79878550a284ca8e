from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.errors import DataError
from service.evaluation.chunks import SOURCES, Chunks, count_rows, read_chunks

ROWS = 25
FRAME = pl.DataFrame({"a": np.arange(ROWS) / 4, "b": np.arange(ROWS) * 1.0, "who": [f"p{i}" for i in range(ROWS)]})
WANTED = Chunks(10, 0, ("a", "b"), ("who",))


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
def test_chunks_put_together_are_the_file(suffix: str, write: Callable[[str], Path]) -> None:
    parts = list(read_chunks(write(suffix), WANTED))
    assert [len(part["a"]) for part in parts] == [10, 10, 5]
    for name in FRAME.columns:
        assert np.concatenate([part[name] for part in parts]).tolist() == FRAME[name].to_list()


@pytest.mark.parametrize("suffix", SOURCES)
def test_rows_are_counted_without_reading_them_into_memory(suffix: str, write: Callable[[str], Path]) -> None:
    assert count_rows(write(suffix)) == ROWS


@pytest.mark.parametrize("suffix", SOURCES)
def test_reading_goes_on_where_it_ended(suffix: str, write: Callable[[str], Path]) -> None:
    parts = list(read_chunks(write(suffix), Chunks(10, 20, ("a", "b"), ("who",))))
    assert [part["who"].tolist() for part in parts] == [["p20", "p21", "p22", "p23", "p24"]]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_is_not_there_is_named(suffix: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="has no column 'c'"):
        list(read_chunks(write(suffix), Chunks(10, 0, ("a", "c"))))


@pytest.mark.parametrize("name", ["rows.txt", "nothing.csv"])
def test_what_is_no_data_set_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"is one of|does not exist"):
        count_rows(tmp_path / name)


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(DataError, match=r"one and the same number of rows, they have \[2, 3\]"):
        count_rows(tmp_path / "rows.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="must be plain"):
        count_rows(tmp_path / "rows.npz")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_that_is_something_else_is_refused_in_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="cannot be read") as error:
        count_rows(path)
    assert "\n" not in str(error.value)


def test_a_word_among_numbers_is_placed_and_never_repeated(write: Callable[[str], Path]) -> None:
    path = write(".csv")
    path.write_text(path.read_text().replace("5.0,20.0", "5.0,zq7canary"))
    with pytest.raises(DataError, match=r"column 'b' is not numeric: text in row 20 \(rows count from 0\)") as error:
        list(read_chunks(path, WANTED))
    assert "zq7canary" not in str(error.value)


def test_a_row_of_more_cells_than_columns_is_refused_whatever_columns_are_taken(write: Callable[[str], Path]) -> None:
    path = write(".csv")
    path.write_text(path.read_text().replace("5.0,20.0", "5,0,20,0"))  # decimal commas move every later cell
    with pytest.raises(DataError, match="cannot be read: found more fields"):
        list(read_chunks(path, WANTED))
