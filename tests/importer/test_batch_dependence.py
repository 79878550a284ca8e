"""Rows answer each for themselves, or the import names what mixes them; dynamic quantisation runs rows one by one."""

import tomllib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from service.bundle.repository import Repository
from service.errors import GraphError, ManifestInvalid
from service.fitting.publish import publish_draft
from service.graph.inspect import check_draft
from service.importer.analysis import analyse
from service.importer.declared import Conclusion, Declared
from service.importer.import_model import import_model
from service.importer.manifest_text import manifest_text
from service.importer.sandbox import SandboxLimits
from service.runtime.model import load_model, self_test_of
from service.runtime.rows import Fields

OPEN: Final[list[int | None]] = [None, 4]
RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(4, 3)).astype(np.float32)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    domain = "com.microsoft" if operator in {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} else ""
    return helper.make_node(operator, inputs.split(), outputs.split(), domain=domain, **attributes)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def floats(name: str, values: npt.ArrayLike) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: tuple[onnx.TensorProto, ...] = (),
    shape: list[int | None] = OPEN,
    functions: tuple[onnx.FunctionProto, ...] = (),
) -> Path:
    """A classifier of three classes: these operators make `c` of `x`, a layer and a softmax make `p` of `c`."""
    rest = [node("MatMul", "c W", "scores"), node("Softmax", "scores", "p", axis=-1)]
    graph = helper.make_graph(
        [*nodes, *rest],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [shape[0], 3])],
        [floats("W", WEIGHTS), *constants],
    )
    domains = [("", 18), ("com.microsoft", 1), ("own", 1)]
    opsets = [helper.make_opsetid(*opset) for opset in domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions), path)
    return path


def learn(path: Path) -> dict[str, Conclusion]:
    return {c.subject: c for c in analyse(path, Declared(), SandboxLimits()).conclusions}


def recurrent() -> list[onnx.NodeProto]:
    """A recurrent layer over the rows, as `batch_first` left out makes of a table."""
    return [
        node("Unsqueeze", "x one", "sequence"),
        node("RNN", "sequence Wi Wr", "states", hidden_size=4),
        node("Reshape", "states rows", "c"),
    ]


def branch(operator: str) -> onnx.GraphProto:
    """What a condition leads to."""
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])
    return helper.make_graph([node(operator, "x", "y")], operator, [], [answer])


SQUARE = (floats("Wi", RNG.normal(size=(1, 4, 4))), floats("Wr", RNG.normal(size=(1, 4, 4))))
MIXED: Final[dict[str, tuple[str, list[onnx.NodeProto], tuple[onnx.TensorProto, ...]]]] = {
    "mean": ("ReduceMean", [node("ReduceMean", "x a", "m"), node("Sub", "x m", "c")], (ints("a", 0),)),
    "mean of all": ("ReduceMean", [node("ReduceMean", "x", "m"), node("Sub", "x m", "c")], ()),
    "largest": ("ReduceMax", [node("ReduceMax", "x a", "m"), node("Div", "x m", "c")], (ints("a", 0),)),
    "norm": ("ReduceL2", [node("ReduceL2", "x a", "m"), node("Div", "x m", "c")], (ints("a", 0),)),
    "softmax over rows": ("Softmax", [node("Softmax", "x", "c", axis=0)], ()),
    "normalised over rows": ("LpNormalization", [node("LpNormalization", "x", "c", axis=0)], ()),
    "mean and variance": ("MeanVarianceNormalization", [node("MeanVarianceNormalization", "x", "c", axes=[0])], ()),
    "cumulative": ("CumSum", [node("CumSum", "x a", "c")], (ints("a", 0),)),
    "sorted": (
        "TopK",
        [node("Shape", "x", "s", end=1), node("TopK", "x s", "c i", axis=0)],
        (),
    ),
    "attention among rows": (
        "MatMul",
        [
            node("Transpose", "x", "t", perm=[1, 0]),
            node("MatMul", "x t", "q"),
            node("Softmax", "q", "w", axis=-1),
            node("MatMul", "w x", "c"),
        ],
        (),
    ),
    "the first row": ("Gather", [node("Gather", "x a", "m", axis=0), node("Add", "x m", "c")], (ints("a", 0),)),
    "the row before": (
        "Slice",
        [
            node("Slice", "x last end", "tail"),
            node("Slice", "x start last", "head"),
            node("Concat", "tail head", "turned", axis=0),
            node("Add", "x turned", "c"),
        ],
        (ints("start", 0), ints("last", -1), ints("end", 2**31)),
    ),
    "the number of rows": (
        "Div",
        [node("Shape", "x", "s", end=1), node("Cast", "s", "n", to=TensorProto.FLOAT), node("Div", "x n", "c")],
        (),
    ),
    "the place among rows": (
        "Add",
        [
            node("Shape", "x", "s", end=1),
            node("Squeeze", "s", "n"),
            node("Range", "zero n step", "r"),
            node("Unsqueeze", "r one", "u"),
            node("Cast", "u", "f", to=TensorProto.FLOAT),
            node("Add", "x f", "c"),
        ],
        (
            numpy_helper.from_array(np.array(0), "zero"),
            numpy_helper.from_array(np.array(1), "step"),
            ints("one", 1),
        ),
    ),
    "as many values as are large": (
        "NonZero, Shape, Div",
        [
            node("NonZero", "x", "places"),
            node("Shape", "places", "s", start=1),
            node("Cast", "s", "n", to=TensorProto.FLOAT),
            node("Div", "x n", "c"),
        ],
        (),
    ),
    "more rows than some": (
        "If",
        [
            node("Shape", "x", "s", end=1),
            node("Greater", "s many", "large"),
            node("If", "large", "c", then_branch=branch("Neg"), else_branch=branch("Identity")),
        ],
        (ints("many", 300),),
    ),
    "no more rows than some": (
        "Shape, Div",
        [
            node("Shape", "x", "s", end=1),
            node("Max", "s many", "m"),
            node("Cast", "m", "n", to=TensorProto.FLOAT),
            node("Div", "x n", "c"),
        ],
        (ints("many", 20),),
    ),
    "recurrence": ("RNN", recurrent(), (ints("one", 1), ints("rows", -1, 4), *SQUARE)),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_rows_is_refused_by_its_operator(name: str, tmp_path: Path) -> None:
    operator, nodes, constants = MIXED[name]
    path = write(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(GraphError, match=rf"depends on [a-z ]+: (\w+, )*{operator}(, \w+)* works? across the row axis"):
        learn(path)


def test_statistics_of_the_batch_are_named(tmp_path: Path) -> None:
    """ONNX Runtime moves the running ones at every run as well, so not even the same rows are answered alike."""
    nodes = [node("BatchNormalization", "x g b m v", "c running_m running_v", training_mode=1)]
    constants = tuple(floats(name, [number] * 4) for name, number in zip("gbmv", (1.0, 0.0, 0.0, 1.0), strict=True))
    with pytest.raises(GraphError, match="it uses BatchNormalization in training mode"):
        learn(write(tmp_path / "m.onnx", nodes, constants))


def test_exposed_features_must_not_mix_rows_either(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMean", "x a", "m"),
        node("Sub", "x m", "centred"),
        node("Identity", "x", "c"),
    ]
    path = write(tmp_path / "m.onnx", nodes, (ints("a", 0),))
    assert "rows" not in learn(path)
    with pytest.raises(GraphError, match="output 'centred' of a row depends on the rows beside it: ReduceMean works"):
        analyse(path, Declared(expose_features="centred"), SandboxLimits())


def test_a_fixed_number_of_rows_hides_no_mixing(tmp_path: Path) -> None:
    operator, nodes, constants = MIXED["mean"]
    with pytest.raises(GraphError, match=f"{operator} works across the row axis"):
        learn(write(tmp_path / "m.onnx", nodes, constants, shape=[6, 4]))


def test_mixing_is_found_behind_a_softmax_that_saturates(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", "x a", "m"), node("Sub", "x m", "d"), node("Mul", "d many", "c")]
    with pytest.raises(GraphError, match="ReduceMean works across the row axis"):
        learn(write(tmp_path / "m.onnx", nodes, (ints("a", 0), floats("many", 1e4))))


INDEPENDENT: Final[dict[str, tuple[list[onnx.NodeProto], tuple[onnx.TensorProto, ...]]]] = {
    "mean of a row": ([node("ReduceMean", "x a", "m"), node("Sub", "x m", "c")], (ints("a", 1),)),
    "cumulative along a row": ([node("CumSum", "x a", "c")], (ints("a", 1),)),
    "turned and turned back": (
        [
            node("Transpose", "x", "t", perm=[1, 0]),
            node("Softmax", "t", "u", axis=0),
            node("Transpose", "u", "c", perm=[1, 0]),
        ],
        (),
    ),
    "static quantisation": (
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "c")],
        (floats("s", 0.1), numpy_helper.from_array(np.array(128, dtype=np.uint8), "z")),
    ),
    "quantised row by row": (
        [
            node("Abs", "x", "a"),
            node("ReduceMax", "a axis", "m"),
            node("Div", "x m", "d"),
            node("Round", "d", "r"),
            node("Mul", "r m", "c"),
        ],
        (ints("axis", 1),),
    ),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_are_independent_are_run_together(name: str, tmp_path: Path) -> None:
    assert "rows" not in learn(write(tmp_path / "m.onnx", *INDEPENDENT[name]))


# ----------------------------------------------------------------------------------------------- dynamic quantisation

QUANTISED = numpy_helper.from_array(RNG.integers(-90, 90, (4, 4)).astype(np.int8), "Q")
LINEAR = [
    node("DynamicQuantizeLinear", "x", "q s z"),
    node("MatMulInteger", "q Q z", "i"),
    node("Cast", "i", "f", to=TensorProto.FLOAT),
    node("Mul", "s size", "k"),
    node("Mul", "f k", "c"),
]


def function() -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 18)]
    nodes = [node("DynamicQuantizeLinear", "a", "q s z"), node("DequantizeLinear", "q s z", "b")]
    return helper.make_function("own", "Layer", ["a"], ["b"], nodes, opsets)


DYNAMIC: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "linear": ("DynamicQuantizeLinear", {"nodes": LINEAR, "constants": (QUANTISED, floats("size", 0.02))}),
    "fused product": (
        "DynamicQuantizeMatMul",
        {"nodes": [node("DynamicQuantizeMatMul", "x Q size", "c")], "constants": (QUANTISED, floats("size", 0.02))},
    ),
    "fused after a linear": (
        "DynamicQuantizeLinear",
        {
            "nodes": [
                node("DynamicQuantizeLinear", "x", "q s z"),
                node("MatMulIntegerToFloat", "q Q s size z", "c"),
            ],
            "constants": (QUANTISED, floats("size", [0.02])),
        },
    ),
    "in a function": (
        "DynamicQuantizeLinear",
        {
            "nodes": [helper.make_node("Layer", ["x"], ["c"], domain="own")],
            "functions": (function(),),
        },
    ),
    "a scale that the graph computes": (
        "ReduceMax",
        {
            "nodes": [
                node("Abs", "x", "a"),
                node("ReduceMax", "a", "m", keepdims=0),
                node("Div", "m steps", "s"),
                node("QuantizeLinear", "x s z", "q"),
                node("DequantizeLinear", "q s z", "c"),
            ],
            "constants": (floats("steps", 127.0), numpy_helper.from_array(np.array(0, dtype=np.int8), "z")),
        },
    ),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_quantisation_runs_rows_one_by_one(name: str, tmp_path: Path) -> None:
    operator, graph = DYNAMIC[name]
    concluded = learn(write(tmp_path / "m.onnx", **graph))["rows"]
    assert concluded.value == "alone"
    assert concluded.evidence.startswith(f"{operator} quantises by the range of the whole batch")


def test_an_operator_inside_a_function_is_named(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18)]
    nodes = [node("Softmax", "a", "b", axis=0)]
    layer = helper.make_function("own", "Layer", ["a"], ["b"], nodes, opsets)
    path = write(tmp_path / "m.onnx", [helper.make_node("Layer", ["x"], ["c"], domain="own")], functions=(layer,))
    with pytest.raises(GraphError, match="Softmax works across the row axis"):
        learn(path)


@pytest.mark.parametrize("order", ["before", "behind"])
def test_dynamic_quantisation_hides_no_other_mixing(order: str, tmp_path: Path) -> None:
    centred = [node("ReduceMean", "a axis", "m"), node("Sub", "a m", "b")]
    quantised = [node("DynamicQuantizeLinear", "a", "q s z"), node("DequantizeLinear", "q s z", "b")]
    parts = [centred, quantised] if order == "before" else [quantised, centred]
    names = [{"a": "x", "b": "h"}, {"a": "h", "b": "c"}]
    nodes = []
    for part, renamed in zip(parts, names, strict=True):
        for each in part:
            copy = onnx.NodeProto.FromString(each.SerializeToString())
            copy.input[:] = [renamed.get(name, name) for name in each.input]
            copy.output[:] = [renamed.get(name, name) for name in each.output]
            nodes.append(copy)
    with pytest.raises(GraphError, match="ReduceMean works across the row axis"):
        learn(write(tmp_path / "m.onnx", nodes, (ints("axis", 0),)))


def test_quantisation_of_what_the_scores_do_not_depend_on_is_none(tmp_path: Path) -> None:
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("Identity", "x", "c")]
    assert "rows" not in learn(write(tmp_path / "m.onnx", nodes))


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """A network of two layers, quantised dynamically by ONNX Runtime."""
    plain = write(
        tmp_path / "plain.onnx",
        [node("MatMul", "x A", "h"), node("Relu", "h", "r"), node("MatMul", "r B", "c")],
        (floats("A", RNG.normal(size=(4, 16))), floats("B", RNG.normal(size=(16, 4)))),
    )
    path = tmp_path / "int8.onnx"
    quantize_dynamic(plain, path)
    return path


@pytest.mark.parametrize(("hidden", "seed"), [(8, 2), (32, 1), (32, 2)])
def test_a_recurrent_network_that_is_quantised_is_imported(hidden: int, seed: int, tmp_path: Path) -> None:
    # DynamicQuantizeLSTM is no linear layer: its rounding goes on into the whole numbers of the layer behind it.
    rng = np.random.default_rng(seed)
    sizes = {"Wl": (1, 4 * hidden, 2), "Rl": (1, 4 * hidden, hidden), "B": (hidden, 4)}
    plain = write(
        tmp_path / "plain.onnx",
        [
            node("Reshape", "x shape", "r"),
            node("Transpose", "r", "t", perm=[1, 0, 2]),
            node("LSTM", "t Wl Rl", "all last", hidden_size=hidden),
            node("Squeeze", "last first", "h"),
            node("MatMul", "h B", "c"),
        ],
        (
            *(floats(name, rng.normal(size=size) * 0.2) for name, size in sizes.items()),
            ints("shape", -1, 2, 2),
            ints("first", 0),
        ),
    )
    quantize_dynamic(plain, tmp_path / "int8.onnx", op_types_to_quantize=["LSTM", "MatMul"])
    assert learn(tmp_path / "int8.onnx")["rows"].value == "alone"


def test_every_row_of_a_quantised_network_is_answered_as_if_alone(quantised: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    import_model(repository, "int8", quantised, Declared())
    publish_draft(repository, "int8")
    model = load_model(repository.bundle("int8", 1))
    rows = RNG.normal(size=(9, 4)) * 10.0 ** RNG.integers(-2, 3, size=(9, 1))
    session = ort.InferenceSession(str(quantised))
    alone = [session.run(["p"], {"x": row[None].astype(np.float32)})[0][0] for row in rows]
    together = session.run(["p"], {"x": rows.astype(np.float32)})[0]
    assert np.abs(together - np.array(alone)).max() > 0.05  # or nothing is shown
    np.testing.assert_allclose(np.exp(model.posterior(rows).log_probs), alone, atol=1e-6)


def test_a_manifest_that_lets_such_rows_run_together_is_refused(quantised: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    draft = import_model(repository, "int8", quantised, Declared()).draft / "manifest.toml"
    lines = draft.read_text(encoding="utf-8").splitlines()
    draft.write_text("\n".join(line for line in lines if not line.startswith("rows")), encoding="utf-8")
    with pytest.raises(ManifestInvalid, match=r'graph.rows: DynamicQuantizeLinear .* write rows = "alone" under'):
        check_draft(repository.draft("int8"))
    with pytest.raises(ManifestInvalid, match=r"graph.rows: the graph answers a row otherwise beside other rows"):
        load_model(repository.draft("int8"))


def test_the_key_stands_in_the_manifest_s_fingerprinted_section(quantised: Path) -> None:
    text = manifest_text("m", analyse(quantised, Declared(), SandboxLimits()))
    assert tomllib.loads(text)["graph"]["rows"] == "alone"


def test_a_fixed_batch_is_filled_with_the_row_itself(tmp_path: Path) -> None:
    _, graph = DYNAMIC["linear"]
    repository = Repository(tmp_path / "models")
    path = write(tmp_path / "m.onnx", **graph, shape=[4, 4])
    import_model(repository, "m", path, Declared())
    model = load_model(repository.draft("m"))
    rows = RNG.normal(size=(6, 4)) * 10.0 ** np.arange(-3, 3)[:, None]
    each = np.concatenate([model.posterior(rows[i : i + 1]).log_probs for i in range(6)])
    np.testing.assert_allclose(model.posterior(rows).log_probs, each, rtol=1e-12)
    free = write(tmp_path / "free.onnx", **graph)
    alone = [ort.InferenceSession(str(free)).run(["p"], {"x": row[None].astype(np.float32)})[0][0] for row in rows]
    np.testing.assert_allclose(np.exp(each), alone, atol=1e-6)


def text(path: Path) -> Path:
    """Token ids with a mask: embeddings, quantised by the batch, averaged over a row's own positions."""
    table = RNG.normal(size=(20, 4)) * np.linspace(0.2, 3.0, 20)[:, None]
    nodes = [
        node("Gather", "E input_ids", "e", axis=0),
        node("DynamicQuantizeLinear", "e", "q s z"),
        node("DequantizeLinear", "q s z", "d"),
        node("Cast", "attention_mask", "mask", to=TensorProto.FLOAT),
        node("Unsqueeze", "mask last", "m"),
        node("Mul", "d m", "kept"),
        node("ReduceSum", "kept axis", "total", keepdims=0),
        node("ReduceSum", "mask axis", "count", keepdims=1),
        node("Div", "total count", "c"),
        node("MatMul", "c W", "p"),
    ]
    shape = ["rows", "length"]
    names = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", 3])],
        [floats("E", table), floats("W", WEIGHTS * 4), ints("last", -1), ints("axis", 1)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_short_row_beside_longer_ones_is_answered_as_if_alone(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    import_model(repository, "text", text(tmp_path / "m.onnx"), Declared())
    model = load_model(repository.draft("text"))
    assert model.manifest.inputs[1].mask
    ids = [[1, 2], [19, 18, 17, 16, 3], [4], [1, 2]]
    session = ort.InferenceSession(str(tmp_path / "m.onnx"))
    feeds = [{"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), dtype=np.int64)} for row in ids]
    alone = np.concatenate([session.run(["p"], feed)[0] for feed in feeds])
    padded = np.array([row + [0] * (5 - len(row)) for row in ids])
    rows = Fields(np.empty((4, 0)), {"input_ids": padded}, np.array([len(row) for row in ids]))
    np.testing.assert_allclose(model.raw(rows).logits, alone, rtol=1e-6)


def test_the_self_test_of_rows_of_several_lengths_holds(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    import_model(repository, "text", text(tmp_path / "m.onnx"), Declared())
    model = load_model(repository.draft("text"))
    test = self_test_of(model)
    assert test.lengths is not None
    assert len(set(test.lengths.tolist())) > 1
    raw = model.run(test.columns, test.feeds, test.lengths)
    assert test.departure(raw.logits, model.posterior_of(raw).log_probs) is None
