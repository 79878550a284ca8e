"""`TreeEnsemble` (ai.onnx.ml 5) means what ONNX says of it, also where ONNX Runtime numbers transforms otherwise."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from service.errors import GraphError
from service.graph.specification import spell_transforms
from service.importer.analysis import analyse
from service.importer.declared import Declared
from service.importer.sandbox import SandboxLimits
from tests.graph.mutants import tree_ensemble

ROWS = np.array([[0, 0, 0, 0], [1, 0, 0, 0]], np.float32)
SUMS = np.array([[1.0, 0.0], [0.0, 2.0]])


def softmax(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(z)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("number", "kind", "task", "expected"),
    [
        (0, "logits", "multiclass", SUMS),
        (1, "probabilities", "multiclass", softmax(SUMS)),
        (2, "sigmoid_probabilities", "multilabel", 1 / (1 + np.exp(-SUMS))),
    ],
)
def test_a_number_is_the_transform_that_onnx_gives_it(
    number: int, kind: str, task: str, expected: npt.NDArray[np.float64], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tree_ensemble(number), path)
    found = analyse(path, Declared(), SandboxLimits())
    conclusions = {c.subject: str(c.value) for c in found.conclusions}
    assert (conclusions["output_kind"], conclusions["task"]) == (kind, task)
    session = ort.InferenceSession(found.graph or path.read_bytes())
    np.testing.assert_allclose(session.run([conclusions["output"]], {"X": ROWS})[0], expected, atol=1e-6)


def test_the_written_out_transform_is_evidence(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tree_ensemble(1), path)
    (conclusions,) = (c for c in analyse(path, Declared(), SandboxLimits()).conclusions if c.subject == "graph")
    assert "post_transform 1 is SOFTMAX" in conclusions.evidence


@pytest.mark.parametrize("number", [4, 7, -1])
def test_a_transform_that_gives_no_scores_is_refused(number: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tree_ensemble(number), path)
    with pytest.raises(GraphError):
        analyse(path, Declared(), SandboxLimits())


def test_one_target_is_a_regressor(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tree_ensemble(0, targets=1), path)
    with pytest.raises(GraphError, match="comes from a regressor"):
        analyse(path, Declared(), SandboxLimits())


def test_a_graph_without_such_trees_is_left_alone() -> None:
    assert spell_transforms(tree_ensemble(0)) == []


def test_trees_of_one_target_have_no_softmax(tmp_path: Path) -> None:
    made = tree_ensemble(1)
    (trees,) = made.graph.node
    for found in trees.attribute:
        if found.name == "n_targets":
            found.i = 1
        if found.name == "leaf_targetids":
            found.ints[:] = [0] * len(found.ints)
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="'p' is 1 for every row: a softmax over one column"):
        analyse(tmp_path / "m.onnx", Declared(), SandboxLimits())
