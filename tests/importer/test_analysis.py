"""What the user says, what the graph proves, what a run shows: weighed in this order, and every conclusion says why."""

import re
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from service.errors import GraphError
from service.importer.analysis import Analysis, analyse
from service.importer.declared import Conclusion, Declared
from service.importer.manifest_text import manifest_text
from service.importer.sandbox import SandboxLimits
from tests.importer.test_refusals import estimator_of
from tests.small_graphs import Build, graph, node, value, weights

Learn = Callable[..., tuple[Analysis, dict[str, Conclusion]]]
EYE = weights("w", np.eye(2))


@pytest.fixture
def learn(tmp_path: Path) -> Learn:
    """Analyses a graph."""

    def analysed(build: Build, **flags: Any) -> tuple[Analysis, dict[str, Conclusion]]:
        build(tmp_path / "m.onnx")
        found = analyse(tmp_path / "m.onnx", Declared(**flags), SandboxLimits())
        return found, {c.subject: c for c in found.conclusions}

    return analysed


def shaped(*shape: Any, operator: str = "Identity", opset: int = 17) -> Build:
    """A graph whose output is its input, of any shape."""
    dims = list(shape)
    return graph(node(operator), inputs=(value("x", dims),), outputs=(value("s", dims),), opset=opset)


# ------------------------------------------------------------------------------------------------- user and evidence


@pytest.mark.parametrize(
    ("operator", "kind", "note"),
    [
        ("Softmax", "logits", "declared at import, although its last operator is Softmax"),
        ("Softmax", "probabilities", "declared at import"),
        ("LogSoftmax", "logits", "declared at import, although its last operator is LogSoftmax"),
        ("Tanh", "logits", "declared at import"),
    ],
)
def test_a_declaration_wins_and_is_noted_beside_the_evidence_against_it(
    operator: str, kind: str, note: str, learn: Learn
) -> None:
    _, by_subject = learn(graph(node(operator)), output_kind=kind)
    assert (by_subject["output_kind"].value, by_subject["output_kind"].evidence) == (kind, note)


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities", "sigmoid_probabilities"])
def test_a_declaration_does_not_win_over_a_run(kind: str, learn: Learn) -> None:
    with pytest.raises(GraphError, match=f"--output-kind {kind}: 's' has other values on synthetic rows"):
        learn(graph(node("MatMul", "x w"), constants=(EYE,)), output_kind=kind)


@pytest.mark.parametrize(
    ("task", "build", "remedy"),
    [
        ("multiclass", graph(node("Sigmoid")), "the output is that of a multilabel model"),
        ("sequence", graph(node("Softmax")), "the output is that of a multiclass model"),
        ("multiclass", shaped(None, None, 3, operator="Softmax"), "the output is that of a sequence model"),
    ],
)
def test_a_task_that_the_output_cannot_have_is_refused(task: str, build: Build, remedy: str, learn: Learn) -> None:
    with pytest.raises(GraphError, match=f"--task {task}: {remedy}"):
        learn(build, task=task)


@pytest.mark.parametrize(("operator", "kind"), [("Sigmoid", "sigmoid_probabilities"), ("MatMul", "sigmoid_logits")])
def test_a_multilabel_model_is_read_from_its_last_operator(operator: str, kind: str, learn: Learn) -> None:
    build = graph(node(operator, "x w" if operator == "MatMul" else "x"), constants=(EYE,))
    _, by_subject = learn(build, task="multilabel")
    assert (by_subject["output_kind"].value, by_subject["task"].value, by_subject["classes"].value) == (
        kind,
        "multilabel",
        ("0", "1"),
    )


def test_a_name_proves_nothing(learn: Learn) -> None:
    """A real one calls a sigmoid `logits`."""
    nodes = (node("MatMul", "x w", "z"), node("Sigmoid", "z", "logits"))
    build = graph(*nodes, constants=(weights("w", np.ones((2, 1))),), outputs=(value("logits", [None, 1]),))
    _, by_subject = learn(build)
    assert by_subject["output_kind"].value == "probabilities"


@pytest.mark.parametrize("width", [None, 4])
def test_a_table_that_nothing_tells_the_width_of_can_be_given_one(width: int | None, learn: Learn) -> None:
    build = graph(
        node("Softmax", "x", "p"),
        node("Reshape", "p all", "q"),
        node("Slice", "q zero two one", "r"),
        node("Softmax", "r", axis=1),
        constants=(
            *(weights(name, np.array([i])) for i, name in enumerate(("zero", "one", "two"))),
            weights("all", np.array([0, -1])),
        ),
        inputs=(value("x", [None, None]),),
    )
    if width is None:
        with pytest.raises(GraphError, match=r"name the features: --features a,b,…, or number them: --width N"):
            learn(build)
        return
    found, _ = learn(build, width=width)
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [{"name": "x", "features": ["x0", "x1", "x2", "x3"]}]
    with pytest.raises(GraphError, match="--width: the width of 0 inputs is open"):
        learn(graph(node("Softmax")), width=3)


@pytest.mark.parametrize(
    ("entries", "classes", "words"),
    [
        ({"names": "['a', 'b']", "classes": "a,b"}, ("a", "b"), "the file's metadata, 'names'"),
        ({"names": "['x', 'y', 'z']", "classes": "a,b"}, ("a", "b"), "the file's metadata, 'classes'"),
        ({"names": "['a', 'b']", "classes": "b,a"}, ("0", "1"), "names them in several ways .* --classes"),
        ({"names": "['a', 'b', 'c']"}, ("0", "1"), "the graph names 3, not 2"),
    ],
)
def test_metadata_names_classes_where_all_that_fits_agrees(
    entries: dict[str, str], classes: tuple[str, ...], words: str, learn: Learn
) -> None:
    def build(path: Path) -> None:
        graph(node("Softmax"))(path)
        model = onnx.load(path)
        helper.set_model_props(model, entries)
        onnx.save(model, path)

    _, by_subject = learn(build)
    assert by_subject["classes"].value == classes
    assert re.search(words, by_subject["classes"].evidence)


def test_metadata_that_contradicts_the_operators_is_noted(learn: Learn) -> None:
    def build(path: Path) -> None:
        graph(
            node(
                "LinearClassifier",
                "x",
                "label s",
                coefficients=[-1.0, 0.0, 1.0, 0.0],
                intercepts=[0.0, 0.0],
                classlabels_strings=["b", "a"],
                post_transform="SOFTMAX",
            ),
            outputs=(value("label", [None], TensorProto.STRING), value("s", [None, 2])),
        )(path)
        model = onnx.load(path)
        entry = model.metadata_props.add()
        entry.key, entry.value = "names", "['a', 'b']"
        onnx.save(model, path)

    _, by_subject = learn(build)
    assert by_subject["classes"].value == ("b", "a")
    assert "the file's metadata, 'names', has another order" in by_subject["classes"].evidence


def test_labels_that_saturate_are_not_taken_for_classes(learn: Learn) -> None:
    """Of large values alone, one sigmoid would be 1 and the other 0 in every row, which sum to 1."""
    steep = weights("w", np.array([[40.0, -40.0], [40.0, -40.0]]))
    constants = (steep, weights("b", [0.0, -1.0]))
    nodes = (node("MatMul", "x w", "z"), node("Add", "z b", "y"), node("Sigmoid", "y"))
    _, by_subject = learn(graph(*nodes, constants=constants))
    assert by_subject["task"].value == "multilabel"


def test_many_classes_are_numbered(learn: Learn) -> None:
    constants = (weights("w", np.random.default_rng(0).normal(size=(2, 214))),)
    _, by_subject = learn(
        graph(node("MatMul", "x w", "z"), node("Softmax", "z"), constants=constants, outputs=(value("s", [None, 214]),))
    )
    assert by_subject["classes"].value == tuple(map(str, range(214)))


def test_outputs_of_one_column_each_can_be_put_side_by_side(learn: Learn) -> None:
    picks = [node("Gather", f"p i{i}", f"p{i}", axis=1) for i in range(2)]
    constants = tuple(weights(f"i{i}", np.array(i, dtype=np.int64)) for i in range(2))
    outputs = (value("p1", [None]), value("p0", [None]))
    found, by_subject = learn(
        graph(node("Softmax", "x", "p"), *picks, constants=constants, outputs=outputs), output="p1,p0"
    )
    assert (by_subject["output"].value, by_subject["output_kind"].value) == ("scores", "probabilities")
    assert "p1, p0 were put side by side" in by_subject["graph"].evidence
    assert found.graph is not None
    (answer,) = ort.InferenceSession(found.graph).run(["scores"], {"x": np.array([[0, np.log(3)]], np.float32)})
    np.testing.assert_allclose(answer, [[0.75, 0.25]], atol=1e-6)


@pytest.mark.filterwarnings("ignore:Attribute `prob._` was deprecated")  # skl2onnx reads it
def test_a_support_vector_machine_says_its_second_class_in_its_first_column(learn: Learn) -> None:
    """ONNX Runtime gives (s, -s) for two classes; only the label beside it tells which of them is meant."""

    def build(path: Path) -> None:
        from skl2onnx import to_onnx

        rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
        fitted = estimator_of(svm="SVC")().fit(rows, rows[:, 0] > 0)
        opset = {"": 17, "ai.onnx.ml": 3}
        onnx.save(to_onnx(fitted, rows[:1], options={"zipmap": False}, target_opset=opset), path)

    found, by_subject = learn(build)
    assert "the first column is the second class' logit" in by_subject["output"].evidence
    assert found.graph is not None
    rows = np.array([[9, 0, 0, 0], [-9, 0, 0, 0]], dtype=np.float32)
    outputs = [str(by_subject["output"].value), "label"]
    scores, labels = ort.InferenceSession(found.graph).run(outputs, {"X": rows / 5})
    assert ((scores[:, 0] > 0) == labels.astype(bool)).all()


# ------------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("shape", "flags", "answered"),
    [
        ((None, 1, 3), {}, (None, 3)),
        ((None, 3, 1, 1), {}, (None, 3)),
        ((None, None, 3), {}, (None, None, 3)),
        ((None, 4, 3), {"classes": ("a", "b", "c")}, (None, 4, 3)),
        ((None, 3, 4), {"classes": ("a", "b", "c")}, (None, 4, 3)),
    ],
)
def test_an_output_is_brought_into_rows_positions_classes(
    shape: tuple[int | None, ...], flags: dict[str, Any], answered: tuple[int | None, ...], learn: Learn
) -> None:
    found, by_subject = learn(shaped(*shape, operator="Abs"), output_kind="logits", **flags)
    name = str(by_subject["output"].value)
    file = onnx.load_from_string(found.graph) if found.graph else None
    rows = np.ones([2 if d is None else d for d in shape], dtype=np.float32)
    session = ort.InferenceSession(file.SerializeToString()) if file else None
    result = rows if session is None else session.run([name], {"x": rows})[0]
    assert result.shape == tuple(2 if d is None else d for d in answered)


@pytest.mark.parametrize("shape", [(None, 4, 4), (None, 3, 5, 7)])
def test_an_unknown_axis_of_classes_is_refused_with_the_flag(shape: tuple[int | None, ...], learn: Learn) -> None:
    constants = (weights("shape", np.array([0, *shape[1:]], dtype=np.int64)),)
    width = int(np.prod([d for d in shape if d]))
    build = graph(
        node("Reshape", "x shape"),
        constants=constants,
        inputs=(value("x", [None, width]),),
        outputs=(value("s", None),),
    )
    with pytest.raises(GraphError, match=r"the axis of the classes is unknown; name the classes.*--classes"):
        learn(build, output_kind="logits")


def tokens(*nodes: onnx.NodeProto) -> Build:
    """A graph over token ids and a mask of the same length."""
    table = weights("table", np.random.default_rng(0).normal(size=(9, 3)))
    axes = weights("one", np.array([1], dtype=np.int64)), weights("last", np.array([2], dtype=np.int64))
    ids, mask = (value(n, [None, "L"], TensorProto.INT64) for n in ("ids", "mask"))
    outputs = (value("s", [None, 3]),)
    return graph(
        node("Gather", "table ids", "e"), *nodes, constants=(table, *axes), inputs=(ids, mask), outputs=outputs
    )


def test_a_mask_that_the_graph_heeds_is_filled_by_the_service(learn: Learn) -> None:
    heeding = (
        node("Cast", "mask", "m", to=TensorProto.FLOAT),
        node("Unsqueeze", "m last", "mm"),
        node("Mul", "e mm", "em"),
        node("ReduceSum", "em one", "s", keepdims=0),
    )
    found, _ = learn(tokens(*heeding), output_kind="logits")
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [
        {"name": "ids", "allowed": [0.0, 8.0], "pad": 0},
        {"name": "mask", "mask": True},
    ]


def test_a_mask_that_the_graph_ignores_is_none(learn: Learn) -> None:
    ignoring = (
        node("Cast", "mask", "m", to=TensorProto.FLOAT),
        node("Unsqueeze", "m last", "mm"),
        node("Sub", "mm mm", "none"),
        node("Add", "e none", "em"),
        node("ReduceMean", "em", "s", keepdims=0, axes=[1]),
    )
    found, _ = learn(tokens(*ignoring), output_kind="logits")
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [
        {"name": "ids", "allowed": [0.0, 8.0]},
        {"name": "mask"},
    ]


def test_segments_that_no_request_holds_are_filled(learn: Learn) -> None:
    table = weights("table", np.random.default_rng(0).normal(size=(9, 3)))
    inputs = tuple(value(n, [None, "L"], TensorProto.INT64) for n in ("ids", "token_type_ids"))
    nodes = (
        node("Gather", "table ids", "e"),
        node("Gather", "table token_type_ids", "t"),
        node("Add", "e t", "sum"),
        node("ReduceMean", "sum", "s", keepdims=0, axes=[1]),
    )
    build = graph(*nodes, constants=(table,), inputs=inputs, outputs=(value("s", [None, 3]),))
    found, _ = learn(build, output_kind="logits")
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [
        {"name": "ids", "allowed": [0.0, 8.0]},
        {"name": "token_type_ids", "fill": 0},
    ]


def test_a_column_without_an_axis_of_its_own_is_a_column(learn: Learn) -> None:
    nodes = (node("Reshape", "x column", "c"), node("Sub", "zero c", "n"), node("Concat", "c n", "z", axis=1))
    constants = (weights("column", np.array([-1, 1], dtype=np.int64)), weights("zero", [0.0]))
    found, by_subject = learn(graph(*nodes, node("Softmax", "z"), constants=constants, inputs=(value("x", [None]),)))
    assert by_subject["output_kind"].value == "probabilities"
    assert tomllib.loads(manifest_text("m", found))["inputs"] == [{"name": "x"}]


def test_an_image_of_any_size_whose_answers_grow_with_it_has_positions(learn: Learn) -> None:
    nodes = (node("Squeeze", "x one", "z"), node("Transpose", "z", "t", perm=[0, 2, 1]), node("Softmax", "t", axis=2))
    constants = (weights("one", np.array([1], dtype=np.int64)),)
    inputs, outputs = (value("x", [None, 1, 4, "W"]),), (value("s", [None, "W", 4]),)
    _, by_subject = learn(graph(*nodes, constants=constants, inputs=inputs, outputs=outputs))
    assert (by_subject["task"].value, len(by_subject["classes"].value)) == ("sequence", 4)


# -------------------------------------------------------------------------------------------------- other people's


def test_a_width_that_its_coefficients_contradict_can_be_set_right() -> None:
    """onnxruntime's own example declares 2 columns, and answers with 33 % accuracy on them."""
    from onnxruntime.datasets import get_example

    path = Path(get_example("logreg_iris.onnx"))
    with pytest.raises(GraphError, match=r"'float_input' declares 2 columns, .* coefficients for 4; name them"):
        analyse(path, Declared(), SandboxLimits())
    found = analyse(
        path, Declared(features=("sepal length", "sepal width", "petal length", "petal width")), SandboxLimits()
    )
    by_subject = {c.subject: c.value for c in found.conclusions}
    assert (by_subject["output_kind"], by_subject["classes"]) == ("probabilities", ("0", "1", "2"))
    assert found.graph is not None
    session = ort.InferenceSession(found.graph)
    assert session.get_inputs()[0].shape[1] == 4
    from sklearn.datasets import load_iris

    rows, labels = load_iris(return_X_y=True)
    batches = rows.astype(np.float32).reshape(50, 3, 4)
    answers = np.concatenate([session.run([str(by_subject["output"])], {"float_input": batch})[0] for batch in batches])
    assert np.mean(answers.argmax(axis=1) == labels) > 0.9


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_image_classifiers_that_onnx_ships_are_understood(name: str) -> None:
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    by_subject = {c.subject: c for c in analyse(path, Declared(), SandboxLimits()).conclusions}
    assert by_subject["output_kind"].value == "probabilities"
    assert by_subject["output_kind"].evidence == "its last operator is Softmax"
    assert len(by_subject["classes"].value) == 1000


@pytest.mark.skipif(find_spec("magika") is None, reason="magika is not installed")
def test_magika_is_understood() -> None:
    spec = find_spec("magika")
    assert spec is not None
    (path,) = Path(str(spec.origin)).parent.glob("models/standard_v3_3/model.onnx")
    by_subject = {c.subject: c for c in analyse(path, Declared(), SandboxLimits()).conclusions}
    assert (by_subject["output_kind"].value, len(by_subject["classes"].value)) == ("probabilities", 214)
