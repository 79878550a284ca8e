"""Transforms that ONNX Runtime numbers otherwise than ONNX does, written out in standard operators."""

from typing import Any, Final

import onnx

from service.graph.output_evidence import post_transform
from service.graph.rewrite import append, fresh

SPELLED: Final = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def spell_transforms(model: onnx.ModelProto) -> list[str]:
    """Give every TreeEnsemble no transform of its own, and the operator that its transform is by the specification.

    ONNX Runtime 1.31 takes 1 for LOGISTIC and 2 for SOFTMAX, ONNX the other way round.

    Returns
    -------
    list of str
        What was done, in sentences.
    """
    done = []
    for node in [n for n in model.graph.node if n.op_type == "TreeEnsemble" and post_transform(n) in SPELLED]:
        word, scores = post_transform(node), node.output[0]
        (number,) = (a for a in node.attribute if a.name == "post_transform")
        done.append(
            f"TreeEnsemble's post_transform {number.i} is {word}, which an operator {SPELLED[word]} computes now"
        )
        number.i = 0
        node.output[0] = fresh(model, f"{scores}_raw")
        before = len(model.graph.node)
        options: dict[str, Any] = {"axis": -1} if word == "SOFTMAX" else {}
        append(model, SPELLED[word], [node.output[0]], "spelled", **options)
        model.graph.node[-1].output[0] = scores
        move_behind(model, node, before)
    return done


def move_behind(model: onnx.ModelProto, node: onnx.NodeProto, before: int) -> None:
    """Put operators from ``before`` on right behind one: ONNX wants them in the order in which they can run."""
    nodes = list(model.graph.node)
    at = next(i for i, other in enumerate(nodes) if other.output == node.output) + 1
    ordered = [*nodes[:at], *nodes[before:], *nodes[at:before]]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)
