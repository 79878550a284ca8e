import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.bundle.manifest import Manifest, parse_manifest
from service.bundle.repository import Repository
from service.cli import main as cli
from service.data.column_roles import Columns
from service.data.dataset import read_dataset, read_rows
from service.data.labels import read_labels
from service.errors import DataError

X = np.array([[0.5, -1.25], [2.0, 3.0], [4.0, 5.5], [-7.0, 8.0]])
Y = ["bob", "ann", "ann", "bob"]
INDICES = [1, 0, 0, 1]

Save = Callable[..., Path]
Make = Callable[..., Manifest]


def table(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"f0": X[:, 0], "f1": X[:, 1], "y": Y} | columns)


@pytest.fixture
def written(tmp_path: Path, save: Save) -> Callable[[str], Path]:
    """The same four rows in every format, with groups and weights."""
    extra = {"group": ["p", "q", "p", "r"], "weight": [1.0, 2.0, 0.0, 0.5]}

    def write(form: str) -> Path:
        path = tmp_path / f"rows.{form}"
        if form == "npz":
            return save("rows", X=X, y=np.array(Y), **extra)
        frame = table(**extra)
        frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
        return path

    return write


@pytest.mark.parametrize("form", ["npz", "csv", "parquet"])
def test_every_format_holds_the_same_data_set(form: str, written: Callable[[str], Path], toy_manifest: Make) -> None:
    data = read_dataset(written(form), toy_manifest())
    np.testing.assert_array_equal(data.numbers, X)
    assert data.numbers.dtype == np.float64
    assert data.labels.tolist() == INDICES
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 0, 2]
    assert data.weights is not None
    assert data.weights.tolist() == [1.0, 2.0, 0.0, 0.5]
    assert len(data) == 4


@pytest.mark.parametrize("form", ["npz", "csv", "parquet"])
def test_the_digest_is_that_of_the_file(form: str, written: Callable[[str], Path], toy_manifest: Make) -> None:
    path = written(form)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_dataset(path, toy_manifest()).digest == f"sha256:{expected}"


def test_columns_are_found_by_name_in_any_order_and_others_ignored(tmp_path: Path, toy_manifest: Make) -> None:
    frame = table(note=["a", None, "c", "d"]).select("note", "y", "f1", "f0")
    frame.write_csv(tmp_path / "rows.csv")
    data = read_dataset(tmp_path / "rows.csv", toy_manifest())
    np.testing.assert_array_equal(data.numbers, X)
    assert (data.groups, data.weights) == (None, None)


def test_columns_may_have_names_of_their_own(tmp_path: Path, toy_manifest: Make) -> None:
    table(patient=[3, 3, 4, 5], w=[1, 2, 3, 4]).rename({"y": "diagnosis"}).write_parquet(tmp_path / "rows.parquet")
    data = read_dataset(tmp_path / "rows.parquet", toy_manifest(), Columns("diagnosis", "patient", "w"))
    assert data.labels.tolist() == INDICES
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 1, 2]
    assert data.weights is not None
    assert data.weights.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_suffix_may_be_upper_case(written: Callable[[str], Path], toy_manifest: Make) -> None:
    path = written("csv").rename(written("csv").with_suffix(".CSV"))
    assert len(read_dataset(path, toy_manifest())) == 4


def test_whole_numbers_are_numbers(tmp_path: Path, toy_manifest: Make) -> None:
    table(f0=[1, 2, 3, 4]).write_csv(tmp_path / "rows.csv")
    assert read_dataset(tmp_path / "rows.csv", toy_manifest()).numbers[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_number_that_only_shows_late_in_a_file_is_no_surprise(tmp_path: Path, toy_manifest: Make) -> None:
    lines = ["f0,f1,y", *["1,2,ann"] * 2000, "1.5,2.5,bob"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    assert read_dataset(tmp_path / "rows.csv", toy_manifest()).numbers[-1].tolist() == [1.5, 2.5]


def test_an_archive_may_hold_other_things_too(save: Save, toy_manifest: Make) -> None:
    path = save(X=X, y=Y, group=[1, 2, 3, 4], seed=3, names=np.array(["a"] * 9), empty=np.empty(0))
    data = read_dataset(path, toy_manifest())
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 2, 3]


SEVERAL = parse_manifest(
    'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["ann", "bob"]\n'
    '[[inputs]]\nname = "vitals"\nfeatures = ["f0", "f1"]\n[[inputs]]\nname = "age"\n'
)


def test_an_archive_may_hold_one_array_per_graph_input(save: Save) -> None:
    path = save(vitals=X, age=np.array([30, 40, 50, 60]), y=Y)
    np.testing.assert_array_equal(read_dataset(path, SEVERAL).numbers, np.column_stack([X, [30, 40, 50, 60]]))


def test_a_column_input_may_be_rank_two(save: Save) -> None:
    path = save(vitals=X, age=np.array([[30], [40], [50], [60]]), y=Y)
    assert read_dataset(path, SEVERAL).numbers[:, 2].tolist() == [30.0, 40.0, 50.0, 60.0]


def test_one_array_may_hold_the_columns_of_every_input(save: Save) -> None:
    wide = np.column_stack([X, [30, 40, 50, 60]])
    np.testing.assert_array_equal(read_dataset(save(X=wide, y=Y), SEVERAL).numbers, wide)


def test_a_graph_input_called_x_is_the_array_called_x(save: Save) -> None:
    manifest = parse_manifest(
        'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["ann", "bob"]\n'
        '[[inputs]]\nname = "X"\nfeatures = ["f0", "f1"]\n[[inputs]]\nname = "age"\n'
    )
    data = read_dataset(save(X=X, age=np.arange(4), y=Y), manifest)
    np.testing.assert_array_equal(data.numbers, np.column_stack([X, np.arange(4)]))


@pytest.mark.parametrize("rule", ['"nan"', "{ impute = 1.0 }"])
def test_a_missing_value_that_the_manifest_provides_for_stays_nan(
    rule: str, tmp_path: Path, toy_manifest: Make
) -> None:
    table(f1=[1.0, None, 3.0, 4.0]).write_csv(tmp_path / "rows.csv")
    data = read_dataset(tmp_path / "rows.csv", toy_manifest(2, f"[features.f1]\nmissing = {rule}\n"))
    assert np.isnan(data.numbers[:, 1]).tolist() == [False, True, False, False]


def test_rows_without_labels_are_read_without_them(tmp_path: Path, toy_manifest: Make) -> None:
    table().drop("y").write_csv(tmp_path / "rows.csv")
    np.testing.assert_array_equal(read_rows(tmp_path / "rows.csv", toy_manifest()), X)


# ------------------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        (["b", "a"], ("a", "b"), [1, 0]),
        ([1, 0], ("a", "b"), [1, 0]),
        ([1.0, 0.0], ("a", "b"), [1, 0]),
        ([2, 1, 2], ("1", "2"), [1, 0, 1]),
        ([2.0, 1.0], ("1", "2"), [1, 0]),
        (["2", "1"], ("1", "2"), [1, 0]),
        ([1, 0], ("1", "0"), [0, 1]),
        ([-1, 1], ("-1", "1"), [0, 1]),
        ([7, "other"], ("7", "other"), [0, 1]),
    ],
)
def test_labels_are_names_or_indices(values: list[object], classes: tuple[str, ...], expected: list[int]) -> None:
    assert read_labels(values, classes, where="y").tolist() == expected


@pytest.mark.parametrize(
    ("values", "classes", "readings"),
    [
        (["a", "c"], ("a", "b"), "is none of the classes 'a', 'b'"),
        (["a", "A"], ("a", "b"), "is none of the classes"),
        (["a", ""], ("a", "b"), "is missing; classes are 'a', 'b'"),
        ([0, 2], ("a", "b"), "is neither one of the classes 'a', 'b' nor an index from 0 to 1"),
        ([0, -1], ("a", "b"), "nor an index from 0 to 1"),
        ([0, 0.5], ("a", "b"), "nor an index"),
        ([0, float("nan")], ("a", "b"), "is missing"),
        ([0, None], ("a", "b"), "is missing"),
        ([0, True], ("a", "b"), "nor an index"),
        ([0, [1]], ("a", "b"), "is none of the classes"),
        ([1, 0], ("1", "2"), "names none of the classes '1', '2', and is no index because they are named by numbers"),
        ([7, 1], ("7", "other"), "is no index because they are named by numbers"),
        (
            ["0", "1"],
            ("a", "b"),
            "is neither one of the classes 'a', 'b' nor an index from 0 to 1; set labels-as names",
        ),
    ],
)
def test_a_label_that_is_no_class_is_refused_with_every_reading(
    values: list[object], classes: tuple[str, ...], readings: str
) -> None:
    with pytest.raises(DataError) as error:
        read_labels(values, classes, where="rows.csv, column 'y'")
    row = 0 if values == ["0", "1"] else 1
    assert str(error.value).startswith(f"rows.csv, column 'y': the label of row {row} ")
    assert readings in str(error.value)
    assert [(fault.path, fault.code) for fault in error.value.faults] == [(("labels", row), "unknown-class")]


def test_a_refusal_lists_no_more_classes_than_anybody_reads() -> None:
    with pytest.raises(DataError) as error:
        read_labels(["x"], tuple(f"class {i}" for i in range(1000)), where="y")
    assert "'class 9', …" in str(error.value)
    assert len(str(error.value)) < 300


# ---------------------------------------------------------------------------------------------------------- refusals


def csv(text: str) -> Callable[[Path, Save], Path]:
    def write(folder: Path, save: Save) -> Path:
        del save
        (folder / "rows.csv").write_text(text)
        return folder / "rows.csv"

    return write


def archive(**arrays: object) -> Callable[[Path, Save], Path]:
    def write(folder: Path, save: Save) -> Path:
        del folder
        return save("rows", **arrays)

    return write


def raw(name: str, data: bytes) -> Callable[[Path, Save], Path]:
    def write(folder: Path, save: Save) -> Path:
        del save
        (folder / name).write_bytes(data)
        return folder / name

    return write


def seventeenth(value: float) -> np.ndarray:
    rows = np.zeros((30, 2))
    rows[17, 1] = value
    return rows


REFUSED = {
    "a missing column": (csv("f0,y\n1,ann\n"), "has no column 'f1'; the model takes 2 features"),
    "several missing columns": (csv("a,y\n1,ann\n"), "has no column 'f0' (and 1 more)"),
    "no labels": (csv("f0,f1\n1,2\n"), "has no column 'y' for the labels; name it with --label"),
    "an unknown class": (csv("f0,f1,y\n1,2,ann\n1,2,zoe\n"), "the label of line 3 is none of the classes 'ann', 'bob'"),
    "an index beyond the classes": (csv("f0,f1,y\n1,2,0\n1,2,2\n"), "the label of line 3 is neither"),
    "a missing label": (csv("f0,f1,y\n1,2,0\n1,2,\n"), "the label of line 3 is missing"),
    "an empty cell": (csv("f0,f1,y\n1,2,ann\n1,,bob\n"), "line 3, column 'f1' has no value; the manifest can declare"),
    "an infinity": (csv("f0,f1,y\n1,2,ann\n1,inf,bob\n"), "line 3, column 'f1' is infinite"),
    "a word among numbers": (
        csv("f0,f1,y\n1,2,ann\n1,high,bob\n"),
        "line 3, column 'f1' is not a number; a missing value is an empty cell",
    ),
    "a gap that R wrote": (
        csv("f0,f1,y\n1,2,ann\n1,NA,bob\n"),
        "line 3, column 'f1' has no value; the manifest can declare",
    ),
    "a header alone": (csv("f0,f1,y\n"), "has no rows"),
    "an empty file": (csv(""), "rows.csv is empty"),
    "a ragged file": (csv("f0,f1,y\n1,2,ann,3\n"), "line 2 has 4 cells, and the header names 3 columns; a cell"),
    "a negative weight": (csv("f0,f1,y,weight\n1,2,ann,1\n1,2,bob,-1\n"), "line 3, column 'weight' is no weight"),
    "weights that are all zero": (csv("f0,f1,y,weight\n1,2,ann,0\n1,2,bob,0\n"), "must not all be zero"),
    "a weight that no sum can hold": (csv("f0,f1,y,weight\n1,2,ann,1\n1,2,bob,1e300\n"), "only their ratios matter"),
    "a missing weight": (csv("f0,f1,y,weight\n1,2,ann,1\n1,2,bob,\n"), "line 3, column 'weight' is no weight"),
    "a weight that is a word": (csv("f0,f1,y,weight\n1,2,ann,much\n"), "line 2, column 'weight' is not a number"),
    "a missing group": (csv("f0,f1,y,group\n1,2,ann,p\n1,2,bob,\n"), "line 3, column 'group' has no value"),
    "a missing numbered group": (csv("f0,f1,y,group\n1,2,ann,7\n1,2,bob,\n"), "line 3, column 'group' has no value"),
    "NaN in row 17": (
        archive(X=seventeenth(np.nan), y=[0] * 30),
        "row 17 (rows count from 0), column 'f1' has no value",
    ),
    "infinity in row 17": (
        archive(X=seventeenth(-np.inf), y=[0] * 30),
        "row 17 (rows count from 0), column 'f1' is infinite",
    ),
    "rows too wide": (archive(X=np.zeros((4, 3)), y=Y), "array 'X' has rows of 3; the model takes rows of 2 features"),
    "rows too narrow": (archive(X=np.zeros(4), y=Y), "array 'X' has single values; the model takes rows of 2 features"),
    "a tensor": (archive(X=np.zeros((4, 2, 2)), y=Y), "array 'X' has rows of 2 by 2"),
    "a number": (archive(X=3.0, y=Y), "array 'X' is a single value"),
    "text": (archive(X=np.full((4, 2), "a"), y=Y), "column 'f0' holds text, and must hold numbers"),
    "complex numbers": (archive(X=X + 1j, y=Y), "column 'f0' holds complex numbers"),
    "no arrays": (archive(), "neither an array 'X' nor one named after the graph input 'x'"),
    "no rows": (archive(X=np.zeros((0, 2)), y=[]), "has no rows"),
    "fewer labels": (archive(X=X, y=Y[:3]), "different numbers of rows: 'X' has 4 and 'y' has 3"),
    "a single label": (archive(X=X, y=1), "array 'y' is a single value"),
    "one-hot labels": (archive(X=X, y=np.eye(2)[INDICES]), "the labels in 'y' are not one column"),
    "bytes for labels": (archive(X=X, y=np.array(Y, dtype="S3")), "column 'y' holds bytes, and must hold labels"),
    "fewer groups": (archive(X=X, y=Y, group=[1]), "'X' has 4 and 'group' has 1"),
    "fewer weights": (archive(X=X, y=Y, weight=[1.0] * 5), "'X' has 4 and 'weight' has 5"),
    "objects": (archive(X=np.array([[object()] * 2]), y=[0]), "objects are never unpickled"),
    "half an archive": (raw("rows.npz", b"PK\x03\x04 and no more"), "cannot be read: it is damaged"),
    "an empty archive": (raw("rows.npz", b""), "is empty"),
    "no Parquet": (raw("rows.parquet", b"PAR1 not really"), "cannot be read"),
    "an unknown file type": (raw("rows.xlsx", b"PK"), "a data set is one of .npz, .csv, .parquet"),
    "no file type": (raw("rows", b""), "a data set is one of .npz, .csv, .parquet"),
    "no file": (lambda folder, _save: folder / "nowhere.csv", "nowhere.csv does not exist"),
}


@pytest.mark.parametrize(("write", "fragment"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_data_gets_one_clear_line_and_exit_code_1(
    *,
    write: Callable[[Path, Save], Path],
    fragment: str,
    tmp_path: Path,
    save: Save,
    toy: Callable[..., Repository],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository, path = toy(), write(tmp_path, save)
    monkeypatch.setattr(
        sys, "argv", ["temperance", "fit", "toy", "--models", str(repository.root), "--data", str(path)]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == 1
    assert out == ""
    assert err.startswith(f"temperance: {path}")
    assert fragment in err
    assert err.count("\n") == 1
    assert repository.versions("toy") == []


@pytest.mark.parametrize("role", ["group", "weight"])
def test_a_group_or_weight_that_is_named_must_be_there(role: str, tmp_path: Path, toy_manifest: Make) -> None:
    table().write_csv(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=f"has no column 'who' for --{role}"):
        read_dataset(tmp_path / "rows.csv", toy_manifest(), Columns(**{role: "who"}))


def test_arrays_of_several_inputs_have_as_many_rows(save: Save) -> None:
    with pytest.raises(DataError, match="different numbers of rows: 'vitals' has 4 and 'age' has 3"):
        read_dataset(save(vitals=X, age=np.arange(3), y=Y), SEVERAL)


def test_an_array_that_is_missing_for_an_input_is_named(save: Save) -> None:
    with pytest.raises(DataError, match="the graph input 'age'"):
        read_dataset(save(vitals=X, y=Y), SEVERAL)


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def test_an_object_array_is_never_unpickled(tmp_path: Path, save: Save, toy_manifest: Make) -> None:
    path = save(X=np.array([[Bomb(tmp_path / "unpickled")] * 2], dtype=object), y=[0])
    with pytest.raises(DataError, match="never unpickled"):
        read_dataset(path, toy_manifest())
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("name", ["group", "weight"])
def test_a_feature_called_like_a_reserved_column_is_a_feature(name: str, tmp_path: Path) -> None:
    text = toy_with_feature(name)
    frame = pl.DataFrame({name: [70.0, 80.0], "f1": [1.0, 2.0], "y": [0, 1]})
    frame.write_csv(tmp_path / "d.csv")
    data = read_dataset(tmp_path / "d.csv", parse_manifest(text))
    assert data.groups is None
    assert data.weights is None
    assert data.numbers.tolist() == [[70.0, 1.0], [80.0, 2.0]]
    named = read_dataset(tmp_path / "d.csv", parse_manifest(text), Columns(weight="f1"))
    assert named.weights is not None


def test_a_feature_called_y_needs_the_label_named(tmp_path: Path) -> None:
    pl.DataFrame({"y": [0.5, 1.0], "f1": [1.0, 2.0], "truth": [0, 1]}).write_csv(tmp_path / "d.csv")
    manifest = parse_manifest(toy_with_feature("y"))
    with pytest.raises(DataError, match="name the column of the labels with --label"):
        read_dataset(tmp_path / "d.csv", manifest)
    assert read_dataset(tmp_path / "d.csv", manifest, Columns(label="truth")).labels.tolist() == [0, 1]


def toy_with_feature(name: str) -> str:
    return (
        'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["a", "b"]\n'
        f'[[inputs]]\nname = "x"\nfeatures = ["{name}", "f1"]\n'
    )
