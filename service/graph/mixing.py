"""Where the rows of a batch meet inside a graph: operators that quantise by the batch, and every step for a dry run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from service.graph.rewrite import constant, expose
from service.graph.walk import attribute, every_node, view

DYNAMIC: Final = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
"""Operators that take the scale of their input from all of it; others (MatMulIntegerToFloat, QAttention, QLinear…) are
given a scale, which is dynamic where one of these made it."""

FIXED_SCALE: Final = 0.05
FIXED_ZERO: Final = 128
QUANTISE: Final = "QuantizeLinear"
SIZES: Final = frozenset({"Shape", "Size"})
RAGGED: Final = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression"})
"""Operators whose output may be as long as their input's values demand."""

SHAPING: Final = frozenset({"Reshape", "Expand", "Slice", "Tile", "Squeeze", "Unsqueeze", "Gather", "Split", "Pad"})
"""Operators that take sizes as what shapes their output, not as numbers."""

TURNING: Final = frozenset(
    {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Min", "Max", "Clip", "Mod", "Sub", "Div", "Mul"}
)
"""Operators behind which a number of rows may count beyond a constant only."""

MOST_ROWS: Final = 4096
MOST_NUMBERS: Final = 8

Functions = dict[tuple[str, str], onnx.FunctionProto]


@dataclass(frozen=True, slots=True)
class Step:
    """An operator on the way to an output.

    Attributes
    ----------
    operator : str
    inputs, outputs : tuple of str
    of_sizes : bool
        Whether it computes with shapes and constants alone.
    is_dynamic : bool
        Whether it quantises by the range of its batch, or holds an operator that does.
    counted : tuple of str
        Operators that made sizes which it computes with.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    of_sizes: bool
    is_dynamic: bool
    counted: tuple[str, ...] = ()


def dynamic_operators(model: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Operators before an output that scale whatever batch they are given by its own range, named once each."""
    functions = _functions(model)
    used = [name for node in _before(model, output) for name in _operators(node, functions)]
    return tuple(dict.fromkeys(name for name in used if name in DYNAMIC))


def in_training(model: onnx.ModelProto) -> tuple[str, ...]:
    """Operators left in training mode: they use statistics of the batch, or drop units, in place of what was learnt."""
    graph = view(model)
    found = []
    for node in every_node(model.graph):
        switch = graph.constant(node.input[2]) if node.op_type == "Dropout" and len(node.input) > 2 else None
        if attribute(node, "training_mode") == 1 or (switch is not None and bool(switch.any())):
            found.append(f"{node.op_type} in training mode")
    return tuple(dict.fromkeys(found))


def steps(model: onnx.ModelProto, output: str) -> tuple[Step, ...]:
    """Operators before an output, in an order in which they can run; those inside loops and branches are one step."""
    sized, functions = set(view(model).constants), _functions(model)
    counted: dict[str, tuple[str, ...]] = {}
    found = []
    for node in _before(model, output):
        inputs = tuple(name for name in _reads(node) if name)
        of_sizes = node.op_type in SIZES or (bool(inputs) and sized.issuperset(inputs)) or node.op_type == "Constant"
        sized |= {name for name in node.output if name and of_sizes}
        is_dynamic = not set(DYNAMIC).isdisjoint(_operators(node, functions))
        before = tuple(dict.fromkeys(name for i in inputs for name in counted.get(i, ())))
        passed = before if of_sizes else tuple(name for name in before if name in RAGGED)
        own = (node.op_type,) if node.op_type in SIZES | RAGGED else ()
        counted |= dict.fromkeys(node.output, (*passed, *own))
        sizes = () if of_sizes or node.op_type in SHAPING else tuple(n for n in before if not SIZES.isdisjoint(before))
        found.append(Step(node.op_type, inputs, tuple(filter(None, node.output)), of_sizes, is_dynamic, sizes))
    return tuple(found)


def batch_sizes(model: onnx.ModelProto, output: str) -> tuple[int, ...]:
    """Numbers of rows that a graph may treat differently: those that it computes with, and well beyond."""
    graph, numbers = view(model), set[int]()
    for step in steps(model, output):
        if step.of_sizes and step.operator in TURNING:
            for array in (graph.constant(name) for name in step.inputs):
                if array is not None and array.dtype.kind in "iuf":
                    numbers |= {int(v) for v in array.reshape(-1)[:MOST_NUMBERS] if 1 < v < MOST_ROWS}
    return tuple(sorted({n for number in numbers for n in (number, 2 * number + 1)}))[:MOST_NUMBERS]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with its functions written out, so that operators inside them have names of their own."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def exposed(model: onnx.ModelProto, tensors: tuple[str, ...]) -> onnx.ModelProto:
    """A copy of which these tensors are outputs."""
    copy = _copy(model)
    for tensor in tensors:
        expose(copy, tensor)
    return copy


def at_a_fixed_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose dynamic quantisation has one scale for all batches, so that other mixing of rows shows by itself."""
    copy = _copy(model)
    scale = constant(copy, np.array(FIXED_SCALE, np.float32), "fixed_scale")
    zero = constant(copy, np.array(FIXED_ZERO, np.uint8), "fixed_zero")
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        nodes += _at(scale, zero, node) if node.op_type == DYNAMIC[0] else [node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def scales_quantisation(model: onnx.ModelProto, output: str, tensor: str) -> bool:
    """Whether a tensor is what the scale of a QuantizeLinear before an output is computed from."""
    tainted = {tensor}
    for node in _before(model, output):
        if node.op_type == QUANTISE and tainted & set(node.input[1:]):
            return True
        if tainted & set(node.input):
            tainted |= set(node.output)
    return False


def _at(scale: str, zero: str, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    made = [helper.make_node(QUANTISE, [node.input[0], scale, zero], [node.output[0]])]
    for name, value in zip(node.output[1:], (scale, zero), strict=False):
        made += [helper.make_node("Identity", [value], [name])] if name else []
    return made


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _before(model: onnx.ModelProto, output: str) -> list[onnx.NodeProto]:
    """Nodes that an output depends on, in the file's order, which is one in which they can run."""
    needed, found = {output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(_reads(node))
            found.append(node)
    return found[::-1]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node takes, those that graphs inside it take from outside among them."""
    yield from node.input
    for found in node.attribute:
        for inner in (*([found.g] if found.HasField("g") else []), *found.graphs):
            own = {name for part in inner.node for name in part.output} | {value.name for value in inner.input}
            own |= {tensor.name for tensor in inner.initializer}
            read = {name for part in inner.node for name in _reads(part)} | {value.name for value in inner.output}
            yield from sorted(read - own)


def _functions(model: onnx.ModelProto) -> Functions:
    return {(function.domain, function.name): function for function in model.functions}


def _operators(node: onnx.NodeProto, functions: Functions) -> Iterator[str]:
    yield node.op_type
    own = functions.get((node.domain, node.op_type))
    for part in () if own is None else own.node:
        yield from _operators(part, functions)
    for found in node.attribute:
        for inner in (*([found.g] if found.HasField("g") else []), *found.graphs):
            for part in inner.node:
                yield from _operators(part, functions)
