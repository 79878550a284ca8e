"""Inputs that are no table of numbers: text, tensors, masks and constants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import Manifest
from service.errors import Fault, InvalidInstances, ManifestInvalid
from service.runtime.fields import FieldInputs
from service.runtime.inputs import bind_inputs
from service.runtime.rows import Fields, join
from service.runtime.session import Session

Shape = list[int | None]
NO_NUMBERS = np.empty((2, 0))
OPEN = [None, None]


@pytest.fixture
def bind(graph_of: Callable[..., Path], manifest: Callable[..., Manifest]) -> Callable[..., FieldInputs]:
    """Binds graph inputs of given types and shapes with what a manifest says of them."""

    def make(tensors: dict[str, tuple[int, Shape]], declared: str) -> FieldInputs:
        nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in tensors]
        graph = graph_of(nodes, tensors, {f"{name}_out": spec for name, spec in tensors.items()})
        inputs = bind_inputs(manifest(declared), Session(graph))
        assert isinstance(inputs, FieldInputs)
        return inputs

    return make


def entry(name: str, *lines: str) -> str:
    return "\n".join(["[[inputs]]", f'name = "{name}"', *lines, ""])


def texts(*cells: object) -> np.ndarray[Any, Any]:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def faults_of(inputs: FieldInputs, rows: Fields) -> list[Fault]:
    with pytest.raises(InvalidInstances) as caught:
        inputs.admit(rows)
    return list(caught.value.faults)


WARD = {"age": (TensorProto.FLOAT, [None, 1]), "ward": (TensorProto.STRING, [None, 1])}


def ward_rows(*wards: object) -> Fields:
    return Fields(np.arange(len(wards), dtype=np.float64)[:, None], {"ward": texts(*wards)})


def test_text_stands_beside_numbers(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(WARD, entry("age") + entry("ward"))
    columns, feeds = inputs.admit(ward_rows("icu", "é\0"))
    assert columns.tolist() == [[0.0], [1.0]]
    assert inputs.columns == ("age",)
    assert feeds["ward"].tolist() == [["icu"], ["é\0"]]
    assert feeds["ward"].dtype == np.dtype(object), "fixed-width strings lose what ends in NUL"
    assert str(feeds["age"].dtype) == "float32"


def test_an_input_of_several_columns_of_text_has_them_in_manifest_order(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind({"t": (TensorProto.STRING, [None, 2])}, entry("t", 'features = ["b", "a"]'))
    _, feeds = inputs.admit(Fields(NO_NUMBERS, {"a": texts("1", "2"), "b": texts("3", "4")}))
    assert feeds["t"].tolist() == [["3", "1"], ["4", "2"]]


def test_text_of_rank_one_stays_so(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind({"t": (TensorProto.STRING, [None])}, entry("t"))
    _, feeds = inputs.admit(Fields(NO_NUMBERS, {"t": texts("a", "b")}))
    assert feeds["t"].shape == (2,)


@pytest.mark.parametrize(
    ("cell", "code"), [(None, "missing-value"), (3, "wrong-type"), (b"x", "wrong-type"), ("\ud800", "wrong-type")]
)
def test_what_is_no_text_is_refused_in_its_place(cell: object, code: str, bind: Callable[..., FieldInputs]) -> None:
    (fault,) = faults_of(bind(WARD, entry("age") + entry("ward")), ward_rows("icu", cell))
    assert (fault.path, fault.code) == (("instances", 1, "ward"), code)


def test_only_declared_categories_are_admitted(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(WARD, entry("age") + entry("ward") + '[features.ward]\ncategories = ["icu", "er"]\n')
    inputs.admit(ward_rows("er"))
    (fault,) = faults_of(inputs, ward_rows("icu", "pub"))
    assert (fault.path, fault.code) == (("instances", 1, "ward"), "unknown-category")
    assert "pub" not in fault.detail
    assert inputs.synthetic().others["ward"].tolist() == ["icu"]


def test_missing_text_may_have_a_substitute(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(WARD, entry("age") + entry("ward") + '[features.ward]\nmissing = { impute = "unknown" }\n')
    assert inputs.admit(ward_rows(None, "icu"))[1]["ward"].tolist() == [["unknown"], ["icu"]]


PIXELS = {"pixels": (TensorProto.UINT8, [None, 2, 3])}


def test_a_tensor_is_cast_to_the_graph_s_type(bind: Callable[..., FieldInputs]) -> None:
    values = np.arange(12.0).reshape(2, 2, 3)
    _, feeds = bind(PIXELS, entry("pixels")).admit(Fields(NO_NUMBERS, {"pixels": values}))
    assert feeds["pixels"].dtype == np.uint8
    np.testing.assert_array_equal(feeds["pixels"], values)


@pytest.mark.parametrize(
    ("value", "code"), [(256, "number-out-of-range"), (-1, "number-out-of-range"), (0.5, "wrong-type")]
)
def test_what_an_element_cannot_hold_is_refused_in_its_place(
    value: float, code: str, bind: Callable[..., FieldInputs]
) -> None:
    values = np.zeros((2, 2, 3))
    values[1, 0, 2] = value
    (fault,) = faults_of(bind(PIXELS, entry("pixels")), Fields(NO_NUMBERS, {"pixels": values}))
    assert (fault.path, fault.code) == (("instances", 1, "pixels", 0, 2), code)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_tensor_holds_what_is_not_finite(value: float, bind: Callable[..., FieldInputs]) -> None:
    inputs = bind({"x": (TensorProto.FLOAT, [None, 2])}, entry("x"))
    assert faults_of(inputs, Fields(NO_NUMBERS, {"x": np.array([[0.0, 1.0], [value, 1.0]])}))[0].code == "not-finite"


@pytest.mark.parametrize("shape", [(2, 2), (2, 3, 2), (2, 2, 3, 1)])
def test_another_shape_is_refused_with_both(shape: tuple[int, ...], bind: Callable[..., FieldInputs]) -> None:
    with pytest.raises(InvalidInstances, match=r"'pixels' must be numbers of shape \[rows, 2, 3\]"):
        bind(PIXELS, entry("pixels")).admit(Fields(NO_NUMBERS, {"pixels": np.zeros(shape)}))


def test_a_token_id_beyond_a_double_s_precision_is_itself(bind: Callable[..., FieldInputs]) -> None:
    ids = np.array([[2**53 + 1, 2**63 - 1]])
    inputs = bind({"ids": (TensorProto.INT64, OPEN)}, entry("ids"))
    _, feeds = inputs.admit(Fields(np.empty((1, 0)), {"ids": ids}))
    np.testing.assert_array_equal(feeds["ids"], ids)


TEXT = {"ids": (TensorProto.INT64, OPEN), "mask": (TensorProto.FLOAT, OPEN), "kinds": (TensorProto.INT64, OPEN)}
SPOKEN = entry("ids", "pad = -1") + entry("mask", "mask = true") + entry("kinds", "fill = 0")


def tokens(*rows: list[int]) -> Fields:
    longest = max(map(len, rows))
    ids = np.array([row + [99] * (longest - len(row)) for row in rows])
    return Fields(np.empty((len(rows), 0)), {"ids": ids}, np.array([len(row) for row in rows]))


def test_what_lies_beyond_a_row_is_the_declared_padding_and_masked(bind: Callable[..., FieldInputs]) -> None:
    _, feeds = bind(TEXT, SPOKEN).admit(tokens([5, 6, 7], [8]))
    assert feeds["ids"].tolist() == [[5, 6, 7], [8, -1, -1]]
    assert feeds["mask"].tolist() == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    assert feeds["mask"].dtype == np.float32
    assert feeds["kinds"].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_joined_requests_are_padded_as_one_would_be(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(TEXT, SPOKEN)
    _, alone = inputs.admit(tokens([5, 6, 7], [8]))
    _, joined = inputs.admit(join([tokens([5, 6, 7]), tokens([8])]))
    for name, feed in alone.items():
        np.testing.assert_array_equal(joined[name], feed)


def test_a_graph_of_fixed_length_gets_every_row_filled_up_to_it(bind: Callable[..., FieldInputs]) -> None:
    fixed = {name: (kind, [None, 4]) for name, (kind, _) in TEXT.items()}
    _, feeds = bind(fixed, SPOKEN).admit(tokens([5, 6]))
    assert feeds["ids"].tolist() == [[5, 6, -1, -1]]
    assert feeds["mask"].tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_a_declared_shape_bounds_what_the_graph_leaves_open(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind({"x": (TensorProto.FLOAT, [None, 3, None])}, entry("x", "shape = [3, 5]"))
    assert inputs.synthetic().others["x"].shape == (1, 3, 5)
    with pytest.raises(InvalidInstances, match=r"\[rows, 3, 5\]"):
        inputs.admit(Fields(NO_NUMBERS, {"x": np.zeros((2, 3, 4))}))


def test_inputs_of_unequal_batch_are_caught_before_the_graph(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(WARD, entry("age") + entry("ward"))
    with pytest.raises(InvalidInstances, match="different numbers of rows: 1, 2"):
        inputs.admit(Fields(np.zeros((2, 1)), {"ward": texts("icu")}))


@pytest.mark.parametrize("length", [0, 4])
def test_a_length_that_a_row_cannot_have_is_refused(length: int, bind: Callable[..., FieldInputs]) -> None:
    rows = Fields(np.empty((1, 0)), {"ids": np.ones((1, 3), dtype=np.int64)}, np.array([length]))
    assert faults_of(bind(TEXT, SPOKEN), rows)[0].code == "wrong-length"


def test_no_row_is_longer_than_declared(bind: Callable[..., FieldInputs]) -> None:
    inputs = bind(TEXT, SPOKEN.replace("pad = -1", "pad = -1\nshape = [2]"))
    assert inputs.admit(tokens([5, 6], [7]))
    assert faults_of(inputs, tokens([5, 6, 7], [7]))[0].path == ("instances", 0)


@pytest.mark.parametrize(
    ("tensors", "declared"),
    [
        (WARD, entry("age") + entry("ward")),
        (PIXELS, entry("pixels")),
        (TEXT, SPOKEN),
        ({"flag": (TensorProto.BOOL, [None, 2, 2])}, entry("flag")),
        ({"x": (TensorProto.FLOAT16, [None, None, 3]), "n": (TensorProto.INT8, [None])}, entry("x") + entry("n")),
    ],
    ids=["text", "pixels", "tokens", "booleans", "open"],
)
def test_a_synthetic_row_is_admitted_whatever_the_inputs(
    tensors: dict[str, tuple[int, Shape]], declared: str, bind: Callable[..., FieldInputs]
) -> None:
    inputs = bind(tensors, declared)
    _, feeds = inputs.admit(inputs.synthetic())
    assert feeds.keys() == tensors.keys()
    assert {len(feed) for feed in feeds.values()} == {1}


CONTRADICTIONS = {
    "text without columns": ({"t": (TensorProto.STRING, [None, 2])}, entry("t"), "name its columns in features"),
    "ranges of text": (
        WARD,
        entry("age") + entry("ward") + "[features.ward]\nplausible = [0, 1]\n",
        "features.ward: the graph takes text",
    ),
    "categories of numbers": (
        WARD,
        entry("age") + entry("ward") + '[features.age]\ncategories = ["a"]\n',
        "features.age: the graph takes numbers",
    ),
    "a shape beside the graph's": (PIXELS, entry("pixels", "shape = [2, 4]"), "contradicts the graph's"),
    "a feature that is a tensor": (PIXELS, entry("pixels") + "[features.pixels]\nplausible = [0, 1]\n", "a tensor"),
    "a pad that does not fit": ({"x": (TensorProto.UINT8, OPEN)}, entry("x", "pad = -1"), "its pad does not fit uint8"),
    "one of two that vary": (
        {"a": (TensorProto.INT64, OPEN), "b": (TensorProto.INT64, OPEN)},
        entry("a", "pad = 0") + entry("b"),
        "both need pad",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_manifest_that_contradicts_its_graph_is_refused_with_the_place(
    name: str, bind: Callable[..., FieldInputs]
) -> None:
    tensors, declared, message = CONTRADICTIONS[name]
    with pytest.raises(ManifestInvalid, match=message):
        bind(tensors, declared)
