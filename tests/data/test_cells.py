"""What a cell may be: one table of rules, the same for every verb, whatever the format.

`CSV`, `PARQUET` and `NPZ` are the table of docs/guide/data-files.md, cell by cell. Every entry goes through `fit`,
`evaluate` and `score`, which must accept the same and read the same values.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.numerics import Array
from service.data import cells
from service.data.column_roles import DEFAULT_COLUMNS, Columns, Selection
from service.data.dataset import read_dataset
from service.data.reader import join_chunks, read_chunks
from service.errors import NoSignal, ServiceError
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.fitting.fit import FitRequest, fit
from service.runtime.model import load_model
from service.runtime.rows import Fields, Rows
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest

ROWS: Final = 60
PROBED: Final = 10
MANIFEST: Final = """\
schema = 1
title = "a number, a whole number, a flag and a text"
[graph]
output = "scores"
output_kind = "logits"
classes = ["no", "yes"]
[[inputs]]
name = "number"
[[inputs]]
name = "whole"
[[inputs]]
name = "flag"
[[inputs]]
name = "text"
"""
DECLARED: Final = """\
[features]
number = { missing = { impute = 0.0 } }
whole = { missing = { impute = 4 } }
flag = { missing = { impute = 0 } }
text = { missing = { impute = "er" } }
"""
REFUSED: Final = "refused"
"""What a table says of a cell that ends the run; the sentence must name the row, the column, and no value."""
GAP: Final = "missing"
"""Refused too, unless the manifest declares what a missing value means."""
COLUMNS: Final = ("number", "whole", "flag", "text", "y", "group", "weight", "id")
OF_LABELLED: Final = ("y", "group", "weight")
"""Columns that `score` does not read."""

BASE: Final[dict[str, list[Any]]] = {
    "number": [i / 4 - 7.0 for i in range(ROWS)],
    "whole": [i % 9 for i in range(ROWS)],
    "flag": [i % 2 for i in range(ROWS)],
    "text": ["er" if i % 3 else "icu" for i in range(ROWS)],
    "y": ["yes" if (i * 7) % 10 < 3 + i / 12 else "no" for i in range(ROWS)],
    "group": [f"p{i // 2}" for i in range(ROWS)],
    "weight": [1.0] * ROWS,
    "id": [f"r{i}" for i in range(ROWS)],
}


def graph(path: Path) -> Path:
    """Logits [0, number + whole / 10 + flag + (text = icu)]."""
    kinds = {
        "number": TensorProto.FLOAT,
        "whole": TensorProto.INT64,
        "flag": TensorProto.BOOL,
        "text": TensorProto.STRING,
    }
    infos = [helper.make_tensor_value_info(name, kind, [None, 1]) for name, kind in kinds.items()]
    nodes = [
        helper.make_node("Cast", ["whole"], ["whole_"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["flag"], ["flag_"], to=TensorProto.FLOAT),
        helper.make_node(
            "LabelEncoder",
            ["text"],
            ["text_"],
            domain="ai.onnx.ml",
            keys_strings=["icu"],
            values_floats=[1.0],
            default_float=0.0,
        ),
        helper.make_node("Concat", ["number", "whole_", "flag_", "text_"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "w"], ["scores"]),
    ]
    weights = numpy_helper.from_array(np.array([[0, 0.5], [0, 0.1], [0, 1], [0, 1]], dtype=np.float32), "w")
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])
    made = helper.make_graph(nodes, "g", infos, [scores], [weights])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 2)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


class Verbs:
    """A draft and its version, and every verb that reads a file, as `fit`, `evaluate` and `score` do."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.files: dict[str, Path | str] = {
            "model.onnx": graph(folder / "model.onnx"),
            "manifest.toml": MANIFEST + more,
        }
        self.repository = Repository(folder / "models")
        create_draft(self.repository, "mixed", self.files, force=True)
        self.model = load_model(self.repository.draft("mixed"))

    def fit(self, path: Path, columns: Columns) -> None:
        create_draft(self.repository, "mixed", self.files, force=True)
        with contextlib.suppress(NoSignal):  # the file was read: a number of 1e16 drowns what the others say
            fit(self.repository, "mixed", FitRequest(path, columns=columns))

    def evaluate(self, path: Path, columns: Columns) -> None:
        evaluate_file(self.model, EvaluateRequest(path, columns=columns))

    def score(self, path: Path, columns: Columns) -> None:
        del columns
        out = self.folder / "out.parquet"
        out.unlink(missing_ok=True)
        score(self.model, ScoreRequest(path, out, id_column="id", chunk_rows=25))
        assert pl.read_parquet(out).height == ROWS

    def verdicts(self, path: Path, column: str, columns: Columns = DEFAULT_COLUMNS) -> dict[str, str | None]:
        """What every verb that reads a column says of a file: the error's sentence, or None where it is accepted."""
        return {verb: refusal_of(getattr(self, verb), path, columns) for verb in VERBS[column]}

    def read(self, path: Path) -> tuple[Rows, dict[str, Any]]:
        """Rows and columns as `score` reads them, and as `fit` and `evaluate` do; both are the same."""
        selection = Selection(self.model.inputs, DEFAULT_COLUMNS, "id")
        parts = list(read_chunks(path, self.model.manifest, selection, rows=7))
        whole = join_chunks(parts, path)
        data = read_dataset(path, self.model.manifest, inputs=self.model.inputs)
        assert isinstance(whole.rows, Fields)
        assert isinstance(data.rows, Fields)
        np.testing.assert_array_equal(whole.rows.numbers, data.rows.numbers)
        assert whole.rows.others["text"].tolist() == data.rows.others["text"].tolist()
        columns = {"y": whole.columns["label"]} | {name: whole.columns[name] for name in ("group", "weight", "id")}
        return whole.rows, columns


def refusal_of(verb: Callable[[Path, Columns], None], path: Path, columns: Columns) -> str | None:
    try:
        verb(path, columns)
    except NoSignal:  # the file was read; an odd cell may take the signal of so few rows away
        return None
    except ServiceError as error:
        return str(error)
    return None


ALL: Final = ("fit", "evaluate", "score")
VERBS: Final = {name: ALL[:2] if name in OF_LABELLED else ALL for name in COLUMNS} | {"id": ALL[2:]}


def value_of(read: tuple[Rows, dict[str, Any]], column: str, row: int) -> Any:
    rows, columns = read
    assert isinstance(rows, Fields)
    if column == "whole":
        return rows.others["whole"][row] if not np.isnan(rows.numbers[row, 1]) else None
    if column in ("number", "flag"):
        return rows.numbers[row, ("number", "whole", "flag").index(column)]
    return rows.others["text"][row] if column == "text" else columns[column][row]


def same(found: Any, expected: Any, column: str) -> bool:
    if expected is GAP:
        return found is None or found != found or (column == "whole" and found == 4)  # noqa: PLR0124  # NaN alone
    return bool(found == expected)


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Verbs:
    """A model that says what missing values mean."""
    return Verbs(tmp_path_factory.mktemp("declared"), DECLARED)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Verbs:
    """A model that takes no missing values."""
    return Verbs(tmp_path_factory.mktemp("strict"))


# --------------------------------------------------------------------------------------------------------------- CSV

R, G = REFUSED, GAP
CSV: Final[dict[str, tuple[Any, ...]]] = {
    # cell as it stands in the file: number, whole, flag, text, y, group, weight, id
    "1.5": (1.5, R, R, "1.5", R, "1.5", 1.5, "1.5"),
    "1": (1.0, 1, 1, "1", R, "1", 1.0, "1"),
    "-3": (-3.0, -3, R, "-3", R, "-3", R, "-3"),
    " 1 ": (1.0, 1, 1, " 1 ", R, "1", 1.0, " 1 "),
    '"1"': (1.0, 1, 1, "1", R, "1", 1.0, "1"),
    ' "1" ': (1.0, 1, 1, "1", R, "1", 1.0, ' "1" '),
    "+1": (1.0, 1, 1, "+1", R, "+1", 1.0, "+1"),
    "1.0": (1.0, 1, 1, "1.0", R, "1.0", 1.0, "1.0"),
    "1.": (1.0, 1, 1, "1.", R, "1.", 1.0, "1."),
    ".5": (0.5, R, R, ".5", R, ".5", 0.5, ".5"),
    "1e0": (1.0, 1, 1, "1e0", R, "1e0", 1.0, "1e0"),
    "2.5E+1": (25.0, 25, R, "2.5E+1", R, "2.5E+1", 25.0, "2.5E+1"),
    "007": (7.0, 7, R, "007", R, "007", 7.0, "007"),
    "1e-400": (0.0, R, 0, "1e-400", R, "1e-400", 0.0, "1e-400"),
    "1e16": (1e16, R, R, "1e16", R, "1e16", 1e16, "1e16"),
    "9007199254740993": (2.0**53, 2**53 + 1, R, "9007199254740993", R, "9007199254740993", 2.0**53, "9007199254740993"),
    "99999999999999999999": (1e20, R, R, "99999999999999999999", R, "99999999999999999999", 1e20, "9" * 20),
    "1e400": (R, R, R, "1e400", R, "1e400", R, "1e400"),
    "inf": (R, R, R, "inf", R, "inf", R, "inf"),
    "-Infinity": (R, R, R, "-Infinity", R, "-Infinity", R, "-Infinity"),
    "": (G, G, G, G, R, R, R, None),
    '""': (G, G, G, G, R, R, R, None),
    "  ": (G, G, G, G, R, R, R, "  "),
    "NaN": (G, G, G, "NaN", R, R, R, "NaN"),
    "nan": (G, G, G, "nan", R, R, R, "nan"),
    "-nan": (G, G, G, "-nan", R, R, R, "-nan"),
    "NA": (G, G, G, "NA", R, R, R, "NA"),
    '"NA"': (G, G, G, "NA", R, R, R, "NA"),
    "N/A": (G, G, G, "N/A", R, R, R, "N/A"),
    "#N/A": (G, G, G, "#N/A", R, R, R, "#N/A"),
    "<NA>": (G, G, G, "<NA>", R, R, R, "<NA>"),
    "null": (G, G, G, "null", R, R, R, "null"),
    "None": (G, G, G, "None", R, R, R, "None"),
    "True": (1.0, 1, 1, "True", R, "True", 1.0, "True"),
    "false": (0.0, 0, 0, "false", R, "false", 0.0, "false"),
    "TRUE": (1.0, 1, 1, "TRUE", R, "TRUE", 1.0, "TRUE"),
    "yes": (R, R, R, "yes", "yes", "yes", R, "yes"),
    " yes": (R, R, R, " yes", " yes", "yes", R, " yes"),
    ' "yes"': (R, R, R, "yes", ' "yes"', "yes", R, ' "yes"'),
    "Yes": (R, R, R, "Yes", R, "Yes", R, "Yes"),
    '"1,5"': (R, R, R, "1,5", R, "1,5", R, "1,5"),
    '"1.234,5"': (R, R, R, "1.234,5", R, "1.234,5", R, "1.234,5"),
    "1_000": (R, R, R, "1_000", R, "1_000", R, "1_000"),
    "0x10": (R, R, R, "0x10", R, "0x10", R, "0x10"),
    "12%": (R, R, R, "12%", R, "12%", R, "12%"),
    "?": (R, R, R, "?", R, "?", R, "?"),
    "-": (R, R, R, "-", R, "-", R, "-"),
    "٣": (R, R, R, "٣", R, "٣", R, "٣"),
    "2024-01-31": (R, R, R, "2024-01-31", R, "2024-01-31", R, "2024-01-31"),
    '"a ""b"" c"': (R, R, R, 'a "b" c', R, 'a "b" c', R, 'a "b" c'),
    '"two\nlines"': (R, R, R, "two\nlines", R, "two\nlines", R, "two\nlines"),
}


def with_cell(folder: Path, cell: str, columns: Sequence[str]) -> Path:
    """A CSV file that holds a cell in some columns of one row."""
    rows = [[str(BASE[name][i]) for name in COLUMNS] for i in range(ROWS)]
    rows[PROBED] = [cell if name in columns else str(BASE[name][PROBED]) for name in COLUMNS]
    lines = [",".join(row) for row in (COLUMNS, *rows)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "rows.csv"


@pytest.mark.parametrize("cell", CSV)
def test_a_cell_of_text_is_the_same_to_every_verb(cell: str, declared: Verbs, strict: Verbs, tmp_path: Path) -> None:
    rules = dict(zip(COLUMNS, CSV[cell], strict=True))
    good = [name for name in COLUMNS if rules[name] is not REFUSED]
    path = with_cell(tmp_path, cell, good)
    assert declared.verdicts(path, "number") == dict.fromkeys(ALL)
    read = declared.read(path)
    for name in good:
        assert same(value_of(read, name, PROBED), rules[name], name), name
    for name in COLUMNS:
        if rules[name] is REFUSED:
            assert_refused(declared.verdicts(with_cell(tmp_path, cell, [name]), name), name, cell)
        elif rules[name] is GAP:
            found = strict.verdicts(with_cell(tmp_path, cell, [name]), name)
            assert_refused(found, name, cell)
            assert all("the manifest can declare what a missing value means" in str(why) for why in found.values())


def assert_refused(found: dict[str, str | None], column: str, cell: str) -> None:
    (sentence,) = set(found.values())
    assert sentence is not None, column
    assert f"line {PROBED + 2}" in sentence
    assert f"column '{column}'" in sentence
    assert len(cell.strip(' "')) < 4 or cell not in sentence


@pytest.mark.parametrize(
    ("cell", "column", "words"),
    [
        ('"1,5"', "number", "has a comma inside a number"),
        ('"1.234,5"', "number", "has a comma inside a number"),
        ("inf", "number", "is infinite"),
        ("1e400", "whole", "does not fit a 64-bit whole number"),
        ("1e16", "whole", "may have lost digits"),
        ("0.5", "whole", "is not a whole number"),
        ("12%", "weight", "is not a number"),
        ("-1", "weight", "is no weight"),
        ("1e101", "weight", "is a weight above 1e+100"),
        ("2", "flag", "must be true or false"),
        ("NA", "group", "every row needs its group"),
    ],
)
def test_the_fault_of_a_cell_is_named(cell: str, column: str, words: str, declared: Verbs, tmp_path: Path) -> None:
    found = declared.verdicts(with_cell(tmp_path, cell, [column]), column)
    assert all(words in str(sentence) for sentence in found.values()), found


# -------------------------------------------------------------------------------------------------- files with types

HALVES: Final = [i % 2 for i in range(ROWS)]
AS_NUMBERS: Final = ("number", "whole", "flag", "y", "group", "weight", "id")
WHOLE: Final = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Int128")
NUMBERS: Final = (*WHOLE, "Float32", "Float64")
WORDS: Final = ("text", "y", "group", "id")
DAYS: Final = [dt.date(2024, 1, 1 + i % 20) for i in range(ROWS)]
PARQUET: Final[dict[str, tuple[Callable[[], pl.Series], tuple[str, ...]]]] = {
    **{name: (lambda name=name: pl.Series(HALVES, dtype=getattr(pl, name)()), AS_NUMBERS) for name in NUMBERS},  # type: ignore[misc]
    "Decimal": (lambda: pl.Series([Decimal(h) for h in HALVES], dtype=pl.Decimal(10, 4)), AS_NUMBERS),
    "Boolean": (lambda: pl.Series([h == 1 for h in HALVES]), tuple(n for n in AS_NUMBERS if n != "y")),
    "String": (lambda: pl.Series(BASE["y"]), WORDS),
    "Categorical": (lambda: pl.Series(BASE["y"], dtype=pl.Categorical), WORDS),
    "Enum": (lambda: pl.Series(BASE["y"], dtype=pl.Enum(["no", "yes"])), WORDS),
    "Null": (lambda: pl.Series([None] * ROWS, dtype=pl.Null), ("number", "whole", "flag", "text", "id")),
    "Date": (lambda: pl.Series(DAYS), ("id",)),
    "Datetime": (lambda: pl.Series(DAYS).cast(pl.Datetime("us", "UTC")), ("id",)),
    "Time": (lambda: pl.Series(HALVES).cast(pl.Time), ("id",)),
    "Duration": (lambda: pl.Series(HALVES).cast(pl.Duration), ()),
    "Binary": (lambda: pl.Series([b"no"] * ROWS), ()),
    "Struct": (lambda: pl.Series([{"a": 1}] * ROWS), ()),
    "List": (lambda: pl.Series([[1, 2]] * ROWS), ()),
    "Array": (lambda: pl.Series([[1, 2]] * ROWS, dtype=pl.Array(pl.Int64, 2)), ()),
}
PLAIN: Final = ("<f2", "<f4", "<f8", ">f8", "i1", "<i2", "<i4", ">i4", "<i8", "u1", "<u2", "<u4", "<u8")
NPZ: Final[dict[str, tuple[Callable[[], Any], tuple[str, ...]]]] = {
    **{name: (lambda name=name: np.array(HALVES, dtype=name), AS_NUMBERS) for name in PLAIN},  # type: ignore[misc]
    "bool": (lambda: np.array(HALVES) == 1, tuple(n for n in AS_NUMBERS if n != "y")),
    "U": (lambda: np.array(BASE["y"]), WORDS),
    "S": (lambda: np.array(BASE["y"], dtype="S"), ()),
    "M8": (lambda: np.array(DAYS, dtype="M8[D]"), ("id",)),
    "m8": (lambda: np.array(HALVES, dtype="m8[s]"), ()),
    "c16": (lambda: np.array(HALVES, dtype="c16"), ()),
    "O": (lambda: np.array(BASE["y"], dtype=object), ()),
    "rank 2": (lambda: np.zeros((ROWS, 2)), ()),
}


def write_parquet(folder: Path, column: pl.Series, names: Sequence[str]) -> Path:
    pl.DataFrame(BASE | dict.fromkeys(names, column)).write_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def write_npz(folder: Path, column: Any, names: Sequence[str]) -> Path:
    arrays: dict[str, Any] = {n: column if n in names else np.array(v) for n, v in BASE.items()}
    np.savez(folder / "rows.npz", **arrays)
    return folder / "rows.npz"


WRITERS: Final = {"parquet": (write_parquet, PARQUET), "npz": (write_npz, NPZ)}
TYPES: Final = [(form, kind) for form, (_, table) in WRITERS.items() for kind in table]


@pytest.mark.parametrize(("form", "kind"), TYPES)
def test_a_column_of_a_type_is_the_same_to_every_verb(form: str, kind: str, declared: Verbs, tmp_path: Path) -> None:
    write: Any
    write, table = WRITERS[form]
    make, good = table[kind]
    if good:
        rows = [name for name in good if name not in ("group", "weight")]  # two groups are too few for a fit
        assert declared.verdicts(write(tmp_path, make(), rows), "number") == dict.fromkeys(ALL)
        check_values(declared.read(write(tmp_path, make(), good)), good, kind)
    for name in COLUMNS:
        if name not in good:
            (sentence,) = set(declared.verdicts(write(tmp_path, make(), [name]), name).values())
            assert sentence is not None, name
            assert repr(name) in sentence


def check_values(read: tuple[Rows, dict[str, Any]], good: Sequence[str], kind: str) -> None:
    for name in good:
        found = [value_of(read, name, row) for row in range(ROWS)]
        if name in ("number", "whole", "flag", "weight") and kind != "Null":
            assert found == HALVES
        elif name == "text" and kind != "Null":
            assert found == BASE["y"]
        elif name == "id" and kind in WHOLE:
            assert found == [str(half) for half in HALVES]


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_the_same_table_is_the_same_rows_in_every_format(form: str, declared: Verbs, tmp_path: Path) -> None:
    table = pl.DataFrame(BASE).with_columns(
        pl.when(pl.int_range(ROWS) == PROBED).then(None).otherwise(pl.col("number")).alias("number")
    )
    path = tmp_path / f"rows.{form}"
    if form == "npz":
        arrays: dict[str, Any] = {
            name: np.array(BASE[name]) if table[name].dtype == pl.String else table[name].to_numpy() for name in COLUMNS
        }
        np.savez(path, **arrays)
    else:
        table.write_csv(path) if form == "csv" else table.write_parquet(path)
    rows, columns = declared.read(path)
    assert isinstance(rows, Fields)
    expected: Array = np.column_stack([table["number"].to_numpy(), BASE["whole"], BASE["flag"]])
    np.testing.assert_array_equal(rows.numbers, expected)
    assert rows.others["text"].tolist() == BASE["text"]
    assert {name: list(values) for name, values in columns.items()} == {
        n: BASE[n] for n in ("y", "group", "weight", "id")
    }


def test_decimals_are_the_nearest_doubles() -> None:
    spelled = [f"{k}.{k * 7919 % 10**12:012d}" for k in range(1, 500)]
    series = pl.Series([Decimal(word) for word in spelled], dtype=pl.Decimal(30, 12))
    from service.data.parquet_file import _cells

    assert cells.floats(_cells(series))[0].tolist() == [float(word) for word in spelled]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("value", [0, 2**53 + 1, 999000021000000107, 2**63 - 1])
def test_whole_numbers_never_pass_through_a_double(value: int, unsigned: bool) -> None:  # noqa: FBT001  # a parameter
    dtype = np.dtype(np.uint64 if unsigned else np.int64)
    sources: list[cells.Cells] = [
        cells.Text([str(value), ""]),
        cells.Typed(np.array([value, 0]), np.array([False, True])),
    ]
    for source in sources:
        found, gaps, faults = cells.integers(source, unsigned=unsigned)
        assert (found.dtype, found.tolist(), gaps.tolist(), faults) == (dtype, [value, 0], [False, True], [])


@pytest.mark.parametrize(
    ("cell", "unsigned", "detail"),
    [
        (str(2**63), False, cells.TOO_LARGE),
        (str(2**64), True, cells.TOO_LARGE),
        ("-1", True, cells.TOO_LARGE),
        ("9.99000021000000E+17", False, cells.INEXACT),
        ("1e999999999", False, cells.TOO_LARGE),
        ("1" * 5000, False, cells.TOO_LARGE),
        ("1e9999999999", False, cells.NOT_A_NUMBER),
    ],
)
def test_whole_numbers_that_do_not_fit_are_refused(cell: str, unsigned: bool, detail: str) -> None:  # noqa: FBT001
    assert cells.integers(cells.Text(["1", cell]), unsigned=unsigned)[2] == [(1, detail)]


def test_the_guide_names_every_spelling_of_a_missing_value() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "data-files.md").read_text(encoding="utf-8").lower()
    assert all(f"`{spelling}`" in guide for spelling in cells.MISSING - {""})


SPELLINGS: Final = st.one_of(
    st.text(max_size=12),
    st.text(alphabet='0123456789+-.eE_, "', max_size=12),
    st.floats().map(repr),
    st.integers().map(str),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
)


@given(number=st.floats(allow_nan=False, allow_infinity=False), digits=st.integers(1, 40))
def test_numbers_are_the_nearest_doubles(number: float, digits: int) -> None:
    spelt = [repr(number), f"{number:.{digits}e}", f" {number:+.{digits}E} "]
    found, nearest = cells.floats(cells.Text(spelt))[0], np.array([float(text) for text in spelt])
    np.testing.assert_array_equal(found, np.where(np.isinf(nearest), np.nan, nearest))  # rounded beyond the largest


@given(number=st.integers(-(2**65), 2**65))
def test_whole_numbers_keep_all_their_digits(number: int) -> None:
    for unsigned, fits in ((False, -(2**63) <= number < 2**63), (True, 0 <= number < 2**64)):
        spelt = cells.Text([f"{number}", f" {number:+} ", f"{number:040}", f" {number:040}"])
        whole, _, faults = cells.integers(spelt, unsigned=unsigned)
        assert whole.tolist() == [number if fits else 0] * 4
        assert bool(faults) == (not fits)


@given(cell=SPELLINGS)
def test_any_text_is_a_value_a_gap_or_a_fault_and_never_an_exception(cell: str) -> None:
    for convert in cells.CONVERTERS.values():
        convert(cells.Text([cell, "1"]))
    (value, _), faults = cells.floats(cells.Text([cell, "1"]))
    exact = cells.number_of(cell)
    np.testing.assert_equal(value, np.nan if exact is None or np.isinf(float(exact)) else float(exact))
    assert bool(faults) == (np.isnan(value) and not cells.is_missing(cell))
    whole, gaps, wrong = cells.integers(cells.Text([cell, "NA"]))
    if not faults and not wrong:
        assert gaps[0] == np.isnan(value)
        assert gaps[0] or float(whole[0]) == value


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.Decimal(10, 2), pl.Int128, pl.String])
@pytest.mark.parametrize("role", ["group", "id"])
def test_a_name_that_is_a_number_is_the_same_whatever_the_type_of_its_column(
    role: str, kind: Any, declared: Verbs, tmp_path: Path
) -> None:
    names = [str(i // 2) for i in range(ROWS)]
    whole = pl.DataFrame(BASE | {role: pl.Series(names).cast(pl.Int64)})
    (tmp_path / "parts").mkdir()
    whole[:31].write_parquet(tmp_path / "parts" / "0.parquet")
    whole[31:].with_columns(pl.col(role).cast(kind)).write_parquet(tmp_path / "parts" / "1.parquet")
    assert declared.read(tmp_path / "parts")[1][role].tolist() == names
