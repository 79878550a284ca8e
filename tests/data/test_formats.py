"""A file that is no data set is named as what it is, with the remedy."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.data.formats import digest_of, out_of_order, parts_of
from service.errors import DataError

FRAME = pl.DataFrame({"a": [1, 2], "y": ["no", "yes"]})
CSV = b"a,y\n1,no\n2,yes\n"


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    FRAME.write_parquet(buffer)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, X=np.zeros(3))
    return buffer.getvalue()


XLS = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)
KINDS: dict[str, tuple[str, bytes, str]] = {
    "Excel": ("rows.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook .*CSV UTF-8"),
    "Excel called CSV": ("rows.csv", zipped("[Content_Types].xml"), "an Excel workbook .*CSV UTF-8"),
    "Excel called Parquet": ("rows.parquet", zipped("[Content_Types].xml"), "an Excel workbook"),
    "old Excel": ("rows.xls", XLS, r"an Excel workbook \(\.xls\): save the sheet as CSV UTF-8"),
    "old Excel called CSV": ("rows.csv", XLS, r"an Excel workbook \(\.xls\)"),
    "HTML called xls": ("rows.xls", b"<table>", "an Excel workbook: save"),
    "OpenDocument": ("rows.csv", zipped("mimetype", "content.xml"), "an OpenDocument file"),
    "gzip": ("rows.csv.gz", gzip.compress(CSV), "compressed with gzip: decompress it first"),
    "gzip called CSV": ("rows.csv", gzip.compress(CSV), "compressed with gzip"),
    "zip": ("rows.zip", zipped("rows.csv"), "a ZIP archive: decompress it first"),
    "zip called CSV": ("rows.csv", zipped("rows.csv"), "a ZIP archive"),
    "Parquet called CSV": ("rows.csv", parquet(), r"a Parquet file: let its name end in \.parquet"),
    "NPZ called CSV": ("rows.csv", npz(), r"a NumPy archive: let its name end in \.npz"),
    "NPY": ("rows.npy", b"\x93NUMPY\x01\x00", "a single NumPy array .*numpy.savez"),
    "pickle": ("rows.csv", b"\x80\x04\x95", "a Python pickle, which is never read"),
    "UTF-16": ("rows.csv", CSV.decode().encode("utf-16"), "UTF-16 text: save it as CSV UTF-8"),
    "UTF-16 without a mark": ("rows.csv", CSV.decode().encode("utf-16-le"), "not text in UTF-8 .*save it as CSV UTF-8"),
    "UTF-32": ("rows.csv", CSV.decode().encode("utf-32"), "UTF-32 text"),
    "HTML": ("rows.csv", b"<!DOCTYPE html><table>", "an HTML or XML document"),
    "JSON": ("rows.csv", b'[{"a": 1}]', "a JSON document"),
    "JSON lines": ("rows.csv", b'{"a": 1}\n{"a": 2}\n', "a JSON document"),
    "a separator's line": ("rows.csv", b"sep=;\na;y\n", "a line that names the separator: remove that line"),
    "empty": ("rows.csv", b"", "is empty"),
    "blank": ("rows.csv", b"\n  \n", "is empty"),
    "a byte order mark": ("rows.csv", b"\xef\xbb\xbf", "is empty"),
    "empty Parquet": ("rows.parquet", b"", "is empty"),
    "tabs": ("rows.tsv", b"a\ty\n", r"separated by tabs: .*; a data set is one of \.npz, \.csv, \.parquet"),
    "another suffix": ("rows.txt", CSV, r"of another kind: convert it; a data set is one of"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_named_as_what_it_is(kind: str, tmp_path: Path) -> None:
    name, data, words = KINDS[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words) as error:
        parts_of(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "data"), [("rows.csv", CSV), ("rows.parquet", parquet()), ("rows.npz", npz())])
def test_a_data_set_is_its_only_part(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert parts_of(tmp_path / name) == (tmp_path / name,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "parts.parquet"
    made.mkdir()
    for i in (1, 0):
        FRAME.write_parquet(made / f"part-000{i}.parquet")
    for name in ("_SUCCESS", ".part-0000.parquet.crc", "_metadata"):
        (made / name).write_text("")
    return made


def test_a_directory_is_its_parts_in_the_order_of_their_names(folder: Path) -> None:
    assert [part.name for part in parts_of(folder)] == ["part-0000.parquet", "part-0001.parquet"]


def test_a_directory_of_nothing_or_of_several_kinds_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "more.csv").write_bytes(CSV)
    (tmp_path / "none").mkdir()
    for path in (folder, tmp_path / "none"):
        with pytest.raises(DataError, match=r"its parts must all be \.parquet files or all be \.csv files"):
            parts_of(path)


def test_directories_that_stand_for_values_are_refused(folder: Path) -> None:
    (folder / "y=0").mkdir()
    with pytest.raises(DataError, match="has directories inside"):
        parts_of(folder)


def rename(folder: Path) -> None:
    (folder / "part-0000.parquet").rename(folder / "part-0002.parquet")


def rewrite(folder: Path) -> None:
    FRAME.with_columns(a=pl.lit(7)).write_parquet(folder / "part-0001.parquet")


def remove(folder: Path) -> None:
    (folder / "part-0001.parquet").unlink()


@pytest.mark.parametrize("change", [rename, rewrite, remove])
def test_a_directory_s_digest_is_that_of_its_parts(change: Callable[[Path], None], folder: Path) -> None:
    before = digest_of(folder)
    (folder / "_SUCCESS").write_text("again")
    assert digest_of(folder) == before
    change(folder)
    assert digest_of(folder) != before


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["part-1", "part-10", "part-2"], ("part-10", "part-2")),
        (["part-01", "part-02", "part-10"], None),
        (["2026-1-31", "2026-10-1", "2026-2-1"], ("2026-10-1", "2026-2-1")),
        (["9f3c-1", "9f3c-2", "a12b-1"], None),
        (["part-0-12ab", "part-0-9f3c"], None),
        (["a", "b"], None),
        (["a"], None),
    ],
)
def test_parts_whose_numbers_are_out_of_order_are_found(names: list[str], found: tuple[str, str] | None) -> None:
    assert names == sorted(names)
    assert out_of_order([Path(name) for name in names]) == found
