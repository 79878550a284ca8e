"""Taps: inner tensors made outputs, logits before their softmax or features before the last layer.

Tested in `tests/conformance/test_tap.py`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx

from service.errors import GraphError
from service.graph.output_evidence import CLASSIFIERS, post_transform
from service.graph.rewrite import append, constant, expose, fresh
from service.graph.specification import move_behind
from service.graph.walk import View, attribute, origins, view

WEIGHTED: Final = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "LinearClassifier"})


@dataclass(frozen=True, slots=True)
class Tapped:
    """Logits that became an output.

    Attributes
    ----------
    output : str
    link : str
        What makes probabilities of them again: `softmax` or `sigmoid`.
    evidence : str
    """

    output: str
    link: str
    evidence: str


def expose_logits(model: onnx.ModelProto, output: str) -> Tapped:
    """Make the input of the last softmax or sigmoid an output; the probabilities stay what they are.

    Raises
    ------
    GraphError
        If the scores come from no softmax and no sigmoid.
    """
    node = _only_origin(view(model), output, "--expose-logits")
    if node.op_type == "Normalizer":
        node = _only_origin(view(model), node.input[0], "--expose-logits")
        if node.op_type in CLASSIFIERS and post_transform(node) == "LOGISTIC" and not _is_binary(node):
            raise GraphError(
                f"--expose-logits: {output!r} is sigmoids that were normalised, of which no softmax makes the same; "
                "leave the flag out: calibration works on the logarithms of its probabilities"
            )
    if node.op_type in {"Softmax", "LogSoftmax", "Sigmoid"}:
        link = "sigmoid" if node.op_type == "Sigmoid" else "softmax"
        return Tapped(expose(model, node.input[0]), link, f"the input of {node.op_type}, made an output")
    if node.op_type in {"LinearClassifier", "TreeEnsembleClassifier"} and post_transform(node) in {
        "SOFTMAX",
        "LOGISTIC",
    }:
        return _untransformed(model, node)
    raise GraphError(
        f"--expose-logits: {output!r} comes from {node.op_type}, behind which there are no logits; leave the flag out"
    )


def expose_features(model: onnx.ModelProto, output: str, name: str) -> str:
    """Make a tensor an output that feature scores can look at; `auto` is the input of the last layer with weights.

    Raises
    ------
    GraphError
        If there is no such tensor.
    """
    graph = view(model)
    if name == "auto":
        return expose(model, _penultimate(graph, output))
    if name not in graph.producers:
        some = ", ".join([n for n in graph.producers if n not in graph.constants][-5:])
        raise GraphError(f"--expose-features: the graph computes no tensor {name!r} (the last ones are {some})")
    return expose(model, name)


def _penultimate(graph: View, output: str) -> str:
    names = [output]
    for _ in range(len(graph.model.graph.node)):
        node = next(iter(origins(graph, names[0])), None)
        if node is None:
            break
        if node.op_type in WEIGHTED:
            moving: str = next(n for n in node.input if n not in graph.constants)
            if moving in graph.producers:
                return moving
            break
        names = [n for n in node.input if n not in graph.constants]
        if not names:
            break
    raise GraphError(
        "--expose-features auto: no Gemm or MatMul with computed inputs lies before the scores; "
        "name the tensor: --expose-features NAME, or leave the flag out: feature scores then look at the inputs"
    )


def _only_origin(graph: View, output: str, flag: str) -> onnx.NodeProto:
    found = origins(graph, output)
    if len(found) != 1:
        raise GraphError(f"{flag}: {output!r} comes from {len(found)} operators, not from one; leave the flag out")
    return found[0]


def _is_binary(node: onnx.NodeProto) -> bool:
    labels = attribute(node, "classlabels_strings") or attribute(node, "classlabels_int64s")
    return len(labels or attribute(node, "classlabels_ints") or ()) == 2


def _untransformed(model: onnx.ModelProto, node: onnx.NodeProto) -> Tapped:
    """Take a classifier's transform off, and put operators that do the same behind it."""
    old = post_transform(node)
    scores = node.output[1]
    raw = fresh(model, f"{scores}_raw")
    node.output[1] = raw
    (transform,) = (a for a in node.attribute if a.name == "post_transform")
    transform.s = b"NONE"
    before = len(model.graph.node)
    tapped = _softmaxed(model, raw, scores) if old == "SOFTMAX" else _squashed(model, node, raw, scores)
    move_behind(model, node, before)
    expose(model, tapped.output)
    return tapped


def _softmaxed(model: onnx.ModelProto, raw: str, scores: str) -> Tapped:
    append(model, "Softmax", [raw], "again", axis=1)
    model.graph.node[-1].output[0] = scores
    return Tapped(raw, "softmax", "the classifier's scores before its post_transform SOFTMAX, made an output")


def _squashed(model: onnx.ModelProto, node: onnx.NodeProto, raw: str, scores: str) -> Tapped:
    if not _is_binary(node):
        append(model, "Sigmoid", [raw], "again")
        model.graph.node[-1].output[0] = scores
        return Tapped(raw, "sigmoid", "the classifier's scores before its post_transform LOGISTIC, made an output")
    # Without the transform the two columns are (-s, s), or (1 - s, s) from trees. Either way a softmax over them is
    # wrong; s alone is the log-odds.
    which = constant(model, np.array([1], dtype=np.int64), "second_class")
    one = constant(model, np.array([1.0], dtype=np.float32), "one")
    logit = append(model, "Gather", [raw, which], f"{raw}_logit", axis=1)
    yes = append(model, "Sigmoid", [logit], f"{raw}_yes")
    no = append(model, "Sub", [one, yes], f"{raw}_no")
    append(model, "Concat", [no, yes], "again", axis=1)
    model.graph.node[-1].output[0] = scores
    return Tapped(logit, "sigmoid", "the second class' score before post_transform LOGISTIC, made an output: one logit")
