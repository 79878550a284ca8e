"""Instances that are no lists of numbers: text, tokens of unequal length, images, booleans."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from service.api.v1.instances import InstanceReader, example
from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.errors import MOST_FAULTS, DataError, Fault, InvalidInstances
from service.fitting.publish import publish_draft
from service.runtime.fields import FieldInputs, Mask, Texts
from service.runtime.inputs import Inputs
from service.runtime.numbers import NumberInputs, Slot
from service.runtime.registry import Registry, load_registry
from service.runtime.rows import Entry, Fields
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest

I64, F32, U8, BOOL, TEXT = (np.dtype(name) for name in ("int64", "float32", "uint8", "bool", "object"))


def numbers(*slots: tuple[str, "np.dtype[Any]"]) -> NumberInputs:
    """Columns that are graph inputs of their own."""
    made = tuple(Slot(name, dtype, slice(i, i + 1)) for i, (name, dtype) in enumerate(slots))
    wide = np.full(len(slots), np.inf)
    none = np.zeros(len(slots), dtype=np.bool_)
    return NumberInputs(tuple(name for name, _ in slots), made, -wide, wide, -wide, wide, none, wide * np.nan)


AGE = Entry("age", ("age",), F32)
WARD = Entry("ward", ("ward",), TEXT)
IDS = Entry("ids", ("ids",), I64, (None,), 0.0)
KINDS = Entry("kinds", ("kinds",), I64, (None,), 0.0)
PIXELS = Entry("pixels", ("pixels",), U8, (2, 2))
SEEN = Entry("seen", ("seen",), BOOL)

STAY = FieldInputs(
    (AGE, WARD, IDS), numbers(("age", F32)), (Texts("ward", ("ward",), (None,), (None,), False),), (Mask("m", I64),), ()
)
READ = FieldInputs((IDS, KINDS), numbers(), (), (), ())
LOOK = FieldInputs((PIXELS,), numbers(), (), (), ())


def parse(*instances: object, inputs: Inputs) -> Fields:
    rows = InstanceReader(inputs, most=100).parse(instances)
    assert isinstance(rows, Fields)
    return rows


def faults_of(*instances: object, inputs: Inputs) -> list[Fault]:
    with pytest.raises(InvalidInstances) as caught:
        parse(*instances, inputs=inputs)
    return list(caught.value.faults)


WAYS: dict[str, object] = {
    "a list": [61, "icu", [5, 6]],
    "an object": {"ids": [5, 6], "ward": "icu", "age": 61},
    "an object of graph inputs": {"age": [61], "ward": ["icu"], "ids": [5, 6]},
}


@pytest.mark.parametrize("name", WAYS)
def test_a_row_is_the_same_however_it_is_written(name: str) -> None:
    rows = parse(WAYS[name], inputs=STAY)
    assert rows.numbers.tolist() == [[61.0]]
    assert rows.others["ward"].tolist() == ["icu"]
    assert rows.others["ids"].tolist() == [[5, 6]]
    assert rows.others["ids"].dtype == np.int64


def test_rows_of_unequal_length_say_how_long_they_are() -> None:
    rows = parse(WAYS["a list"], [1, "er", [7, 8, 9]], inputs=STAY)
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [2, 3]
    assert rows.others["ids"][1].tolist() == [7, 8, 9]


@pytest.mark.parametrize("row", [[[1, 2], [3, 4]], {"pixels": [[1, 2], [3, 4]]}], ids=["itself", "by name"])
def test_a_tensor_that_is_all_there_is_may_be_the_row_itself(row: object) -> None:
    assert parse(row, inputs=LOOK).others["pixels"].tolist() == [[[1, 2], [3, 4]]]


def test_booleans_are_taken_where_the_graph_takes_them() -> None:
    rows = InstanceReader(numbers(("seen", BOOL)), most=9).parse([[True], [0]])
    assert np.asarray(rows).tolist() == [[1.0], [0.0]]
    beside = FieldInputs((SEEN, PIXELS), numbers(("seen", BOOL)), (), (), ())
    assert parse([False, [[1, 2], [3, 4]]], inputs=beside).numbers.tolist() == [[0.0]]


WRONG: dict[str, tuple[FieldInputs, object, tuple[str | int, ...], str]] = {
    "a number where text belongs": (STAY, [61, 5, [5]], (1,), "wrong-type"),
    "text where a number belongs": (STAY, {"age": "61", "ward": "icu", "ids": [5]}, ("age",), "wrong-type"),
    "a tensor that is a number": (STAY, [61, "icu", 5], (2,), "wrong-type"),
    "an id that is text": (STAY, [61, "icu", [5, "6"]], (2, 1), "wrong-type"),
    "an id that is true": (STAY, [61, "icu", [5, True]], (2, 1), "wrong-type"),
    "an id that is null": (STAY, [61, "icu", [None]], (2, 0), "wrong-type"),
    "an id beyond 64 bits": (STAY, [61, "icu", [1 << 70]], (2, 0), "number-out-of-range"),
    "no ids": (STAY, [61, "icu", []], (2,), "wrong-length"),
    "too deep": (STAY, [61, "icu", [[5]]], (2, 0), "wrong-type"),
    "a cell too few": (STAY, [61, "icu"], (), "wrong-length"),
    "a misspelt name": (STAY, {"age": 1, "wrad": "icu", "ids": [5]}, ("?",), "unknown-feature"),
    "inputs of unequal length": (READ, {"ids": [1, 2], "kinds": [1]}, ("kinds",), "wrong-length"),
    "a side too long": (LOOK, [[1, 2, 3], [3, 4]], (0,), "wrong-length"),
    "a rank too few": (LOOK, [1, 2], (0,), "wrong-type"),
    "a rank too few, by name": (LOOK, {"pixels": [1, 2]}, ("pixels", 0), "wrong-type"),
    "a pixel that is text": (LOOK, [[1, 2], [3, "4"]], (1, 1), "wrong-type"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_pointed_to_where_it_was_sent(name: str) -> None:
    inputs, row, path, code = WRONG[name]
    fault = faults_of(row, inputs=inputs)[0]
    assert (fault.path, fault.code) == (("instances", 0, *path), code)


def test_a_ragged_tensor_is_refused() -> None:
    open_sides = FieldInputs((Entry("x", ("x",), F32, (None, None)),), numbers(), (), (), ())
    assert faults_of([[1, 2], [3]], inputs=open_sides)[0].code == "wrong-shape"
    other = faults_of([[1, 2]], [[1, 2], [3, 4]], inputs=open_sides)
    assert (other[0].path, other[0].code) == (("instances", 1), "wrong-shape")


def test_faults_are_counted_up_to_a_bound() -> None:
    assert len(faults_of(*[[["x"] * 2] * 2] * 50, inputs=LOOK)) <= MOST_FAULTS


def test_a_later_error_finds_its_way_into_a_tensor() -> None:
    later = InvalidInstances("", [Fault(("instances", 0, "pixels", 1, 0), "number-out-of-range", "does not fit")])
    assert InstanceReader(LOOK, most=100).located(later, [[[1, 2], [300, 4]]]).faults[0].path == ("instances", 0, 1, 0)
    named = InstanceReader(LOOK, most=100).located(later, [{"pixels": [[1, 2], [300, 4]]}])
    assert named.faults[0].path == (
        "instances",
        0,
        "pixels",
        1,
        0,
    )


@pytest.mark.parametrize("inputs", [STAY, READ, LOOK], ids=["stay", "read", "look"])
def test_an_example_is_a_row_that_can_be_sent(inputs: FieldInputs) -> None:
    shown = example(inputs)
    assert shown is not None
    assert inputs.admit(parse(*shown, inputs=inputs))


def test_an_example_that_would_fill_pages_is_not_shown() -> None:
    assert example(FieldInputs((Entry("x", ("x",), F32, (3, 224, 224)),), numbers(), (), (), ())) is None


MANIFEST = """\
schema = 1
title = "a stay"
[graph]
output = "scores"
output_kind = "logits"
classes = ["home", "ward"]
[[inputs]]
name = "age"
[[inputs]]
name = "ward"
[[inputs]]
name = "ids"
pad = 0
[[inputs]]
name = "mask"
mask = true
[features.ward]
categories = ["er", "icu"]
[features.age]
plausible = [0, 120]
"""


def graph() -> onnx.ModelProto:
    """Logits [age + mean of the real ids, 10 if the ward is the ICU]."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["words"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["words", "mask"], ["real"]),
        helper.make_node("ReduceSum", ["real", "last"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "last"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Add", ["age", "mean"], ["first"]),
        helper.make_node("OneHotEncoder", ["ward"], ["hot"], domain="ai.onnx.ml", cats_strings=["icu"], zeros=1),
        helper.make_node("Reshape", ["hot", "column"], ["icu"]),
        helper.make_node("Mul", ["icu", "ten"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["scores"], axis=1),
    ]
    kinds = {"age": (TensorProto.FLOAT, 1), "ward": (TensorProto.STRING, 1), "ids": (TensorProto.INT64, None)}
    kinds["mask"] = (TensorProto.FLOAT, None)
    made = helper.make_graph(
        nodes,
        "stay",
        [helper.make_tensor_value_info(name, kind, [None, width]) for name, (kind, width) in kinds.items()],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
            helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]),
            helper.make_tensor("ten", TensorProto.FLOAT, [1], [10.0]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


@pytest.fixture
def stays(tmp_path: Path) -> Registry:
    """A served model of a number, a text, and tokens whose mask the service fills."""
    onnx.save(graph(), tmp_path / "stay.onnx")
    repository = Repository(tmp_path / "repository")
    repository.root.mkdir()
    create_draft(repository, "stay", {"model.onnx": tmp_path / "stay.onnx", "manifest.toml": MANIFEST})
    publish_draft(repository, "stay")
    return load_registry(repository)


async def test_it_answers_as_the_graph_does_alone_and_in_a_batch(
    stays: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    rows = [{"age": 3, "ward": "icu", "ids": [1, 2, 6]}, {"age": 12, "ward": "er", "ids": [1]}]
    logits = np.array([[6.0, 10.0], [13.0, 0.0]])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    async with client_of(stays) as client:
        bodies = [{"instances": rows}, *({"instances": [row]} for row in rows)]
        answers = [(await client.post("/v1/models/stay:predict", json=body)).json() for body in bodies]
    together, *alone = [[list(row["probabilities"].values()) for row in answer["predictions"]] for answer in answers]
    np.testing.assert_allclose(together, expected, atol=1e-6)
    np.testing.assert_allclose([row for part in alone for row in part], expected, atol=1e-6)


async def test_what_does_not_fit_is_a_problem_that_points_to_it(
    stays: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    body = {"instances": [{"age": 3, "ward": "pub", "ids": [1]}, {"age": 3, "ward": "er", "ids": [1, 0.5]}]}
    async with client_of(stays) as client:
        answer = await client.post("/v1/models/stay:predict", json=body)
    assert answer.status_code == 422
    found = {(entry["pointer"], entry["code"]) for entry in answer.json()["errors"]}
    assert found == {("/instances/0/ward", "unknown-category"), ("/instances/1/ids/1", "wrong-type")}
    assert "pub" not in answer.text


async def test_metadata_tell_what_every_input_takes(
    stays: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    async with client_of(stays) as client:
        age, ward, ids, mask = (await client.get("/v1/models/stay")).json()["inputs"]
        examples = (await client.get("/openapi.json")).json()["components"]["examples"]
    assert (age["type"], age["features"][0]["plausible"]) == ("float32", [0.0, 120.0])
    assert (ward["type"], ward["features"][0]["categories"]) == ("string", ["er", "icu"])
    assert ids == {"name": "ids", "type": "int64", "shape": [None], "pad": 0.0}
    assert mask == {"name": "mask", "filled": "mask"}
    (row,) = examples["predict.request.stay"]["value"]["instances"]
    assert row.keys() == {"age", "ward", "ids"}


async def test_the_service_takes_what_it_fills_only_if_it_would_fill_that(
    stays: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    rows = [{"age": 3, "ward": "er", "ids": [1], "mask": [mask]} for mask in (1, 0)]
    async with client_of(stays) as client:
        right, wrong = [await client.post("/v1/models/stay:predict", json={"instances": [row]}) for row in rows]
    assert right.status_code == 200
    assert (wrong.status_code, wrong.json()["errors"][0]["code"]) == (422, "wrong-mask")


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_a_file_of_them_is_scored(form: str, stays: Registry, tmp_path: Path) -> None:
    model, path, out = stays.model("stay"), tmp_path / f"rows.{form}", tmp_path / "answers.parquet"
    if form == "npz":
        np.savez(path, age=[3.0, 12.0], ward=["icu", "er"], ids=[[1, 2, 6], [1, 0, 0]], lengths=[3, 1])
    elif form == "parquet":
        rows = {"age": [3.0, 12.0], "ward": ["icu", "er"], "ids": [[1, 2, 6], [1]]}
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("age,ward,ids\n3,icu,1\n")
        with pytest.raises(DataError, match="'ids' is no list of numbers; write lists as Parquet"):
            score(model, ScoreRequest(path, out))
        return
    assert score(model, ScoreRequest(path, out, chunk_rows=1)).rows == 2
    assert pl.read_parquet(out)["label"].to_list() == ["ward", "home"]
