"""Synthetic rows that all give one answer are noted, not refused; the graph's own label is compared with the scores."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from service.errors import GraphError
from tests.importer.test_analysis import Learn, learn
from tests.small_graphs import graph, node, value, weights

__all__ = ["learn"]


def test_a_saturated_answer_is_noted_and_not_refused(learn: Learn) -> None:
    steep = weights("w", np.array([[900.0, -900.0], [900.0, -900.0]]))
    _, concluded = learn(graph(node("MatMul", "x w", "z"), node("Softmax", "z"), constants=(steep,)))
    assert concluded["output_kind"].value == "probabilities"
    assert concluded["dry run"].value == "one answer"
    assert "usual where inputs are not scaled" in concluded["dry run"].evidence


def test_one_column_picked_from_a_softmax_is_no_constant(learn: Learn) -> None:
    picked = node("Gather", "p one", "s", axis=1)
    constants = (weights("one", np.array([1])), weights("w", np.array([[-900.0, 900.0], [-900.0, 900.0]])))
    outputs = (value("s", [None, 1]),)
    _, concluded = learn(
        graph(node("MatMul", "x w", "z"), node("Softmax", "z", "p"), picked, constants=constants, outputs=outputs)
    )
    assert (concluded["output_kind"].value, concluded["dry run"].value) == ("probabilities", "one answer")


def test_two_columns_made_of_a_softmax_over_one_are_refused(learn: Learn) -> None:
    nodes = (
        node("MatMul", "x w", "z"),
        node("Softmax", "z", "p"),
        node("Sub", "all p", "q"),
        node("Concat", "q p", axis=1),
    )
    with pytest.raises(GraphError, match=r"'s' is the same for every row: .* a softmax over one"):
        learn(graph(*nodes, constants=(weights("w", [[1.0], [-1.0]]), weights("all", [1.0]))))


def test_a_softmax_of_an_older_opset_runs_over_all_axes_that_follow(learn: Learn) -> None:
    steep = weights("w", np.array([[900.0, -900.0], [900.0, -900.0]]))
    nodes = (
        node("MatMul", "x w", "z"),
        node("Unsqueeze", "z", "u", axes=[2]),
        node("Softmax", "u", "p", axis=1),
        node("Squeeze", "p", axes=[2]),
    )
    _, concluded = learn(graph(*nodes, constants=(steep,), opset=11))
    assert concluded["dry run"].value == "one answer"


SETTLED = {
    "a choice": node("Where", "yes other x", "c"),
    "a power of zero": node("Pow", "x zero", "c"),
    "a range of one number": node("Clip", "x zero zero", "c"),
}


@pytest.mark.parametrize("name", SETTLED)
def test_what_constants_settle_depends_on_no_row(name: str, learn: Learn) -> None:
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    constants = (yes, weights("other", [[1.0, 2.0]]), weights("zero", np.float32(0.0)))
    with pytest.raises(GraphError, match="'s' does not depend on the input"):
        learn(graph(SETTLED[name], node("Softmax", "c"), constants=constants))


IN_STEPS = {
    "shares": (node("Exp", "z", "e"), node("ReduceSum", "e axis", "t"), node("Div", "e t")),
    "logarithms": (node("ReduceLogSumExp", "z axis", "t"), node("Sub", "z t")),
}


@pytest.mark.parametrize("name", IN_STEPS)
def test_a_softmax_in_steps_over_one_column_is_refused_too(name: str, learn: Learn) -> None:
    constants = (weights("w", [[1.0], [-1.0]]), weights("axis", np.array([1])))
    build = graph(
        node("MatMul", "x w", "z"), *IN_STEPS[name], constants=constants, outputs=(value("s", [None, 1]),), opset=18
    )
    with pytest.raises(GraphError, match=r"'s' is [01] for every row: a softmax over one column"):
        learn(build)


@pytest.mark.parametrize(("threshold", "verdict"), [(0.5, "agrees"), (0.9, "differs")])
def test_the_graph_s_own_label_is_compared_with_one_column(threshold: float, verdict: str, learn: Learn) -> None:
    nodes: list[Any] = [
        node("MatMul", "x w", "z"),
        node("Sigmoid", "z"),
        node("Greater", "s half", "b"),
        node("Cast", "b", "label", to=TensorProto.INT64),
    ]
    constants = (weights("w", [[1.0], [-1.0]]), weights("half", [threshold]))
    outputs = (value("label", [None, 1], TensorProto.INT64), value("s", [None, 1]))
    _, concluded = learn(graph(*nodes, constants=constants, outputs=outputs))
    assert concluded["label"].value == verdict


def test_a_label_that_is_a_floating_point_number_is_a_label(learn: Learn) -> None:
    nodes = (
        node("Softmax", "x", "s"),
        node("ArgMax", "s", "i", axis=1, keepdims=0),
        node("Cast", "i", "label", to=TensorProto.FLOAT),
    )
    _, concluded = learn(graph(*nodes, outputs=(value("label", [None]), value("s", [None, 2]))))
    assert (concluded["output"].value, concluded["label"].value) == ("s", "agrees")
