"""Logits and features that real exports keep to themselves become outputs, and the probabilities stay what they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.errors import GraphError
from service.importer.analysis import Analysis, analyse
from service.importer.declared import Declared
from service.importer.manifest_text import manifest_text
from service.importer.sandbox import SandboxLimits
from tests.conformance.case import Case
from tests.conformance.exporters import export
from tests.conformance.test_import import answer

Exported = Callable[[str], Case]

LOGITS = {
    "sklearn-zipmap": ("logits", "before its post_transform SOFTMAX"),
    "sklearn-zipmap-binary": ("logits", "before post_transform LOGISTIC, made an output: one logit"),
    "sklearn-columns": ("logits", "before its post_transform SOFTMAX"),
    "sklearn-double": ("logits", "the input of Softmax"),
    "sklearn-text": ("logits", "one logit"),
    "xgboost-binary": ("logits", "one logit"),
    "xgboost-multiclass": ("logits", "before its post_transform SOFTMAX"),
    "lightgbm-zipmap": ("logits", "before its post_transform SOFTMAX"),
    "lightgbm-binary": ("logits", "one logit"),
    "catboost-binary": ("logits", "one logit"),
    "catboost-strings": ("logits", "before its post_transform SOFTMAX"),
    "torch-softmax": ("logits", "the input of Softmax"),
    "torch-log-softmax": ("logits", "the input of LogSoftmax"),
    "torch-one-probability": ("logits", "the input of Sigmoid"),
    "torch-multilabel": ("sigmoid_logits", "the input of Sigmoid"),
    "old-opset": ("logits", "the input of Softmax"),
    "keras-softmax": ("logits", "the input of Softmax"),
    "keras-sigmoid": ("logits", "the input of Sigmoid"),
}


def tapped(case: Case, **flags: Any) -> Analysis:
    """What an import with more flags finds out."""
    return analyse(case.path, replace(Declared(**case.flags), **flags), SandboxLimits())


@pytest.mark.parametrize("name", LOGITS)
def test_logits_are_exposed_and_mean_what_the_probabilities_meant(name: str, exported: Exported) -> None:
    case = exported(name)
    found = tapped(case, expose_logits=True)
    concluded = {c.subject: c for c in found.conclusions}
    kind, evidence = LOGITS[name]
    assert concluded["output_kind"].value == kind
    assert evidence in concluded["output_kind"].evidence
    assert concluded["classes"].value == case.classes
    if kind == "logits":
        np.testing.assert_allclose(answer(found, case), case.expected, atol=case.tolerance)


@pytest.mark.parametrize("name", ["sklearn-zipmap-binary", "xgboost-binary", "lightgbm-binary", "catboost-binary"])
def test_the_logit_of_two_classes_is_one_number_not_a_number_and_its_negative(name: str, exported: Exported) -> None:
    """A softmax over (-s, s) is sigmoid(2 s): wrong by up to 0.15."""
    found = tapped(exported(name), expose_logits=True)
    assert found.graph is not None
    (output,) = (c.value for c in found.conclusions if c.subject == "output")
    (node,) = (n for n in onnx.load_from_string(found.graph).graph.node if output in n.output)
    assert node.op_type == "Gather"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sklearn-forest", "comes from TreeEnsembleClassifier, behind which there are no logits"),
        ("sklearn-raw-scores", "comes from LinearClassifier, behind which there are no logits"),
        ("torch-script", "comes from Gemm, behind which there are no logits"),
        ("sklearn-multi-output", "comes from 3 operators, not from one"),
    ],
)
def test_where_there_are_no_logits_to_expose_the_reason_is_given(name: str, reason: str, exported: Exported) -> None:
    with pytest.raises(GraphError, match=rf"--expose-logits: .* {reason}"):
        tapped(exported(name), expose_logits=True)


def test_sigmoids_that_were_normalised_have_no_logits() -> None:
    from onnxruntime.datasets import get_example

    path = get_example("logreg_iris.onnx")
    with pytest.raises(GraphError, match=r"sigmoids that were normalised, of which no softmax makes the same"):
        analyse(Path(path), Declared(features=("a", "b", "c", "d"), expose_logits=True), SandboxLimits())


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("torch-softmax", 8),
        ("torch-script", 8),
        ("keras-softmax", 6),
        ("torch-heads", 8),
        ("sklearn-mlp-multilabel", 8),
    ],
)
def test_the_penultimate_tensor_is_found_and_exposed(name: str, width: int, exported: Exported) -> None:
    import onnxruntime as ort

    case = exported(name)
    found = tapped(case, expose_features="auto")
    assert found.graph is not None
    (features,) = (c for c in found.conclusions if c.subject == "features")
    session = ort.InferenceSession(found.graph)
    rows = np.array(case.instances, dtype=np.float32)
    (answered,) = session.run([str(features.value)], {session.get_inputs()[0].name: rows})
    assert answered.shape == (len(rows), width)
    assert f'[ood] space = "{features.value}"' in manifest_text("m", found)


def test_a_tensor_can_be_named_and_one_that_is_not_there_is_answered_with_those_that_are(exported: Exported) -> None:
    case = exported("torch-softmax")
    named = [c.value for c in tapped(case, expose_features="/0/Gemm_output_0").conclusions if c.subject == "features"]
    assert named == ["/0/Gemm_output_0"]
    with pytest.raises(GraphError, match=r"computes no tensor 'penultimate' .*/2/Gemm_output_0"):
        tapped(case, expose_features="penultimate")


@pytest.mark.parametrize("name", ["sklearn-tensor", "sklearn-forest"])
def test_a_graph_without_a_penultimate_tensor_says_what_to_do(name: str, exported: Exported) -> None:
    with pytest.raises(GraphError, match=r"--expose-features auto: no Gemm or MatMul .* name the tensor"):
        tapped(exported(name), expose_features="auto")


def test_logits_and_features_can_be_exposed_together(exported: Exported) -> None:
    found = tapped(exported("torch-softmax"), expose_logits=True, expose_features="auto")
    concluded = {c.subject: c.value for c in found.conclusions}
    assert (concluded["output"], concluded["features"]) == ("/2/Gemm_output_0", "/1/Relu_output_0")


def test_a_tap_that_does_not_give_the_same_probabilities_fails_the_import(tmp_path: Path) -> None:
    case = export("torch-softmax", tmp_path)
    model = onnx.load(case.path)
    model.graph.node[-1].output[0] = "p"
    half = onnx.numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half")
    third = onnx.numpy_helper.from_array(np.array(1 / 6, dtype=np.float32), "sixth")
    model.graph.initializer.extend([half, third])  # half the softmax, half the uniform
    model.graph.node.append(onnx.helper.make_node("Mul", ["p", "half"], ["q"]))
    model.graph.node.append(onnx.helper.make_node("Add", ["q", "sixth"], ["8"]))
    onnx.save(model, case.path)
    assert [c.value for c in analyse(case.path, Declared(), SandboxLimits()).conclusions][1] == "probabilities"
    with pytest.raises(GraphError, match=r"the probabilities of '8' cannot be made from '/2/Gemm_output_0'"):
        tapped(case, expose_logits=True)
