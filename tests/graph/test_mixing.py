"""Steps before an output, operators that quantise by the batch, and copies that leave the graph as it was."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.graph.mixing import (
    at_a_fixed_scale,
    dynamic_operators,
    exposed,
    in_training,
    scales_of_quantisation,
    steps,
)

SHAPE = (TensorProto.FLOAT, [None, 2])


def model(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    inputs, outputs = ([helper.make_tensor_value_info(name, *SHAPE)] for name in ("x", "s"))
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


QUANTISED = model(
    node("DynamicQuantizeLinear", "x", "q k z"), node("DequantizeLinear", "q k z", "s"), node("Relu", "x", "unused")
)


def test_steps_are_those_that_the_output_depends_on() -> None:
    graph = model(
        node("Shape", "x", "n"),
        node("Cast", "n", "f", to=TensorProto.FLOAT),
        node("Relu", "x", "r"),
        node("Abs", "x", "s"),
    )
    assert [step.operator for step in steps(graph, "s")] == ["Abs"]
    assert [(step.operator, step.of_sizes) for step in steps(graph, "f")] == [("Shape", True), ("Cast", True)]


def test_tensors_read_inside_a_branch_are_steps_too() -> None:
    inner = helper.make_graph(
        [node("DynamicQuantizeLinear", "hidden", "q k z"), node("DequantizeLinear", "q k z", "out")],
        "then",
        [],
        [helper.make_tensor_value_info("out", *SHAPE)],
    )
    graph = model(
        node("Relu", "x", "hidden"),
        helper.make_node("If", ["yes"], ["s"], then_branch=inner, else_branch=inner),
        constants=(numpy_helper.from_array(np.array(True), "yes"),),
    )
    assert [(step.operator, step.is_dynamic) for step in steps(graph, "s")] == [("Relu", False), ("If", True)]
    assert dynamic_operators(graph, "s") == ("DynamicQuantizeLinear",)


def test_only_what_the_output_depends_on_is_dynamic() -> None:
    assert dynamic_operators(QUANTISED, "s") == ("DynamicQuantizeLinear",)
    assert dynamic_operators(QUANTISED, "unused") == ()


def test_a_fixed_scale_leaves_the_graph_itself_alone() -> None:
    before = QUANTISED.SerializeToString()
    fixed = at_a_fixed_scale(QUANTISED)
    onnx.checker.check_model(fixed)
    assert dynamic_operators(fixed, "s") == ()
    assert [output.name for output in exposed(QUANTISED, ("q", "s")).graph.output] == ["s", "q"]
    assert QUANTISED.SerializeToString() == before


def test_a_computed_scale_is_traced_to_what_it_is_computed_from() -> None:
    graph = model(
        node("ReduceMax", "x", "m", keepdims=0),
        node("Mul", "m m", "k"),
        node("QuantizeLinear", "x k", "q"),
        node("DequantizeLinear", "q k", "s"),
    )
    assert "m" in scales_of_quantisation(graph, "s")
    assert "q" not in scales_of_quantisation(graph, "s")


@pytest.mark.parametrize("training", [True, False])
def test_a_dropout_in_training_mode_is_named(training: bool) -> None:  # noqa: FBT001  # the attribute's own value
    switch = numpy_helper.from_array(np.array(training), "t")
    graph = model(
        node("Dropout", "x r t", "s"), constants=(numpy_helper.from_array(np.array(0.5, dtype=np.float32), "r"), switch)
    )
    assert in_training(graph) == (("Dropout in training mode",) if training else ())
