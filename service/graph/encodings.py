"""Operators that restrict an input's columns: tables that they index, categories, means and scales.

Tested in `tests/importer/test_column_domains.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from service.graph.rewrite import append, expose_all, names_in, save
from service.graph.walk import MOST_STEPS, SMALL, View, attribute, reached, view

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
KEEPING_SHAPE: Final = frozenset({"Identity", "Cast", "DequantizeLinear"})
INDEXING: Final = TABLES | {"OneHot"}
MOST_LOOKUPS: Final = 1000
"""Of a graph; nothing is concluded from more."""

MOST_LEVELS: Final = 8
"""Tables behind tables of which the indices are searched."""


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
    made = _made_of(graph, inputs, MOVING | CELLWISE, through_tables=True)
    lookups = tuple(_lookups(graph, made))
    moved = _made_of(graph, inputs, MOVING, through_tables=False)
    plain = [node for node in model.graph.node if node.input and node.input[0] in moved]
    encoders = tuple(e for node in plain for e in _encoders(node))
    scalings = tuple(s for node in plain for s in _scalings(graph, node))
    return Encodings(lookups, encoders, scalings)


def write_excerpt(model: onnx.ModelProto, tensors: list[str], path: Path) -> list[str]:
    """Write the part of a graph that computes some tensors; the names under which they are its outputs."""
    made, names = excerpt(view(model), tensors)
    save(made, path)
    return names


def excerpt(graph: View, tensors: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The part of a graph that computes some tensors, and the names under which they are its outputs."""
    model = graph.model
    needed = set(reached(graph, tensors, lambda tensor: _around(graph, tensor)))
    nodes = [node for node in model.graph.node if any(name in needed for name in node.output)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    part = helper.make_graph(nodes, "excerpt", model.graph.input, [], constants)
    made = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    made.functions.extend(model.functions)
    inputs = {value.name for value in model.graph.input}  # no input can be an output too
    taken = names_in(made)
    names = [
        append(made, "Identity", [name], f"{name}_copied", taken=taken) if name in inputs else name for name in tensors
    ]
    expose_all(made, names)
    return made, names


def _around(graph: View, tensor: str) -> list[str]:
    node = graph.producers.get(tensor)
    return [] if node is None else [name for name in (*node.input, *node.output) if name]


def _made_of(graph: View, inputs: frozenset[str], allowed: frozenset[str], *, through_tables: bool) -> frozenset[str]:
    """Tensors made of inputs by some operators alone."""
    made, others = set(inputs), set[str]()
    for node in graph.model.graph.node:  # in the order in which they run
        names = set(node.input)
        if names & others or names & made:
            constant = node.input[0] not in made and node.input[0] not in others  # no union: it copies both
            table = node.op_type in TABLES and constant and not through_tables
            sound = node.op_type in allowed and not names & others and not table
            (made if sound else others).update(name for name in node.output if name)
    return frozenset(made)


def _lookups(graph: View, made: frozenset[str]) -> Iterator[Lookup]:
    indexed = {id(node): tuple(_indexed(graph, node)) for node in graph.model.graph.node if node.op_type in INDEXING}
    found = ((node, *each) for node in graph.model.graph.node for each in indexed.get(id(node), ()))
    sound = (each for each in found if each[1] in made and all(size > 0 for size in each[3]))
    for node, indices, table, sizes in islice(sound, MOST_LOOKUPS):
        behind = _behind(graph, indices)
        inner = sum(bool(indexed.get(id(other))) for other in behind)
        if inner < MOST_LEVELS:
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
    behind = {tensor for node in _behind(graph, name) for tensor in node.input}
    graph.allowance.take(len(graph.model.graph.input))
    if name not in graph.producers or any(value.name in behind for value in graph.model.graph.input):
        return None
    source = name
    while (node := graph.producers.get(source)) is not None and node.op_type in KEEPING_SHAPE:
        source = node.input[0]
    if source in graph.constants:
        return tuple(graph.constants[source].dims)
    dims = _inferred_dims(graph, source)
    return None if dims is None or None in dims else tuple(d for d in dims if d is not None)


def _inferred_dims(graph: View, name: str) -> tuple[int | None, ...] | None:
    """Shape of a tensor as far as its operators determine it; None where they do not."""
    if graph.allowance.left < MOST_STEPS // 2:
        return None  # enough was spent: what is not inferred is not concluded
    graph.allowance.take(1000 + 3 * len(graph.model.graph.node))  # of microseconds, as other steps
    part, (copied,) = excerpt(graph, [name])
    try:
        inferred = onnx.shape_inference.infer_shapes(part)
    except (onnx.shape_inference.InferenceError, ValueError):
        return None
    known = [*inferred.graph.value_info, *inferred.graph.output]
    found = next((v.type.tensor_type for v in known if v.name == copied and v.type.tensor_type.HasField("shape")), None)
    return None if found is None else tuple(d.dim_value if d.dim_value > 0 else None for d in found.shape.dim)


def _behind(graph: View, name: str) -> list[onnx.NodeProto]:
    """Operators that compute a tensor."""
    tensors = reached(graph, [name], lambda tensor: _before(graph, tensor))
    found = {id(node): node for tensor in tensors if (node := graph.producers.get(tensor)) is not None}
    return list(found.values())


def _before(graph: View, tensor: str) -> list[str]:
    node = graph.producers.get(tensor)
    return [] if node is None else [name for name in node.input if name]


def _numbers(graph: View, nodes: list[onnx.NodeProto]) -> tuple[int, ...]:
    found: set[int] = set()
    for node in nodes:
        arrays = [graph.short(n) for n in node.input]
        keys = attribute(node, "keys_int64s") if node.op_type == "LabelEncoder" else None
        for array in (*arrays, None if keys is None else np.array(keys)):
            if array is not None and array.dtype.kind in "iuf" and array.size <= SMALL:
                whole = array[np.isfinite(array)] if array.dtype.kind == "f" else array
                found |= {int(value) for value in whole.reshape(-1)}
    return tuple(sorted(found))[:SMALL]


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
        mean, variance = (graph.short(name) for name in node.input[3:5])
        if mean is not None and variance is not None:
            yield from _scaling(node.input[0], mean, np.sqrt(np.maximum(variance, 0.0)), "BatchNormalization")
    if node.op_type in {"Sub", "Mul"} and (first := graph.short(node.input[1])) is not None:
        for user in graph.consumers.get(node.output[0], ()):
            graph.allowance.take()
            if len(user.input) == 2 and user.input[0] == node.output[0]:  # both sides
                yield from _in_two_steps(graph, (node, user), first)


def _in_two_steps(
    graph: View, nodes: tuple[onnx.NodeProto, onnx.NodeProto], first: npt.NDArray[Any]
) -> Iterator[Scaling]:
    """A difference and a quotient; or, as a scaler to minimum and maximum has it, a product and a sum."""
    node, user = nodes
    second, words = graph.short(user.input[1]), f"{node.op_type}, {user.op_type}"
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
    if {centre.size, spread.size} <= {1, width} and width <= SMALL:
        pair = [np.broadcast_to(v.reshape(-1).astype(np.float64), width).tolist() for v in (centre, spread)]
        yield Scaling(tensor, tuple(pair[0]), tuple(np.abs(pair[1]).tolist()), operator)
