"""Walks over a graph: who computes a tensor, what is constant, where scores come from.

Tested in `tests/graph/test_inspect.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

PASSING: Final = frozenset(
    {
        *("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Gather"),
        *("ArrayFeatureExtractor", "QuantizeLinear", "DequantizeLinear", "ZipMap"),
    }
)
JOINING: Final = frozenset({"Concat", "SequenceConstruct", "ConcatFromSequence"})
SCALING: Final = frozenset({"Mul", "Div", "Add", "Sub"})
CONSTANTS: Final = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_string": object,
    "value_strings": object,
}
"""Attributes of Constant, and what they hold."""

INTEGER_PRODUCTS: Final = frozenset({"MatMulInteger", "ConvInteger"})


@dataclass(frozen=True, slots=True)
class View:
    """A graph, indexed.

    Attributes
    ----------
    model : onnx.ModelProto
    producers : dict of str to onnx.NodeProto
        By the tensor that they compute.
    constants : dict of str to onnx.TensorProto
        Initialisers and values of Constant nodes.
    """

    model: onnx.ModelProto
    producers: dict[str, onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Value of a constant that lies within the file; None for any other tensor."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)


def view(model: onnx.ModelProto) -> View:
    """Index a graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and (value := _value(node)) is not None:
            constants[node.output[0]] = value
    return View(model, {name: node for node in model.graph.node for name in node.output if name}, constants)


def _value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant holds, in whichever of its attributes; None for a sparse tensor."""
    for found in node.attribute:
        held = onnx.helper.get_attribute_value(found)
        if isinstance(held, onnx.TensorProto):
            return held
        if dtype := CONSTANTS.get(found.name):
            return numpy_helper.from_array(np.array(held, dtype=dtype), node.output[0])
    return None


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """Value of an attribute, or None."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def text_of(node: onnx.NodeProto, name: str, default: str) -> str:
    """Value of a string attribute."""
    value = attribute(node, name)
    return default if value is None else str(value.decode())


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for found in node.attribute:
            for inner in (*([found.g] if found.HasField("g") else []), *found.graphs):
                yield from every_node(inner)


def origins(graph: View, name: str) -> list[onnx.NodeProto]:
    """The operators that made a tensor's values, behind those that only move, scale or join them."""
    found: list[onnx.NodeProto] = []
    pending, seen = [name], set()
    while pending:
        current = pending.pop(0)
        node = graph.producers.get(current)
        if node is None or current in seen:
            continue
        seen.add(current)
        behind = _behind(graph, node)
        if behind is None:
            found += [] if any(node.output == other.output for other in found) else [node]
        else:
            pending += behind
    return found


def _behind(graph: View, node: onnx.NodeProto) -> list[str] | None:
    if node.op_type in PASSING:
        return [node.input[0]]
    if node.op_type in JOINING:
        return list(node.input)
    if node.op_type in SCALING:
        moving = [name for name in node.input if name not in graph.constants]
        if len(moving) == 1:
            return None if _reverses(graph, node) else moving
        if node.op_type == "Add":
            return moving
        return [node.input[0]] if _is_integer_product(graph, node.input[0]) else None
    return None


def _reverses(graph: View, node: onnx.NodeProto) -> bool:
    """Whether an operator with one constant reverses the order of values: 1 - x, x * -1, 1 / x."""
    if node.op_type in {"Sub", "Div"} and node.input[0] in graph.constants:
        return True
    value = next((v for n in node.input if (v := graph.constant(n)) is not None), None)
    return node.op_type in {"Mul", "Div"} and value is not None and bool(np.any(value <= 0))


def _is_integer_product(graph: View, name: str) -> bool:
    node = graph.producers.get(name)
    while node is not None and node.op_type == "Cast":
        node = graph.producers.get(node.input[0])
    return node is not None and node.op_type in INTEGER_PRODUCTS
