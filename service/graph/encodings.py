"""Operators that restrict an input's columns: tables that they index, categories, means and scales.

Tested in `tests/importer/test_column_domains.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from service.graph.rewrite import append, expose, save
from service.graph.walk import View, attribute, view

Category = str | int
MOVING: Final = frozenset(
    {
        *("Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split"),
        *("Gather", "GatherElements", "GatherND", "ArrayFeatureExtractor", "Concat", "Expand", "Tile", "Dropout"),
        *("FeatureVectorizer", "Shape", "Size", "Constant", "ConstantOfShape", "Range", "Pad"),
    }
)
CELLWISE: Final = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Mod", "Clip", "Min", "Max", "Where", "Less", "LessOrEqual", "Greater"),
        *("GreaterOrEqual", "Equal", "And", "Or", "Not", "Xor", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round"),
        *("Relu", "IsNaN", "Imputer", "LabelEncoder", "CategoryMapper", "ScatterND", "ScatterElements"),
    }
)
TABLES: Final = frozenset({"Gather", "GatherElements", "GatherND", "ArrayFeatureExtractor"})
MOST_CONSTANTS: Final = 4096


@dataclass(frozen=True, slots=True)
class Lookup:
    """A tensor of indices, and the table that they point into.

    Attributes
    ----------
    indices : str
    table : str
        Lookups that share it have its name in common.
    sizes : tuple of int
        Rows of the table; of GatherND one for each position of the indices' last axis.
    operator : str
    inner : int
        How many other lookups lie before it.
    numbers : tuple of int
        Whole numbers that are constant in what computes the indices.
    """

    indices: str
    table: str
    sizes: tuple[int, ...]
    operator: str
    inner: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Categories of a tensor; ``closed``: the operator fails on any other."""

    tensor: str
    categories: tuple[Category, ...]
    closed: bool
    operator: str

    @property
    def of_text(self) -> bool:
        """Whether the categories are text; whole numbers otherwise."""
        return isinstance(self.categories[0], str)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a tensor's values are brought to zero and one by, in its last axis' order: centres and spreads."""

    tensor: str
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    operator: str


@dataclass(frozen=True, slots=True)
class Encodings:
    """All of a graph's."""

    lookups: tuple[Lookup, ...]
    encoders: tuple[Encoder, ...]
    scalings: tuple[Scaling, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Tensors that encoders and scalings read."""
        return tuple(dict.fromkeys([*(e.tensor for e in self.encoders), *(s.tensor for s in self.scalings)]))


def find_encodings(model: onnx.ModelProto) -> Encodings:
    """Find what reads the inputs, as they are or behind arithmetic cell by cell."""
    graph = view(model)
    inputs = frozenset(value.name for value in model.graph.input) - graph.constants.keys()
    lookups = tuple(_lookups(graph, _made_of(graph, inputs, MOVING | CELLWISE, through_tables=True)))
    moved = _made_of(graph, inputs, MOVING, through_tables=False)
    plain = [node for node in model.graph.node if node.input and node.input[0] in moved]
    encoders = tuple(e for node in plain for e in _encoders(node))
    scalings = tuple(s for node in plain for s in _scalings(graph, node))
    return Encodings(lookups, encoders, scalings)


def write_excerpt(model: onnx.ModelProto, tensors: list[str], path: Path) -> list[str]:
    """Write the part of a graph that computes some tensors; the names under which they are its outputs."""
    made, names = excerpt(model, tensors)
    save(made, path)
    return names


def excerpt(model: onnx.ModelProto, tensors: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The part of a graph that computes some tensors, and the names under which they are its outputs."""
    graph, needed, pending = view(model), set(), list(tensors)
    while pending:
        current = pending.pop()
        if current not in needed:
            needed.add(current)
            node = graph.producers.get(current)
            pending += [] if node is None else [n for n in (*node.input, *node.output) if n]
    nodes = [node for node in model.graph.node if any(name in needed for name in node.output)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    part = helper.make_graph(nodes, "excerpt", model.graph.input, [], constants)
    made = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    made.functions.extend(model.functions)
    inputs = {value.name for value in model.graph.input}  # no input can be an output too
    names = [append(made, "Identity", [name], f"{name}_copied") if name in inputs else name for name in tensors]
    for name in names:
        expose(made, name)
    return made, names


def _made_of(graph: View, inputs: frozenset[str], allowed: frozenset[str], *, through_tables: bool) -> frozenset[str]:
    """Tensors made of inputs by some operators alone."""
    made, others = set(inputs), set[str]()
    for node in graph.model.graph.node:  # in the order in which they run
        names = set(node.input)
        if names & others or names & made:
            table = node.op_type in TABLES and node.input[0] not in made | others and not through_tables
            sound = node.op_type in allowed and not names & others and not table
            (made if sound else others).update(name for name in node.output if name)
    return frozenset(made)


def _lookups(graph: View, made: frozenset[str]) -> Iterator[Lookup]:
    for node in graph.model.graph.node:
        for indices, table, sizes in _indexed(graph, node):
            if indices in made and all(size > 0 for size in sizes):
                behind = _behind(graph, indices)
                inner = sum(any(True for _ in _indexed(graph, other)) for other in behind)
                yield Lookup(indices, table, sizes, node.op_type, inner, _numbers(graph, behind))


def _indexed(graph: View, node: onnx.NodeProto) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Tensors that are indices into something of a constant size."""
    if node.op_type == "OneHot":
        depth = graph.constant(node.input[1])
        if depth is not None and depth.size:
            yield node.input[0], f"OneHot {node.output[0]}", (int(depth.reshape(-1)[0]),)
    if node.op_type in TABLES and node.input[1] not in graph.constants:
        dims = _constant_dims(graph, node.input[0])
        axis = -1 if node.op_type == "ArrayFeatureExtractor" else attribute(node, "axis") or 0
        if dims and node.op_type == "GatherND":
            size = (_inferred_dims(graph, node.input[1]) or (None,))[-1]
            first = attribute(node, "batch_dims") or 0
            if size:
                yield node.input[1], node.input[0], dims[first : first + size]
        elif dims and -len(dims) <= axis < len(dims):
            yield node.input[1], node.input[0], (dims[axis],)


def _constant_dims(graph: View, name: str) -> tuple[int, ...] | None:
    """Shape of what is constant, also where operators make it of constants."""
    if name in graph.constants:
        return tuple(graph.constants[name].dims)
    inputs = {value.name for value in graph.model.graph.input}
    node = graph.producers.get(name)
    behind = {tensor for each in _behind(graph, name) for tensor in each.input}
    if node is None or inputs & behind:
        return None
    if node.op_type in {"Identity", "Cast", "DequantizeLinear"}:
        return _constant_dims(graph, node.input[0])
    dims = _inferred_dims(graph, name)
    return None if dims is None or None in dims else tuple(d for d in dims if d is not None)


def _inferred_dims(graph: View, name: str) -> tuple[int | None, ...] | None:
    """Shape of a tensor as far as its operators determine it; None where they do not."""
    part, (copied,) = excerpt(graph.model, [name])
    try:
        inferred = onnx.shape_inference.infer_shapes(part)
    except (onnx.shape_inference.InferenceError, ValueError):
        return None
    known = [*inferred.graph.value_info, *inferred.graph.output]
    found = next((v.type.tensor_type for v in known if v.name == copied and v.type.tensor_type.HasField("shape")), None)
    return None if found is None else tuple(d.dim_value if d.dim_value > 0 else None for d in found.shape.dim)


def _behind(graph: View, name: str) -> list[onnx.NodeProto]:
    """Operators that compute a tensor."""
    found: dict[str, onnx.NodeProto] = {}
    pending = [name]
    while pending:
        node = graph.producers.get(pending.pop())
        if node is not None and (key := next(n for n in node.output if n)) not in found:
            found[key] = node
            pending += [n for n in node.input if n]
    return list(found.values())


def _numbers(graph: View, nodes: list[onnx.NodeProto]) -> tuple[int, ...]:
    found: set[int] = set()
    for node in nodes:
        arrays = [graph.constant(n) for n in node.input]
        keys = attribute(node, "keys_int64s") if node.op_type == "LabelEncoder" else None
        for array in (*arrays, None if keys is None else np.array(keys)):
            if array is not None and array.dtype.kind in "iuf" and array.size <= MOST_CONSTANTS:
                whole = array[np.isfinite(array)] if array.dtype.kind == "f" else array
                found |= {int(value) for value in whole.reshape(-1)}
    return tuple(sorted(found))[:MOST_CONSTANTS]


def _encoders(node: onnx.NodeProto) -> Iterator[Encoder]:
    pools: dict[str, tuple[str, ...]] = {
        "OneHotEncoder": ("cats_strings", "cats_int64s"),
        "LabelEncoder": ("keys_strings", "keys_int64s", "keys_floats"),
        "CategoryMapper": ("cats_strings", "cats_int64s"),
    }
    for pool in pools.get(node.op_type, ()):
        if (values := attribute(node, pool)) and (found := _categories(values)):
            closed = node.op_type == "OneHotEncoder" and attribute(node, "zeros") == 0
            yield Encoder(node.input[0], found, closed, node.op_type)


def _categories(values: Any) -> tuple[Category, ...]:
    if isinstance(values[0], bytes):
        return tuple(dict.fromkeys(value.decode() for value in values))
    if any(value != int(value) for value in values if np.isfinite(value)):
        return ()
    return tuple(dict.fromkeys(int(value) for value in values if np.isfinite(value)))


def _scalings(graph: View, node: onnx.NodeProto) -> Iterator[Scaling]:
    if node.op_type == "Scaler":
        offset, scale = attribute(node, "offset") or (0.0,), attribute(node, "scale") or (1.0,)
        yield from _scaling(node.input[0], np.array(offset), 1.0 / _nonzero(np.array(scale)), "Scaler")
    if node.op_type == "BatchNormalization":
        mean, variance = (graph.constant(name) for name in node.input[3:5])
        if mean is not None and variance is not None:
            yield from _scaling(node.input[0], mean, np.sqrt(np.maximum(variance, 0.0)), "BatchNormalization")
    if node.op_type in {"Sub", "Mul"} and (first := graph.constant(node.input[1])) is not None:
        for user in graph.model.graph.node:
            if len(user.input) == 2 and user.input[0] == node.output[0]:  # both sides
                yield from _in_two_steps(graph, (node, user), first)


def _in_two_steps(
    graph: View, nodes: tuple[onnx.NodeProto, onnx.NodeProto], first: npt.NDArray[Any]
) -> Iterator[Scaling]:
    """A difference and a quotient; or, as a scaler to minimum and maximum has it, a product and a sum."""
    node, user = nodes
    second, words = graph.constant(user.input[1]), f"{node.op_type}, {user.op_type}"
    if second is None or not all(v.dtype.kind in "iuf" and v.size for v in (first, second)):
        return
    if node.op_type == "Sub" and user.op_type in {"Div", "Mul"}:
        spread = second if user.op_type == "Div" else 1.0 / _nonzero(second)
        yield from _scaling(node.input[0], first, spread, words)
    if node.op_type == "Mul" and user.op_type in {"Add", "Sub"}:
        sign, scale = (-1.0 if user.op_type == "Add" else 1.0), _nonzero(first)
        if scale.size == second.size or 1 in {scale.size, second.size}:
            yield from _scaling(node.input[0], sign * second.reshape(-1) / scale.reshape(-1), 1.0 / scale, words)


def _nonzero(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(values == 0, np.nan, values.astype(np.float64))


def _scaling(tensor: str, centre: npt.NDArray[Any], spread: npt.NDArray[Any], operator: str) -> Iterator[Scaling]:
    if centre.dtype.kind not in "iuf" or spread.dtype.kind not in "iuf" or not centre.size or not spread.size:
        return
    width = max(centre.size, spread.size)
    if {centre.size, spread.size} <= {1, width} and width <= MOST_CONSTANTS:
        pair = [np.broadcast_to(v.reshape(-1).astype(np.float64), width).tolist() for v in (centre, spread)]
        yield Scaling(tensor, tuple(pair[0]), tuple(np.abs(pair[1]).tolist()), operator)
