import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import GraphError
from service.graph.inspect import inspect_graph

IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])

Write = Callable[..., Path]


@pytest.fixture
def chain(tmp_path: Path) -> Write:
    """Writes a graph whose operators follow each other from input `x` to output `s`."""

    def write(*nodes: tuple[str, dict[str, Any]], constants: tuple[onnx.TensorProto, ...] = ()) -> Path:
        names = ["x", *(f"t{i}" for i in range(1, len(nodes))), "s"]
        extra = [c.name for c in constants]
        made = []
        for i, (op, attributes) in enumerate(nodes):
            domain = "ai.onnx.ml" if op.endswith(("Classifier", "Normalizer")) else ""
            inputs = [names[i], *(extra if i == 0 else [])]
            label = ["label"] if op.endswith("Classifier") else []
            made.append(helper.make_node(op, inputs, [*label, names[i + 1]], domain=domain, **attributes))
        shape = (TensorProto.FLOAT, [None, 2])
        graph = helper.make_graph(
            made,
            "g",
            [helper.make_tensor_value_info("x", *shape)],
            [helper.make_tensor_value_info("s", *shape)],
            list(constants),
        )
        path = tmp_path / "chain.onnx"
        opsets = [helper.make_opsetid("", 11), helper.make_opsetid("ai.onnx.ml", 3)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    return write


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (None, "logits"),
        ("Softmax", "probabilities"),
        ("LogSoftmax", "log_probabilities"),
        ("Sigmoid", "sigmoid"),
        ("Tanh", None),
        ("Relu", None),
    ],
)
def test_the_last_operator_is_the_evidence(activation: str | None, kind: str | None, linear_graph: Write) -> None:
    (output,) = inspect_graph(linear_graph(*IDENTITY, activation=activation)).outputs
    assert output.kind == kind
    assert output.evidence == f"its last operator is {activation or 'Gemm'}"


@pytest.mark.parametrize("passing", ["Identity", "Flatten", "Squeeze"])
def test_operators_that_change_no_value_are_looked_through(passing: str, chain: Write) -> None:
    (output,) = inspect_graph(chain(("Softmax", {}), (passing, {}), ("Cast", {"to": TensorProto.FLOAT}))).outputs
    assert (output.kind, output.evidence) == ("probabilities", "its last operator is Softmax")


def test_an_output_that_nothing_computes_proves_nothing(chain: Write) -> None:
    (output,) = inspect_graph(chain(("Identity", {}))).outputs
    assert (output.kind, output.evidence) == (None, "no operator computes it")


@pytest.mark.parametrize(
    ("transform", "kind"),
    [("SOFTMAX", "probabilities"), ("LOGISTIC", "sigmoid"), ("NONE", "margins"), (None, "margins"), ("PROBIT", None)],
)
@pytest.mark.parametrize("operator", ["LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"])
def test_a_classifier_s_transform_is_the_evidence(
    operator: str, transform: str | None, kind: str | None, chain: Write
) -> None:
    attributes = {} if transform is None else {"post_transform": transform}
    (output,) = inspect_graph(chain((operator, attributes))).outputs
    assert output.kind == kind
    assert output.evidence == f"its last operator is {operator} with post_transform {transform or 'NONE'}"


@pytest.mark.parametrize(
    ("attributes", "classes"),
    [
        ({"classlabels_strings": ["b", "a"]}, ("b", "a")),
        ({"classlabels_ints": [3, 1, 2]}, ("3", "1", "2")),
        ({}, None),
    ],
)
def test_class_names_are_read_in_the_graph_s_order(
    attributes: dict[str, object], classes: tuple[str, ...] | None, chain: Write
) -> None:
    assert inspect_graph(chain(("LinearClassifier", attributes))).classes == classes


def test_only_floating_point_outputs_may_carry_scores(tmp_path: Path) -> None:
    kinds = {"label": TensorProto.INT64, "name": TensorProto.STRING, "scores": TensorProto.FLOAT16}
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], [name], to=kind) for name, kind in kinds.items()],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info(name, kind, [None, 2]) for name, kind in kinds.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    findings = inspect_graph(tmp_path / "g.onnx")
    assert [output.name for output in findings.outputs] == ["scores"]
    assert findings.labels == ("label", "name")


@pytest.mark.parametrize(("zipmap", "changes"), [(False, 0), (True, 1), ("columns", 1)])
def test_a_scikit_learn_classifier_is_read_with_its_classes(
    zipmap: bool | str,  # noqa: FBT001  # a case, not an interface
    changes: int,
    tmp_path: Path,
) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    fitted = LogisticRegression().fit(rows, np.where(rows[:, 0] > 0, "sick", "fine"))
    onnx.save(to_onnx(fitted, rows[:1], options={"zipmap": zipmap}, target_opset=17), tmp_path / "m.onnx")
    findings = inspect_graph(tmp_path / "m.onnx")
    assert [(output.name, output.kind) for output in findings.outputs] == [("probabilities", "sigmoid")]
    assert len(findings.changes) == changes
    assert findings.classes == ("fine", "sick")


@pytest.fixture
def external(tmp_path: Path) -> Write:
    """Writes a graph that says its weights lie in another file."""

    def write(location: str) -> Path:
        weights = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
        data = weights.raw_data
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
            entry = weights.external_data.add()
            entry.key, entry.value = key, value
        shape = (TensorProto.FLOAT, [None, 2])
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["s"])],
            "g",
            [helper.make_tensor_value_info("x", *shape)],
            [helper.make_tensor_value_info("s", *shape)],
            [weights],
        )
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(data)
        (tmp_path / "outside.bin").write_bytes(data)
        (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
        (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        return folder / "m.onnx"

    return write


def test_external_weights_are_named(external: Write) -> None:
    assert inspect_graph(external("weights.bin")).external_files == ("weights.bin",)


@pytest.mark.parametrize(
    "location", ["../outside.bin", "/etc/passwd", "sub/weights.bin", "lost.bin", "..", "", "w" * 300, "w\0"]
)
def test_external_weights_outside_the_graph_s_folder_are_refused(location: str, external: Write) -> None:
    path = external(location)
    with pytest.raises(GraphError, match="missing, or no regular file") as error:
        inspect_graph(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("location", ["manifest.toml", "calibration.json", "state.npz", "SHA256SUMS", "model.onnx"])
def test_external_weights_named_like_a_part_of_a_bundle_are_refused(location: str, external: Write) -> None:
    path = external(location)
    (path.parent / "weights.bin").rename(path.parent / location)
    with pytest.raises(GraphError, match="named like a part of a bundle"):
        inspect_graph(path)


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch unpickled",)


FOREIGN = {
    "nothing": b"",
    "html": b"<!doctype html><title>404</title>",
    "a pickle": pickle.dumps(Bomb()),
    "random bytes": np.random.default_rng(0).bytes(2000),
    "json": b'{"graph": {}}',
}


@pytest.mark.parametrize("suffix", [".onnx", ".json", ".textproto", ".onnxtxt", ""])
@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_that_is_no_graph_is_refused_whatever_its_suffix(
    data: bytes, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    with pytest.raises(GraphError, match="is no ONNX file") as error:
        inspect_graph(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "unpickled").exists()


def test_half_a_graph_is_refused(linear_graph: Write) -> None:
    path = linear_graph(*IDENTITY)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(GraphError, match="is no ONNX file"):
        inspect_graph(path)


@pytest.mark.parametrize("name", ["nowhere.onnx", "."])
def test_a_file_that_does_not_exist_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="does not exist"):
        inspect_graph(tmp_path / name)
