"""Data sets of models whose inputs are not all columns of numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import Manifest, parse_manifest
from service.data.column_roles import DEFAULT_COLUMNS, Selection
from service.data.dataset import read_dataset, read_rows
from service.data.reader import read_chunks
from service.errors import DataError
from service.runtime.inputs import Inputs, bind_inputs
from service.runtime.rows import Fields
from service.runtime.session import Session

HEAD = 'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["ann", "bob"]\n'
Y = np.array(["ann", "bob", "bob"])
IDS = np.array([[5, 6, 7], [8, 0, 0], [9, 4, 0]])
MASK = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
Bound = tuple[Manifest, Inputs]


@pytest.fixture
def bind(tmp_path: Path) -> Callable[..., Bound]:
    def make(tensors: dict[str, tuple[int, list[int | None]]], tail: str) -> Bound:
        infos = [helper.make_tensor_value_info(name, *spec) for name, spec in tensors.items()]
        outs = [helper.make_tensor_value_info(f"{name}_", *spec) for name, spec in tensors.items()]
        nodes = [helper.make_node("Identity", [name], [f"{name}_"]) for name in tensors]
        made = helper.make_model(helper.make_graph(nodes, "g", infos, outs), ir_version=8)
        onnx.save(made, tmp_path / "graph.onnx")
        manifest = parse_manifest(HEAD + tail)
        return manifest, bind_inputs(manifest, Session(tmp_path / "graph.onnx"))

    return make


@pytest.fixture
def stays(bind: Callable[..., Bound]) -> Bound:
    """A number and a text."""
    tensors = {"age": (TensorProto.FLOAT, [None, 1]), "ward": (TensorProto.STRING, [None, 1])}
    return bind(tensors, '[[inputs]]\nname = "age"\n[[inputs]]\nname = "ward"\n')


@pytest.fixture
def texts(bind: Callable[..., Bound]) -> Bound:
    """Token ids and their mask."""
    tensors = {name: (TensorProto.INT64, [None, None]) for name in ("ids", "mask")}
    return bind(tensors, '[[inputs]]\nname = "ids"\npad = 0\n[[inputs]]\nname = "mask"\nmask = true\n')


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "rows.npz", **arrays)
        return tmp_path / "rows.npz"

    return write


def fields(path: Path, bound: Bound) -> Fields:
    manifest, inputs = bound
    rows = read_dataset(path, manifest, inputs=inputs).rows
    assert isinstance(rows, Fields)
    assert inputs.admit(rows)
    return rows


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_text_and_numbers_are_columns_by_name(
    form: str, tmp_path: Path, stays: Bound, save: Callable[..., Path]
) -> None:
    columns = {"ward": ["01", "1", "er"], "age": [30.5, 4.0, 61.0], "y": Y.tolist()}
    path = tmp_path / f"rows.{form}"
    if form == "npz":
        save(ward=np.array(columns["ward"]), age=np.array(columns["age"]), y=Y)
    else:
        frame = pl.DataFrame(columns)
        frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
    rows = fields(path, stays)
    assert rows.numbers.tolist() == [[30.5], [4.0], [61.0]]
    assert rows.others["ward"].tolist() == ["01", "1", "er"], "digits are text too"


def test_a_column_of_text_may_be_only_digits_in_csv(tmp_path: Path, stays: Bound) -> None:
    (tmp_path / "rows.csv").write_text("age,ward,y\n1,007,ann\n2,1,bob\n")
    assert fields(tmp_path / "rows.csv", stays).others["ward"].tolist() == ["007", "1"]


def test_numbers_where_text_belongs_are_refused(tmp_path: Path, stays: Bound) -> None:
    pl.DataFrame({"ward": [1, 2], "age": [1.0, 2.0], "y": ["ann", "bob"]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="column 'ward' holds whole numbers, and must hold text"):
        fields(tmp_path / "rows.parquet", stays)


def test_a_missing_column_is_named(tmp_path: Path, stays: Bound) -> None:
    (tmp_path / "rows.csv").write_text("age,y\n1,ann\n")
    with pytest.raises(DataError, match="has no column 'ward'"):
        fields(tmp_path / "rows.csv", stays)


LENGTHS: dict[str, dict[str, Any]] = {
    "an array of lengths": {"lengths": np.array([3, 1, 2])},
    "the mask": {"mask": MASK},
}


@pytest.mark.parametrize("how", LENGTHS)
@pytest.mark.parametrize("name", ["ids", "X"])
def test_the_lengths_of_rows_come_from(how: str, name: str, texts: Bound, save: Callable[..., Path]) -> None:
    rows = fields(save(y=Y, **{name: IDS}, **LENGTHS[how]), texts)
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 1, 2]


def test_labels_of_positions_say_it_too(texts: Bound, save: Callable[..., Path]) -> None:
    manifest, inputs = texts
    labels = np.where(MASK == 1, 1, -1)
    path = save(ids=IDS, y=labels)
    (chunk,) = read_chunks(path, manifest, Selection(inputs, DEFAULT_COLUMNS))
    rows = chunk.rows
    assert isinstance(rows, Fields)
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 1, 2]


def test_labels_that_are_no_positions_of_the_rows_are_called_labels(texts: Bound, save: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="the array of labels is not 3 by 3, as the rows are"):
        list(
            read_chunks(
                save(ids=IDS, y=np.zeros((3, 2), dtype=np.int64)), texts[0], Selection(texts[1], DEFAULT_COLUMNS)
            )
        )


def test_rows_of_equal_length_need_no_telling(texts: Bound, save: Callable[..., Path]) -> None:
    rows = fields(save(ids=IDS + 1, y=Y), texts)
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 3, 3]


def test_parquet_may_hold_lists(tmp_path: Path, texts: Bound) -> None:
    pl.DataFrame({"ids": [[5, 6, 7], [8], [9, 4]], "y": Y}).write_parquet(tmp_path / "rows.parquet")
    rows = fields(tmp_path / "rows.parquet", texts)
    assert rows.others["ids"].tolist() == IDS.tolist()
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 1, 2]


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "undeclared padding": ({"ids": IDS}, "in an array 'lengths'"),
    "a length that is too long": ({"ids": IDS, "lengths": np.array([3, 1, 4])}, "'lengths' does not lie in 1 to 3 in"),
    "a length too few": ({"ids": IDS, "lengths": np.array([3, 1])}, "'lengths' has 2"),
    "padding before the end": ({"ids": IDS, "mask": MASK[:, ::-1]}, "has padding before its end"),
    "a mask of another shape": ({"ids": IDS, "mask": MASK[:, :2]}, "'mask' is not 3 by 3"),
    "another rank": ({"ids": IDS[0]}, "not an array of numbers of rank 2"),
    "text": ({"ids": IDS.astype(str)}, "not an array of numbers"),
    "nothing": ({"others": IDS}, "named after the graph input 'ids'"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_tensors_that_cannot_be_used_are_refused_by_name(what: str, texts: Bound, save: Callable[..., Path]) -> None:
    arrays, message = UNUSABLE[what]
    with pytest.raises(DataError, match=message):
        fields(save(y=Y, **arrays), texts)


def test_objects_are_never_unpickled(texts: Bound, save: Callable[..., Path]) -> None:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[1, 2], [3]]
    manifest, inputs = texts
    with pytest.raises(DataError, match="never unpickled"):
        read_rows(save(ids=ragged), manifest, inputs=inputs)


def test_images_are_one_array(bind: Callable[..., Bound], save: Callable[..., Path]) -> None:
    bound = bind({"pixels": (TensorProto.UINT8, [None, 2, 2, 3])}, '[[inputs]]\nname = "pixels"\n')
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    rows = fields(save(X=pixels, y=Y), bound)
    np.testing.assert_array_equal(rows.others["pixels"], pixels)
    assert rows.lengths is None


def test_flags_are_true_and_false(bind: Callable[..., Bound], tmp_path: Path) -> None:
    manifest, inputs = bind({"seen": (TensorProto.BOOL, [None, 1])}, '[[inputs]]\nname = "seen"\n')
    pl.DataFrame({"seen": [True, False], "y": ["ann", "bob"]}).write_csv(tmp_path / "rows.csv")
    data = read_dataset(tmp_path / "rows.csv", manifest, inputs=inputs)
    assert data.numbers.tolist() == [[1.0], [0.0]]
