"""Walks over a graph: who computes a tensor, what is constant, where scores come from.

Tested in `tests/graph/test_inspect.py`.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from service.errors import GraphError

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
MOST_STEPS: Final = 5_000_000
"""Of all walks over a graph together: 20,000 operators are walked 250 times, which takes some seconds."""

SMALL: Final = 4096
"""Elements of a constant that is read as a list of numbers."""

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Allowance:
    """Steps that walks over a graph may still take; walks for every output and input of a large graph must end."""

    left: int = MOST_STEPS

    def take(self, steps: int = 1) -> None:
        """Count some steps; GraphError when there are none left."""
        self.left -= steps
        if self.left < 0:
            raise GraphError(
                "the graph has too many operators for its many inputs and outputs to be followed through all of them; "
                "export it with fewer of each"
            )


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
    consumers : dict of str to list of onnx.NodeProto
        Operators that take a tensor, in the file's order.
    allowance : Allowance
        What walks may still cost.
    """

    model: onnx.ModelProto
    producers: dict[str, onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]
    consumers: dict[str, list[onnx.NodeProto]]
    allowance: Allowance = field(default_factory=Allowance)
    _proven: dict[tuple[str, Callable[[Array], bool]], bool] = field(default_factory=dict)

    def proves(self, name: str, check: Callable[[Array], bool]) -> bool:
        """Whether a constant that lies within the file passes a check, which is made once: constants may be large."""
        if (name, check) not in self._proven:
            value = self.constant(name)
            self._proven[name, check] = value is not None and check(value)
        return self._proven[name, check]

    def short(self, name: str) -> Array | None:
        """Value of a constant of few elements that lies within the file; None for any other tensor."""
        tensor = self.constants.get(name)
        return None if tensor is None or math.prod(tensor.dims) > SMALL else self.constant(name)

    def constant(self, name: str) -> Array | None:
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
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            consumers.setdefault(name, []).append(node)
    return View(model, {name: node for node in model.graph.node for name in node.output if name}, constants, consumers)


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


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node takes, those that graphs inside it take from outside among them."""
    yield from node.input
    for found in node.attribute:
        for inner in (*([found.g] if found.HasField("g") else []), *found.graphs):
            own = {name for part in inner.node for name in part.output} | {value.name for value in inner.input}
            own |= {tensor.name for tensor in inner.initializer}
            read = {name for part in inner.node for name in reads(part)} | {value.name for value in inner.output}
            yield from sorted(read - own)


def reached(graph: View, names: Iterable[str], behind: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """Some tensors and all that lie behind them, each once, the nearest first."""
    pending = deque(dict.fromkeys(names))
    seen = set(pending)
    while pending:
        current = pending.popleft()
        yield current
        further = list(behind(current))
        graph.allowance.take(1 + len(further))
        new = [name for name in dict.fromkeys(further) if name not in seen]
        seen.update(new)
        pending += new


def origins(graph: View, name: str) -> list[onnx.NodeProto]:
    """The operators that made a tensor's values, behind those that only move, scale or join them."""
    found: dict[int, onnx.NodeProto] = {}

    def behind(current: str) -> list[str]:
        node = graph.producers.get(current)
        before = [] if node is None else moved_from(graph, node)
        if before is None and node is not None:
            found[id(node)] = node  # the view keeps it
        return before or []

    for _ in reached(graph, [name], behind):
        pass
    return list(found.values())


def moved_from(graph: View, node: onnx.NodeProto) -> list[str] | None:
    """Tensors whose values an operator only moves, scales or joins; None where it makes values of its own."""
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
    name = next((n for n in node.input if n in graph.constants), "")
    return node.op_type in {"Mul", "Div"} and graph.proves(name, _reaches_zero)


def _reaches_zero(value: Array) -> bool:
    return bool(np.any(value <= 0))


def _is_integer_product(graph: View, name: str) -> bool:
    node = graph.producers.get(name)
    while node is not None and node.op_type == "Cast":
        graph.allowance.take()
        node = graph.producers.get(node.input[0])
    return node is not None and node.op_type in INTEGER_PRODUCTS
