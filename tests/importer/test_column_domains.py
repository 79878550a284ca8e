"""Codes that a table has no row for are known at import, whatever arithmetic lies before the table."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import parse_manifest
from service.bundle.repository import Repository
from service.errors import InvalidInstances
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.importer.manifest_text import manifest_text, rounded_range
from service.importer.synthetic_rows import draw
from service.runtime.model import Model, load_model
from service.runtime.rows import Fields
from tests.importer.test_analysis import Learn, learn
from tests.small_graphs import Build, graph, node, value, weights

__all__ = ["learn"]
INT64 = TensorProto.INT64
NINE = weights("E", np.random.default_rng(0).normal(size=(9, 2)))


def coded(*nodes: onnx.NodeProto, columns: int, kind: int = INT64, batch: int | None = None, **constants: Any) -> Build:
    """A classifier over columns of codes; ``nodes`` make the embedding `e` of the codes `c`."""
    width = int(np.prod(constants.pop("embedded", (columns, 2))))
    tail = (node("Reshape", "e flat", "f"), node("MatMul", "f W", "z"), node("Softmax", "z"))
    held = {name: weights(name, array) for name, array in constants.items()}
    held |= {"flat": weights("flat", np.array([-1, width])), "W": weights("W", np.ones((width, 2)) * [[0.1, -0.1]])}
    inputs = (value("c", [batch, columns], kind),)
    return graph(*nodes, *tail, constants=(NINE, *held.values()), inputs=inputs, outputs=(value("s", [batch, 2]),))


def ranges(found: Any) -> dict[str, Any]:
    """What the manifest says of the columns."""
    text = manifest_text("m", found)
    parse_manifest(text)
    return {name: entry.get("allowed") for name, entry in tomllib.loads(text).get("features", {}).items()}


GATHER = node("Gather", "E i", "e")
OFFSETS = np.array([0, 4, 7])
VARIANTS: dict[str, tuple[Build, dict[str, list[int]]]] = {
    "an offset of each column": (
        coded(node("Add", "c o", "i"), GATHER, columns=3, o=OFFSETS),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
    "offsets in an attribute": (
        coded(
            helper.make_node("Constant", [], ["o"], value_ints=[0, 4, 7]), node("Add", "c o", "i"), GATHER, columns=3
        ),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
    "rows of a table by tuples of one": (
        coded(
            node("Add", "c o", "j"),
            node("Unsqueeze", "j last", "i"),
            node("GatherND", "E i", "e"),
            columns=3,
            o=OFFSETS,
            last=np.array([-1]),
        ),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
    "a table turned round": (
        coded(
            node("Transpose", "Et", "T", perm=[1, 0]),
            node("Add", "c o", "i"),
            node("Gather", "T i", "e"),
            columns=3,
            o=OFFSETS,
            Et=np.random.default_rng(0).normal(size=(2, 9)),
        ),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
    "codes without a sign": (
        coded(
            node("Cast", "c", "w", to=INT64),
            node("Add", "w o", "i"),
            GATHER,
            columns=3,
            kind=TensorProto.UINT8,
            o=OFFSETS,
        ),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
    "offsets behind a row for padding": (
        coded(node("Add", "c o", "i"), GATHER, columns=3, o=np.array([1, 4, 6])),
        {"x0": [0, 2], "x1": [0, 1], "x2": [0, 2]},
    ),
    "codes from one on": (
        coded(node("Sub", "c o", "i"), GATHER, columns=2, o=np.array([1, 1])),
        {"x0": [1, 9], "x1": [1, 9]},
    ),
    "codes from one on, behind offsets": (
        coded(node("Add", "c o", "i"), GATHER, columns=2, o=np.array([-1, 3])),
        {"x0": [1, 4], "x1": [1, 5]},
    ),
    "indices counted from the end": (
        coded(node("Sub", "c o", "i"), GATHER, columns=1, o=np.array([9])),
        {"c": [0, 8]},
    ),
    "every second row": (
        coded(node("Mul", "c o", "i"), GATHER, columns=1, o=np.array([2])),
        {"c": [0, 4]},
    ),
    "codes that begin far off": (
        coded(node("Sub", "c o", "i"), GATHER, columns=1, o=np.array([41_000_000])),
        {"c": [41_000_000, 41_000_008]},
    ),
    "floating-point numbers cast": (
        coded(node("Cast", "c", "w", to=INT64), node("Add", "w o", "i"), GATHER, columns=2, kind=1, o=np.array([0, 5])),
        {"x0": [0, 4], "x1": [0, 3]},
    ),
    "int32": (
        coded(node("Add", "c o", "i"), GATHER, columns=2, kind=TensorProto.INT32, o=np.array([0, 5], dtype=np.int32)),
        {"x0": [0, 4], "x1": [0, 3]},
    ),
    "a clip that keeps all codes inside": (
        coded(node("Clip", "c low high", "i"), GATHER, columns=1, low=np.array(0), high=np.array(8)),
        {},
    ),
    "a clip from below alone": (
        coded(node("Max", "c low", "i"), GATHER, columns=1, low=np.array(0)),
        {"c": [-(2**53), 8]},
    ),
    "a remainder": (coded(node("Mod", "c o", "i"), GATHER, columns=1, o=np.array([9])), {}),
    "unknown codes sent to a row of their own": (
        coded(
            node("Less", "c o", "b"),
            node("Where", "b c zero", "i"),
            GATHER,
            columns=1,
            o=np.array([9]),
            zero=np.array(0),
        ),
        {"c": [0, 2**53]},
    ),
    "a table in front of the table": (
        coded(
            node("Add", "c o", "j"),
            node("Gather", "map j", "i"),
            GATHER,
            columns=1,
            o=np.array([-2]),
            map=np.array([3, 1, 8, 0]),
        ),
        {"c": [2, 5]},
    ),
    "one table for each column": (
        coded(
            node("Split", "c parts", "a b", axis=1),
            node("Gather", "E a", "ea"),
            node("Gather", "F b", "eb"),
            node("Concat", "ea eb", "e", axis=2),
            columns=2,
            parts=np.array([1, 1]),
            F=np.ones((5, 2)),
        ),
        {"x0": [0, 8], "x1": [0, 4]},
    ),
    "one-hot rows": (
        coded(
            node("Add", "c o", "i"),
            node("OneHot", "i depth values", "e", axis=-1),
            columns=2,
            o=np.array([0, 3]),
            depth=np.array([7]),
            values=[0.0, 1.0],
            embedded=(2, 7),
        ),
        {"x0": [0, 2], "x1": [0, 3]},
    ),
    "elements gathered": (
        coded(
            node("Identity", "c", "i"),
            node("Expand", "wide one", "w"),
            node("Shape", "c", "n"),
            node("GatherElements", "G i", "e", axis=0),
            columns=2,
            wide=np.array([0]),
            one=np.array([1]),
            G=np.ones((6, 2)),
            embedded=(2,),
        ),
        {"x0": [0, 5], "x1": [0, 5]},
    ),
    "one row at a time": (
        coded(node("Add", "c o", "i"), GATHER, columns=3, batch=1, o=OFFSETS),
        {"x0": [0, 3], "x1": [0, 2], "x2": [0, 1]},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_column_may_hold_what_the_table_has_rows_for(name: str, learn: Learn) -> None:
    build, limits = VARIANTS[name]
    found, _ = learn(build)
    expected = {column: bounds for column, bounds in limits.items() if bounds[0] < bounds[1]}
    assert {column: [int(v) for v in bounds] for column, bounds in ranges(found).items()} == expected


def test_positions_of_several_dimensions_are_bounded_each(learn: Learn) -> None:
    build = coded(
        node("Unsqueeze", "c axis", "i"),
        node("GatherND", "G i", "e"),
        columns=2,
        axis=np.array([1]),
        G=np.ones((4, 3)),
        embedded=(1,),
    )
    found, _ = learn(build)
    assert ranges(found) == {"x0": [0.0, 3.0], "x1": [0.0, 2.0]}


def test_a_table_read_by_its_code_alone_is_a_column_with_a_range(learn: Learn) -> None:
    found, _ = learn(coded(node("Gather", "E c", "e"), columns=1))
    assert ranges(found) == {"c": [0.0, 8.0]}


def test_columns_of_an_open_width_are_counted_by_their_offsets(learn: Learn) -> None:
    def build(path: Any) -> None:
        coded(node("Add", "c o", "i"), GATHER, columns=3, o=OFFSETS)(path)
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[1].Clear()
        onnx.save(model, path)

    found, _ = learn(build)
    assert ranges(found) == {"x0": [0.0, 3.0], "x1": [0.0, 2.0], "x2": [0.0, 1.0]}


def test_a_row_of_indices_into_one_table_has_one_range(learn: Learn, tmp_path: Path) -> None:
    build = coded(node("Gather", "E c", "e"), columns=4)
    found, _ = learn(build)
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [{"name": "c", "allowed": [0.0, 8.0]}]
    model = published(build, tmp_path)
    rows = Fields(np.zeros((2, 0)), {"c": np.array([[0, 8, 1, 2], [0, 1, 9, -1]])})
    with pytest.raises(InvalidInstances, match="row 1, 'c', position 2: must lie between 0 and 8") as error:
        model.posterior(rows)
    assert [fault.path for fault in error.value.faults] == [("instances", 1, "c", 2), ("instances", 1, "c", 3)]
    assert len(model.posterior(Fields(np.zeros((1, 0)), {"c": np.array([[0, 8, 1, 2]])})).logits) == 1


def test_a_code_outside_its_column_s_range_is_refused_with_the_range(tmp_path: Path) -> None:
    model = published(VARIANTS["an offset of each column"][0], tmp_path)
    assert len(model.posterior(np.array([[3.0, 2.0, 1.0]])).logits) == 1
    with pytest.raises(InvalidInstances, match=r"'x0': must lie between 0 and 3 \(and 1 more\)"):
        model.posterior(np.array([[4.0, 2.0, 2.0]]))


def test_a_code_that_an_encoder_does_not_know_is_refused(tmp_path: Path) -> None:
    model = published(encoded("OneHotEncoder", INT64, cats_int64s=[10, 30, 20], zeros=1), tmp_path)
    assert len(model.posterior(np.array([[0.0, 30.0]])).logits) == 1
    with pytest.raises(InvalidInstances, match="'c': is none of the categories that the model knows"):
        model.posterior(np.array([[0.0, 31.0]]))


def published(build: Build, folder: Path) -> Model:
    """A graph imported and published as it is."""
    build(folder / "published.onnx")
    repository = Repository(folder / "models")
    import_model(repository, "m", folder / "published.onnx", Declared())
    publish_draft(repository, "m")
    return load_model(repository.bundle("m", 1))


# ---------------------------------------------------------------------------------------------- categories, scales


def encoded(operator: str, kind: int = TensorProto.STRING, **attributes: Any) -> Build:
    """A classifier over a number and a column that an encoder reads."""
    encoder = helper.make_node(operator, ["c"], ["o"], domain="ai.onnx.ml", **attributes)
    nodes = (encoder, node("Cast", "o", "w", to=1), node("Reshape", "w flat", "f"), node("Concat", "n f", "v", axis=1))
    width = len(next(v for k, v in attributes.items() if k.startswith("cats"))) if operator == "OneHotEncoder" else 1
    constants = (weights("flat", np.array([-1, width])), weights("W", np.ones((1 + width, 2)) * [[0.1, -0.1]]))
    inputs = (value("n", [None, 1]), value("c", [None, 1], kind))
    return graph(*nodes, node("MatMul", "v W", "z"), node("Softmax", "z"), constants=constants, inputs=inputs)


@pytest.mark.parametrize(
    ("build", "categories"),
    [
        (encoded("OneHotEncoder", cats_strings=["f", "m"], zeros=1), ["f", "m"]),
        (encoded("OneHotEncoder", cats_strings=["f", "m"], zeros=0), ["f", "m"]),
        (encoded("OneHotEncoder", INT64, cats_int64s=[10, 30, 20], zeros=0), [10, 30, 20]),
        (encoded("LabelEncoder", keys_strings=["f", "m"], values_floats=[1.0, 2.0]), ["f", "m"]),
        (encoded("LabelEncoder", INT64, keys_int64s=[7, 9], values_floats=[1.0, 2.0]), [7, 9]),
        (encoded("CategoryMapper", cats_strings=["f", "m"], cats_int64s=[4, 6]), ["f", "m"]),
    ],
)
def test_what_an_encoder_knows_is_proposed(build: Build, categories: list[Any], learn: Learn) -> None:
    found, concluded = learn(build)
    assert concluded["output_kind"].value == "probabilities"
    assert tomllib.loads(manifest_text("m", found))["features"] == {"c": {"categories": categories}}
    drawn = draw(found.inputs, 16, 8)["c"]
    assert set(drawn.reshape(-1).tolist()) == set(categories)


@pytest.mark.parametrize(
    "nodes",
    [
        (helper.make_node("Scaler", ["x"], ["s1"], domain="ai.onnx.ml", offset=[50.0, 0.5], scale=[0.1, 10.0]),),
        (node("Sub", "x mean", "d"), node("Div", "d std", "s1")),
        (node("Sub", "x mean", "d"), node("Mul", "d inverse", "s1")),
        (node("Mul", "x inverse", "d"), node("Sub", "d quotient", "s1")),
        (node("Mul", "x inverse", "d"), node("Add", "d less", "s1")),
        (node("BatchNormalization", "x ones zeros mean variance", "s1", epsilon=1e-12),),
    ],
)
def test_a_scaler_s_mean_and_scale_are_proposed_as_a_plausible_range(nodes: Any, learn: Learn) -> None:
    held = {"mean": [50.0, 0.5], "std": [10.0, 0.1], "inverse": [0.1, 10.0], "variance": [100.0, 0.01]}
    held |= {"quotient": [5.0, 5.0], "less": [-5.0, -5.0]}
    constants = [weights(name, array) for name, array in {**held, "ones": [1.0, 1.0], "zeros": [0.0, 0.0]}.items()]
    build = graph(
        *nodes,
        node("MatMul", "s1 w", "z"),
        node("Softmax", "z"),
        constants=(weights("w", np.eye(2)), *constants),
    )
    found, _ = learn(build)
    features = tomllib.loads(manifest_text("m", found))["features"]
    assert {name: entry["plausible"] for name, entry in features.items()} == {"x0": [-50.0, 150.0], "x1": [-0.5, 1.5]}
    rows = draw(found.inputs, 400, 8)["x"]
    np.testing.assert_allclose(rows.mean(axis=0), [50, 0.5], rtol=0.1)


def test_a_wide_table_is_read_too(learn: Learn) -> None:
    width = 2000
    constants = (
        weights("mean", np.arange(width) + 10.0),
        weights("std", np.ones(width)),
        weights("w", np.ones((width, 2))),
    )
    nodes = (node("Sub", "x mean", "d"), node("Div", "d std", "s1"), node("MatMul", "s1 w", "z"), node("Softmax", "z"))
    found, _ = learn(graph(*nodes, constants=constants, inputs=(value("x", [None, width]),)))
    features = tomllib.loads(manifest_text("m", found))["features"]
    assert features["x1500"]["plausible"] == [1500.0, 1520.0]


@pytest.mark.parametrize(
    ("range_", "wider"),
    [
        ((17.3, 96.2), (15.0, 100.0)),
        ((0.0, 1.0), (0.0, 1.0)),
        ((-0.031, 0.012), (-0.035, 0.015)),
        ((140, 141), (140, 141)),
    ],
)
def test_a_range_is_rounded_outwards(range_: tuple[float, float], wider: tuple[float, float]) -> None:
    assert rounded_range(*range_) == pytest.approx(wider)


def test_categories_of_text_are_none_of_a_column_of_numbers(learn: Learn) -> None:
    """ONNX Runtime runs it, and finds none of them in any row."""
    encoder = helper.make_node("OneHotEncoder", ["x"], ["o"], domain="ai.onnx.ml", cats_strings=["a", "b"], zeros=1)
    build = graph(
        encoder,
        node("Reshape", "o flat", "f"),
        node("Softmax", "f"),
        constants=(weights("flat", np.array([-1, 2])),),
        inputs=(value("x", [None, 1]),),
    )
    found, concluded = learn(build)
    assert ranges(found) == {}
    assert concluded["dry run"].value == "one answer"
