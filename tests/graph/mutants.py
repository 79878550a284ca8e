"""Small graphs of every kind that importing looks at, and what damage or an odd exporter may make of them."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ML: Final = "ai.onnx.ml"
TREES: Final[dict[str, Any]] = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "class_treeids": [0, 0],
    "class_nodeids": [1, 2],
    "class_ids": [0, 1],
    "class_weights": [1.0, 1.0],
}


def info(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    """A declared tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, values: Any) -> onnx.TensorProto:
    """An initialiser: float32, or whole numbers as they are."""
    array = np.asarray(values)
    return numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(np.float32), name)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: tuple[onnx.TensorProto, ...] = (),
    *,
    ml: int = 3,
) -> onnx.ModelProto:
    """A graph of these operators."""
    made = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, ml)], ir_version=9
    )


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """An operator; one that ai.onnx.ml has is taken from there."""
    domain = ML if onnx.defs.has(operator, ML) else ""
    return helper.make_node(operator, inputs.split(), outputs.split(), domain=domain, **attributes)


def tree_ensemble(transform: int, *, targets: int = 2) -> onnx.ModelProto:
    """A TreeEnsemble of ai.onnx.ml 5 whose one split is at 0.5."""
    trees = {
        "n_targets": targets,
        "aggregate_function": 1,
        "tree_roots": [0],
        "nodes_featureids": [0],
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, targets - 1],
        "nodes_modes": numpy_helper.from_array(np.array([0], np.uint8), "m"),
        "nodes_splits": tensor("t", [0.5]),
        "leaf_weights": tensor("w", [1.0, 2.0]),
    }
    made = node("TreeEnsemble", "X", "p", post_transform=transform, **trees)
    return model([made], [info("X", FLOAT, ["N", 4])], [info("p", FLOAT, ["N", targets])], ml=5)


def seeds() -> dict[str, onnx.ModelProto]:
    """One sound graph of every kind."""
    x, s = [info("X", FLOAT, ["N", 4])], [info("s", FLOAT, ["N", 2])]
    labelled, named = ([info("label", kind, ["N"]), *s] for kind in (INT64, TEXT))
    linear = {"coefficients": [0.1, 0.2, 0.3, 0.4] * 2, "intercepts": [0.0, 0.1], "classlabels_ints": [0, 1]}
    mixed = [info("age", FLOAT, ["N", 1]), info("sex", TEXT, ["N", 1])]
    w, e = tensor("W", 0.1 * np.arange(8).reshape(4, 2)), tensor("E", 0.1 * np.arange(18).reshape(9, 2))
    softmax = node("Softmax", "z", "s", axis=-1)
    return {
        "softmax": model([node("Gemm", "X W b", "z", transB=0), softmax], x, s, (w, tensor("b", [0.0, 1.0]))),
        "linear classifier": model(
            [node("LinearClassifier", "X", "label s", post_transform="SOFTMAX", **linear)], x, labelled
        ),
        "zipmap": model(
            [
                node("LinearClassifier", "X", "label q", post_transform="LOGISTIC", **linear),
                node("Normalizer", "q", "s", norm="L1"),
                node("ZipMap", "s", "maps", classlabels_int64s=[0, 1]),
            ],
            x,
            labelled,
        ),
        "trees": model(
            [node("TreeEnsembleClassifier", "X", "label s", classlabels_strings=["a", "b"], **TREES)], x, named
        ),
        "tree ensemble": tree_ensemble(1),
        "mixed": model(
            [
                node("Scaler", "age", "a", offset=[50.0], scale=[0.1]),
                node("OneHotEncoder", "sex", "o", cats_strings=["f", "m"], zeros=1),
                node("Flatten", "o", "f", axis=1),
                node("Concat", "a f", "v", axis=1),
                node("MatMul", "v W", "z"),
                softmax,
            ],
            mixed,
            s,
            (tensor("W", 0.1 * np.arange(6).reshape(3, 2)),),
        ),
        "label encoder": model(
            [
                node("LabelEncoder", "sex", "v", keys_strings=["f", "m"], values_floats=[0.0, 1.0]),
                node("Concat", "age v", "s", axis=1),
            ],
            mixed,
            s,
        ),
        "offsets": model(
            [
                node("Add", "c o", "i"),
                node("Gather", "E i", "e"),
                node("Flatten", "e", "f", axis=1),
                node("MatMul", "f W6", "z"),
                softmax,
            ],
            [info("c", INT64, ["N", 3])],
            s,
            (e, tensor("W6", 0.1 * np.arange(12).reshape(6, 2)), tensor("o", np.array([0, 4, 7]))),
        ),
        "one-hot": model(
            [
                node("OneHot", "c depth values", "h", axis=-1),
                node("Flatten", "h", "f", axis=1),
                node("MatMul", "f W6", "z"),
                softmax,
            ],
            [info("c", INT64, ["N", 2])],
            s,
            (
                tensor("W6", 0.1 * np.arange(12).reshape(6, 2)),
                tensor("depth", np.array([3])),
                tensor("values", [0.0, 1.0]),
            ),
        ),
        "columns": model(
            [
                node("Softmax", "X", "p", axis=1),
                *(node("ArrayFeatureExtractor", f"p i{i}", f"p{i}") for i in range(4)),
                node("Sub", "X m", "c"),
                node("Div", "c d", "n"),
            ],
            x,
            [info(f"p{i}", FLOAT, ["N", 1]) for i in range(4)],
            (*(tensor(f"i{i}", np.array([i])) for i in range(4)), tensor("m", [1.0] * 4), tensor("d", [2.0] * 4)),
        ),
        "sequence": model(
            [node("Split", "X parts", "a b", axis=1), node("SequenceConstruct", "a b", "q")],
            x,
            [helper.make_tensor_sequence_value_info("q", FLOAT, ["N", 2])],
            (tensor("parts", np.array([2, 2])),),
        ),
        "recurrent": model(
            [node("LSTM", "x3 W3 R", "y", hidden_size=1), node("Squeeze", "y one", "s")],
            [info("x3", FLOAT, [2, "N", 4])],
            [info("s", FLOAT, ["N", 1])],
            (tensor("W3", np.ones((1, 4, 4))), tensor("R", np.ones((1, 4, 1))), tensor("one", np.array([1]))),
        ),
    }


def attributes_of_every_type(name: str) -> Iterator[AttributeProto]:
    """An attribute under one name as every type that there is, with plain and with odd values."""
    values: tuple[Any, ...] = (
        1,
        -1,
        2**62,
        0.5,
        float("nan"),
        b"",
        b"\xff\xfe",
        "NONE",
        [1, 2],
        [0.5],
        [b"\xff"],
        ["a", "b"],
    )
    for value in values:
        yield helper.make_attribute(name, value)
    for empty in (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS, AttributeProto.TENSOR):
        yield AttributeProto(name=name, type=empty)
    yield AttributeProto(name=name)
    yield helper.make_attribute(name, tensor("t", [[1.0, 2.0]]))
    yield helper.make_attribute(name, numpy_helper.from_array(np.array(["a"], dtype=object), "t"))


def with_other_attributes(sound: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Every attribute of every operator replaced by every other, and left out."""
    for at, made in enumerate(sound.graph.node):
        for which, found in enumerate(made.attribute):
            for other in (None, *attributes_of_every_type(found.name)):
                changed = copy.deepcopy(sound)
                held = changed.graph.node[at].attribute
                del held[which]
                held.extend([] if other is None else [other])
                yield changed


def with_other_wiring(sound: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Operators without inputs or outputs, with others' names, of other kinds, twice, and gone."""
    operators = sorted({made.op_type for made in sound.graph.node} | {"Concat", "Reshape", "Add", "Gather", "ZipMap"})
    for at in range(len(sound.graph.node)):
        for change in (*_WIRINGS, *(_renamed(operator) for operator in operators)):
            changed = copy.deepcopy(sound)
            change(changed, changed.graph.node[at])
            yield changed


def with_other_tensors(sound: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Constants of other types and shapes, cut short, empty or gone; inputs and outputs declared otherwise."""
    for at in range(len(sound.graph.initializer)):
        for change in _TENSORS:
            changed = copy.deepcopy(sound)
            change(changed, changed.graph.initializer[at])
            yield changed
    for values in ("input", "output"):
        for at in range(len(sound.graph.input if values == "input" else sound.graph.output)):
            for change in _DECLARATIONS:
                changed = copy.deepcopy(sound)
                change(changed, (changed.graph.input if values == "input" else changed.graph.output)[at])
                yield changed


def with_other_bytes(sound: onnx.ModelProto, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Files in which bytes were changed, cut out, doubled, or cut off."""
    whole = sound.SerializeToString()
    for _ in range(count):
        start, length = int(rng.integers(len(whole))), int(rng.integers(1, 9))
        part = whole[start : start + length]
        other = (rng.bytes(length), b"", part + part, b"\xff" * length)[int(rng.integers(4))]
        yield whole[:start] + other + (whole[start + length :] if rng.random() < 0.9 else b"")


def _renamed(operator: str) -> Callable[[onnx.ModelProto, onnx.NodeProto], None]:
    def rename(_: onnx.ModelProto, made: onnx.NodeProto) -> None:
        made.op_type = operator
        made.domain = ML if onnx.defs.has(operator, ML) else ""

    return rename


def _put(tensor: onnx.TensorProto, array: Any) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))


_WIRINGS: Final[tuple[Callable[[onnx.ModelProto, onnx.NodeProto], Any], ...]] = (
    lambda _, made: made.ClearField("input"),
    lambda _, made: made.ClearField("output"),
    lambda _, made: made.input.append(made.output[0]),
    lambda _, made: made.input.insert(0, ""),
    lambda _, made: made.input.extend(["X"] * 3),
    lambda _, made: made.output.insert(0, ""),
    lambda _, made: made.output.append("X"),
    lambda whole, made: whole.graph.node.remove(made),
    lambda whole, made: whole.graph.node.append(made),
    lambda _, made: made.ClearField("attribute"),
    lambda _, made: made.attribute.extend(list(made.attribute)),
)
_TENSORS: Final[tuple[Callable[[onnx.ModelProto, onnx.TensorProto], Any], ...]] = (
    lambda whole, held: whole.graph.initializer.remove(held),
    lambda _, held: held.ClearField("dims"),
    lambda _, held: held.dims.append(7),
    lambda _, held: held.dims.append(-1),
    lambda _, held: held.dims.extend([2**40, 2**40]),
    lambda _, held: held.dims.extend([2**62, 4, 2**62]),
    lambda _, held: held.dims.extend([2**62, 0]),
    lambda _, held: held.ClearField("raw_data"),
    lambda _, held: setattr(held, "raw_data", held.raw_data[:-1]),
    lambda _, held: setattr(held, "raw_data", b""),
    lambda _, held: _put(held, np.zeros(0, np.int64)),
    lambda _, held: _put(held, np.zeros(0, np.float32)),
    lambda _, held: _put(held, np.array(3)),
    lambda _, held: _put(held, np.array([-5, 2**62])),
    lambda _, held: _put(held, np.array([[np.nan, np.inf]], np.float32)),
    lambda _, held: _put(held, np.array([["a", "b"]], dtype=object)),
    lambda _, held: _put(held, np.array([True, False])),
    lambda _, held: held.ClearField("name"),
    *(lambda _, held, kind=kind: setattr(held, "data_type", kind) for kind in (0, 7, 8, 16, 22, 99)),
)
_DECLARATIONS: Final[tuple[Callable[[onnx.ModelProto, onnx.ValueInfoProto], Any], ...]] = (
    lambda _, held: held.ClearField("type"),
    lambda _, held: held.ClearField("name"),
    lambda _, held: held.type.tensor_type.ClearField("shape"),
    lambda _, held: held.type.tensor_type.shape.ClearField("dim"),
    lambda _, held: held.type.tensor_type.shape.dim.add(),
    *(lambda _, held, n=n: setattr(held.type.tensor_type.shape.dim.add(), "dim_value", n) for n in (-1, 0, 3, 2**40)),
    *(lambda _, held, kind=kind: setattr(held.type.tensor_type, "elem_type", kind) for kind in (0, 7, 8, 9, 16, 99)),
)
