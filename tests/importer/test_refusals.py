"""Whatever cannot be served is refused in one sentence that names it and the remedy, and leaves nothing behind."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.errors import GraphError
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.importer.sandbox import SandboxLimits
from service.runtime.limited_process import GIBIBYTE
from tests.small_graphs import FLOAT, Build, big_tensor, graph, loop, node, slow_load, value, weights

TEXT = TensorProto.STRING
ROWS = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
THREE = np.digitize(ROWS[:, 0], [-0.5, 0.5])
QUICK = SandboxLimits(seconds=0.5, memory=GIBIBYTE)


def newer(path: Path) -> None:
    """Writes a graph that says it needs operators of the future."""
    graph(node("Softmax"))(path)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 99))
    onnx.save(model, path)


def converted(estimator: Callable[[], Any]) -> Build:
    """What skl2onnx makes of a fitted estimator."""

    def build(path: Path) -> None:
        from skl2onnx import to_onnx

        opset = {"": 17, "ai.onnx.ml": 3}
        onnx.save(to_onnx(estimator().fit(ROWS, ROWS[:, 1]), ROWS[:1], target_opset=opset), path)

    return build


def estimator_of(**estimator: Any) -> Any:
    """One of scikit-learn's estimators by the path of its name."""
    import importlib

    ((module, name),) = estimator.items()
    return getattr(importlib.import_module(f"sklearn.{module}"), name)


def classifier(**changes: Any) -> onnx.NodeProto:
    """A LinearClassifier of two classes over two columns."""
    how = {"coefficients": [-1.0, 0.0, 1.0, 0.0], "intercepts": [0.0, 0.0], "classlabels_ints": [0, 1]}
    return node("LinearClassifier", "x", "label s", post_transform="SOFTMAX", **{**how, **changes})


LABELLED = (value("label", [None], TensorProto.INT64), value("s", [None, 2]))
GATES = {"W": np.ones((1, 8, 2)), "R": np.ones((1, 8, 2))}

REFUSED: dict[str, tuple[Build, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is no ONNX file, .*: it is empty"),
    "html": (lambda path: path.write_text("<!doctype html>"), "it looks like a web page; the download failed"),
    "a pickle": (lambda path: path.write_bytes(b"\x80\x04K\x01."), "it looks like a pickle, which is never"),
    "a torch archive": (
        lambda path: path.write_bytes(b"PK\x03\x04"),
        "export the model with torch.onnx.export",
    ),
    "a Git LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "it is a Git LFS pointer; fetch the file itself with `git lfs pull`",
    ),
    "an unknown operator": (
        graph(node("Sharpen")),
        "uses the operator Sharpen, which ONNX does not have; export the model with standard operators",
    ),
    "an operator of its own": (
        graph(helper.make_node("Sharpen", ["x"], ["s"], domain="my.ops"), domain="my.ops"),
        r"my\.ops:Sharpen.* is not a registered function/op",
    ),
    "an operator that the opset does not have": (
        graph(node("Gelu"), opset=17),
        "No Op registered for Gelu with domain_version of 17",
    ),
    "a batch that no request fills": (
        graph(node("Softmax"), inputs=(value("x", [1_000_000, 1000]),), outputs=(value("s", [1_000_000, 1000]),)),
        "input 'x' takes 1000000 rows of 1000 numbers at a time, .* a row axis that varies",
    ),
    "a future opset of ai.onnx.ml": (
        newer,
        "has opset ai.onnx.ml 99, this release runs up to [0-9]+; export it",
    ),
    "a future opset": (graph(node("Softmax"), opset=99), "has opset 99, .* export it with opset_version="),
    "a future IR": (graph(node("Softmax"), ir=99), "has IR version 99, .* with an older release of onnx"),
    "a linear regressor": (
        converted(estimator_of(linear_model="LinearRegression")),
        "comes from a regressor .*LinearRegressor.*which predicts a quantity, not a class",
    ),
    "a forest of regressors": (
        converted(lambda: estimator_of(ensemble="RandomForestRegressor")(n_estimators=3)),
        "comes from a regressor .*TreeEnsembleRegressor",
    ),
    "a support vector regressor": (converted(estimator_of(svm="SVR")), "comes from a regressor .*SVMRegressor"),
    "a one-class machine": (converted(estimator_of(svm="OneClassSVM")), "comes from a regressor"),
    "an isolation forest": (
        converted(lambda: estimator_of(ensemble="IsolationForest")(n_estimators=3)),
        r"the kind of 'scores' is unknown .*--output-kind",
    ),
    "a clusterer": (
        converted(lambda: estimator_of(cluster="KMeans")(n_clusters=3, n_init=1)),
        "assigns rows to the nearest of several centres .*a clusterer",
    ),
    "a regression network": (
        graph(node("MatMul", "x w"), constants=(weights("w", np.ones((2, 1))),), outputs=(value("s", [None, 1]),)),
        "'s' is one linear column .*as a regressor has it too; .*name them: --classes no,yes",
    ),
    "a label without scores": (
        graph(node("ArgMax", axis=1), outputs=(value("s", [None, 1], TensorProto.INT64),)),
        "no floating-point tensor among its outputs; export a classifier's probabilities or logits",
    ),
    "a recurrent state": (
        graph(
            node("Unsqueeze", "x first", "steps"),
            node("LSTM", "steps W R B L h", "y s", hidden_size=2),
            constants=(
                weights("first", np.array([0], dtype=np.int64)),
                *(weights(name, array) for name, array in GATES.items()),
                weights("B", np.zeros((1, 16))),
                numpy_helper.from_array(np.ones(16, dtype=np.int32), "L"),
            ),
            inputs=(value("x", [None, 2]), value("h", [1, None, 2])),
        ),
        "input 'h' takes the state of LSTM: the model carries a state",
    ),
    "a state in and out": (
        graph(
            node("Add", "x state", "stateN"),
            node("Softmax", "stateN"),
            inputs=(value("x", [None, 2]), value("state", [None, 2])),
            outputs=(value("s", [None, 2]), value("stateN", [None, 2])),
        ),
        "input 'state' takes what 'stateN' answered: the model carries a state",
    ),
    "a state by another name": (
        graph(
            node("Add", "x h0", "hn"),
            node("Softmax", "hn"),
            inputs=(value("x", [None, 2]), value("h0", [None, 2])),
            outputs=(value("s", [None, 2]), value("hn", [None, 2])),
        ),
        "input 'h0' takes what 'hn' answered",
    ),
    "rows of absurd width": (
        graph(node("Softmax"), inputs=(value("x", [None, 2**40]),), outputs=(value("s", None),)),
        "input 'x' has rows of 1099511627776 numbers, which no request can hold",
    ),
    "tensors of absurd size": (
        graph(node("Softmax"), inputs=(value("x", [None, 4, 2**40]),), outputs=(value("s", None),)),
        "input 'x' has rows of 4398046511104 numbers, which no request can hold",
    ),
    "an input that is the same for all rows": (
        graph(node("Mul", "x rate"), inputs=(value("x", [None, 2]), value("rate", []))),
        "input 'rate' has rank 0: it is no table of rows",
    ),
    "a width that its coefficients contradict": (
        graph(
            classifier(coefficients=[0.1] * 8),
            outputs=LABELLED,
        ),
        "input 'x' declares 2 columns, .* have coefficients for 4; name them: --features with 4 names",
    ),
    "weights that are no numbers": (
        graph(node("MatMul", "x w"), constants=(weights("w", [[1, np.nan], [0, 1]]),)),
        "the weights 'w' hold NaN; the training went wrong",
    ),
    "coefficients that are no numbers": (
        graph(classifier(coefficients=[np.nan, 0.0, 1.0, 0.0]), outputs=LABELLED),
        "LinearClassifier has NaN among its coefficients",
    ),
    "infinite logits": (
        graph(node("Div", "x zero"), constants=(weights("zero", [0.0, 0.0]),)),
        "output 's' is not finite on synthetic rows: it holds NaN or infinity",
    ),
    "a locale that is not there": (
        graph(
            node("StringNormalizer", "x", "low", locale="xx_YY", case_change_action="LOWER"),
            helper.make_node(
                "LabelEncoder", ["low"], ["s"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[1.0]
            ),
            inputs=(value("x", [1, 2], TEXT),),
            outputs=(value("s", [1, 2]),),
        ),
        "StringNormalizer needs the locale 'xx_YY', .*locale.*'C'",
    ),
    "answers that differ each time": (
        graph(node("RandomNormalLike", "x", "noise"), node("Add", "x noise")),
        r"differs between two runs on the same rows \(it uses RandomNormalLike\); .* in evaluation mode",
    ),
    "a loop without end": (loop(), r"it does not end within 0\.5 s"),
    "a load without end": (slow_load(), r"the dry run did not end within 1\.5 s and was stopped; look for a loop"),
    "a tensor beyond the limit": (big_tensor(2**26), "the dry run needs more than 1 GiB of memory; look for"),
    "a tensor beyond any memory": (big_tensor(2**40), "the dry run needs more than 1 GiB of memory; look for"),
    "a constant answer": (
        graph(node("Shape", "x", "n"), node("Cast", "n", "s", to=FLOAT)),
        "output 's' does not depend on the input: no operator behind it looks at a value of an input",
    ),
    "a sequence in": (
        graph(
            node("ConcatFromSequence", "q", "s", axis=0),
            inputs=(helper.make_tensor_sequence_value_info("q", FLOAT, [None, 2]),),
        ),
        "input 'q' is no tensor",
    ),
    "targets of three classes": (
        graph(
            classifier(coefficients=[0.0] * 6, intercepts=[0.0] * 3, classlabels_ints=[0, 1, 2]),
            node("SequenceConstruct", "s s", "q"),
            outputs=(LABELLED[0], helper.make_tensor_sequence_value_info("q", FLOAT, [None, 3])),
        ),
        "several targets at once, and 's' has 3 classes; .*export one model per target",
    ),
    "a softmax over one column": (
        graph(
            node("MatMul", "x w", "z"),
            node("Softmax", "z", axis=-1),
            constants=(weights("w", np.ones((2, 1))),),
            outputs=(value("s", [None, 1]),),
        ),
        "output 's' is 1 for every row: a softmax over one column.*Softmax.*train it with a sigmoid",
    ),
    "the logarithm of a softmax over one column, reshaped": (
        graph(
            node("MatMul", "x w", "z"),
            node("LogSoftmax", "z", "l", axis=1),
            node("Flatten", "l"),
            constants=(weights("w", np.ones((2, 1))),),
            outputs=(value("s", [None, 1]),),
        ),
        "output 's' is 0 for every row: a softmax over one column",
    ),
    "a softmax over one class at every position": (
        graph(
            node("Softmax", "x", axis=-1), inputs=(value("x", [None, "L", 1]),), outputs=(value("s", [None, "L", 1]),)
        ),
        "output 's' is 1 for every row: a softmax over one column",
    ),
    "a softmax over an axis of length one": (
        graph(
            node("Unsqueeze", "x axis", "u"),
            node("Softmax", "u", "p", axis=1),
            node("Squeeze", "p axis"),
            constants=(weights("axis", np.array([1])),),
        ),
        "output 's' is 1 for every row: a softmax over one column, or an axis of length 1",
    ),
    "weights that are all zero": (
        graph(
            node("Gemm", "x w b", "z"),
            node("Softmax", "z"),
            constants=(weights("w", np.zeros((2, 2))), weights("b", [1.0, 2.0])),
        ),
        "output 's' does not depend on the input",
    ),
    "a sigmoid of a constant": (
        graph(
            node("Shape", "x", "shape"),
            node("ConstantOfShape", "shape", "zeros"),
            node("Sigmoid", "zeros"),
        ),
        "output 's' does not depend on the input: no operator behind it looks at a value",
    ),
    "an input times nothing": (
        graph(node("Mul", "x none", "z"), node("Softmax", "z"), constants=(weights("none", [0.0]),)),
        "output 's' does not depend on the input",
    ),
    "an input less itself": (
        graph(
            node("Sub", "x x", "z"),
            node("Add", "z b", "y"),
            node("Softmax", "y"),
            constants=(weights("b", [1.0, 2.0]),),
        ),
        "output 's' does not depend on the input",
    ),
    "a one-hot answer": (
        graph(node("MatMul", "x w", "z"), node("Hardmax", "z"), constants=(weights("w", np.eye(2)),)),
        r"no floating-point tensor .* that holds scores \('s' is what Hardmax made of scores\); export a classifier's",
    ),
    "a label that is a floating-point number": (
        graph(
            node("ArgMax", "x", "i", axis=1),
            node("Cast", "i", to=FLOAT),
            outputs=(value("s", [None, 1]),),
        ),
        r"that holds scores \('s' is what ArgMax made of scores\)",
    ),
    "a comparison": (
        graph(
            node("Sigmoid", "x", "p"),
            node("Greater", "p half", "b"),
            node("Cast", "b", to=FLOAT),
            constants=(weights("half", [0.5]),),
        ),
        r"'s' is what Greater made of scores",
    ),
    "one column whose labels say the contrary": (
        graph(
            node("MatMul", "x w", "z"),
            node("Sigmoid", "z"),
            node("Less", "s half", "b"),
            node("Cast", "b", "label", to=TensorProto.INT64),
            constants=(weights("w", [[1.0], [-1.0]]), weights("half", [0.5])),
            outputs=(value("label", [None, 1], TensorProto.INT64), value("s", [None, 1])),
        ),
        "the graph's own label is the class of its largest score in 0% of synthetic rows only",
    ),
    "scores in another order than the labels": (
        graph(
            classifier(),
            node("Neg", "s", "negative"),
            node("Softmax", "negative", "turned"),
            outputs=(LABELLED[0], value("turned", [None, 2])),
        ),
        "the graph's own label is the class of its largest score in 0% of synthetic rows only",
    ),
}


@pytest.mark.parametrize(("build", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_with_its_reason_and_leaves_nothing_behind(
    build: Build, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, models, path = tmp_path / "scratch", tmp_path / "models", tmp_path / "model.onnx"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    build(path)
    with pytest.raises(GraphError, match=reason) as error:
        import_model(Repository(models), "m", path, Declared(), limits=QUICK)
    assert "\n" not in str(error.value)
    assert "onnxruntime_src" not in str(error.value)
    assert not models.exists()
    assert list(scratch.iterdir()) == []
