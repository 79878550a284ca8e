"""Where the rows of a batch meet inside a graph: operators that quantise by the batch, and every step for a dry run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import helper

from service.graph.rewrite import constant, expose_all
from service.graph.walk import attribute, every_node, reads, view

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

Functions = Mapping[tuple[str, str], tuple[str, ...]]
"""Of a file's own functions, by domain and name: the dynamic operators that they hold."""


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
    held = _dynamic_functions(model)
    return tuple(dict.fromkeys(name for node in _before(model, output) for name in _dynamic(node, held)))


def in_training(model: onnx.ModelProto) -> tuple[str, ...]:
    """Operators left in training mode: they use statistics of the batch, or drop units, in place of what was learnt."""
    graph = view(model)
    found = []
    for node in every_node(model.graph):
        switched = node.op_type == "Dropout" and len(node.input) > 2 and graph.proves(node.input[2], _is_on)
        if attribute(node, "training_mode") == 1 or switched:
            found.append(f"{node.op_type} in training mode")
    return tuple(dict.fromkeys(found))


def steps(model: onnx.ModelProto, output: str) -> tuple[Step, ...]:
    """Operators before an output, in an order in which they can run; those inside loops and branches are one step."""
    sized, functions = set(view(model).constants), _dynamic_functions(model)
    counted: dict[str, tuple[str, ...]] = {}
    found = []
    for node in _before(model, output):
        inputs = tuple(name for name in reads(node) if name)
        of_sizes = node.op_type in SIZES or (bool(inputs) and sized.issuperset(inputs)) or node.op_type == "Constant"
        sized |= {name for name in node.output if name and of_sizes}
        is_dynamic = bool(_dynamic(node, functions))
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
            for array in (graph.short(name) for name in step.inputs):
                if array is not None and array.dtype.kind in "iuf":
                    numbers |= {int(v) for v in array.reshape(-1)[:MOST_NUMBERS] if 1 < v < MOST_ROWS}
    return tuple(sorted({n for number in numbers for n in (number, 2 * number + 1)}))[:MOST_NUMBERS]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with its functions written out, so that operators inside them have names of their own."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def exposed(model: onnx.ModelProto, tensors: tuple[str, ...]) -> onnx.ModelProto:
    """A copy of which these tensors are outputs."""
    copy = _copy(model)
    expose_all(copy, tensors)
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


def scales_of_quantisation(model: onnx.ModelProto, output: str) -> frozenset[str]:
    """Tensors from which the scale of a QuantizeLinear before an output is computed."""
    found: set[str] = set()
    for node in reversed(_before(model, output)):
        if not found.isdisjoint(node.output):
            found.update(node.input)
        if node.op_type == QUANTISE:
            found.update(node.input[1:])
    return frozenset(found)


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
            needed.update(reads(node))
            found.append(node)
    return found[::-1]


def _dynamic(node: onnx.NodeProto, functions: Functions) -> tuple[str, ...]:
    """Dynamic operators that a node is, or holds in graphs inside it or in a function of the file's own."""
    inside = list(every_node(onnx.GraphProto(node=[node])))
    own = [name for part in inside for name in functions.get((part.domain, part.op_type), ())]
    return tuple(dict.fromkeys([*(part.op_type for part in inside if part.op_type in DYNAMIC), *own]))


def _dynamic_functions(model: onnx.ModelProto) -> Functions:
    """Dynamic operators of the file's own functions, also through those that they call; functions may share others."""
    callers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for function in model.functions:
        for part in every_node(onnx.GraphProto(node=function.node)):
            callers.setdefault((part.domain, part.op_type), []).append((function.domain, function.name))
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in DYNAMIC:
        pending = [key for key in callers if key[1] == name]
        seen = set(pending)
        while pending:
            further = [caller for caller in dict.fromkeys(callers.get(pending.pop(), ())) if caller not in seen]
            seen.update(further)
            pending += further
            found |= {caller: (*found.get(caller, ()), name) for caller in further}
    return found


def _is_on(value: npt.NDArray[Any]) -> bool:
    return bool(value.any())
