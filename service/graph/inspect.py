"""Evidence in a graph: its inputs, its scores, its classes, and why it may be no classifier at all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from service.bundle.manifest import Manifest
from service.bundle.repository import Bundle
from service.bundle.sums import PARTS
from service.errors import BundleError, GraphError, ManifestInvalid
from service.graph import class_metadata
from service.graph.external_weights import external_files
from service.graph.loading import FLOAT_TYPES, load_graph, readable
from service.graph.mixing import dynamic_operators, in_training
from service.graph.output_evidence import (
    RANDOM,
    Output,
    class_names,
    clusters,
    constant_answer,
    decision,
    is_softmax_of_all,
    operators,
    trace,
)
from service.graph.rewrite import simplify_outputs
from service.graph.walk import PASSING, View, attribute, view

RECURRENT: Final = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}  # which of their inputs is a state
NAMED_POOLS: Final = ("cats_strings", "keys_strings")
NEXT_ENDS: Final = ("n", "_n", "out", "_out", "_new", "_next", ".1")
KEEPS_WIDTH: Final = frozenset({"Identity", "Cast", "Scaler", "Imputer", "Normalizer"})


@dataclass(frozen=True, slots=True)
class Input:
    """A graph input as the file declares it.

    Attributes
    ----------
    name : str
    type : str
        As ONNX names element types: FLOAT, INT64, STRING, …
    dims : tuple or None
        A number, the name of a dimension that varies, or None for one that has no name; None where nothing is declared.
    width : int or None
        How many columns the operators behind it have coefficients for, where they have any.
    words : tuple of (tuple of str)
        Categories that the operators behind it know.
    closed : bool
        Whether they fail on any other.
    table : int or None
        Length of the shortest table that it is an index into: token ids, for example.
    is_row : bool
        Whether constants of a column each are added to it, or scale it.
    """

    name: str
    type: str
    dims: tuple[int | str | None, ...] | None
    width: int | None
    words: tuple[tuple[str, ...], ...]
    closed: bool
    table: int | None
    is_row: bool = False

    @property
    def batch(self) -> int | None:
        """How many rows it takes at a time; None for any number."""
        first = self.dims[0] if self.dims else None
        return first if isinstance(first, int) else None

    @property
    def is_flat(self) -> bool:
        """Whether it is one column without an axis of its own."""
        return self.dims is not None and len(self.dims) == 1


@dataclass(frozen=True, slots=True)
class Findings:
    """What can be read off a graph.

    Attributes
    ----------
    model : onnx.ModelProto
        With outputs simplified: no ZipMap, no sequence, no column of its own per class.
    inputs : tuple of Input
    outputs : tuple of Output
        Tensors that may carry scores.
    labels : tuple of str
        Outputs that hold labels: whole numbers or text, or what ArgMax or a comparison made.
    decisions : dict of str to str
        Floating-point outputs that an operator such as ArgMax turned into answers, with its name.
    constant : dict of str to str
        Outputs that are the same for every row, and why.
    normalised : frozenset of str
        Outputs whose columns are made to sum to one (or are its logarithm), and all of them are there.
    classes : tuple of str or None
        Class names in output order, of the graph's operators.
    classes_from : str
        Where they stand.
    classes_written : tuple of (tuple of str, str)
        Class names of the file's metadata and where, of every entry that holds some.
    external_files : tuple of str
        Weight files that belong to the graph.
    changes : tuple of str
        How ``model`` differs from the file, in sentences.
    clusters : bool
        Whether it assigns rows to the nearest of something.
    handles_missing : str or None
        The operator that takes NaN for a missing value.
    random : tuple of str
        Operators that may not answer the same twice.
    """

    model: onnx.ModelProto
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    decisions: dict[str, str]
    constant: dict[str, str]
    normalised: frozenset[str]
    classes: tuple[str, ...] | None
    classes_from: str
    classes_written: tuple[class_metadata.Named, ...]
    external_files: tuple[str, ...]
    changes: tuple[str, ...]
    clusters: bool
    handles_missing: str | None
    random: tuple[str, ...]


def inspect_graph(path: Path) -> Findings:
    """Read a graph and the evidence in it.

    Raises
    ------
    GraphError
        If the file is no ONNX graph that can be run, refers to weights outside its own folder, or keeps a state from
        one call to the next.
    """
    model = load_graph(path)
    with readable(path):
        return _findings(model, path)


def _findings(model: onnx.ModelProto, path: Path) -> Findings:
    changes = simplify_outputs(model)
    graph = view(model)
    inputs = _true_inputs(model)
    _refuse_state(graph, inputs, path)
    given = frozenset(value.name for value in inputs)
    decisions, scores = _decisions_and_scores(graph)
    classes, classes_from = _class_names(graph, scores)
    return Findings(
        model=model,
        inputs=tuple(_input(graph, value) for value in inputs),
        outputs=tuple(trace(graph, name) for name in scores),
        labels=tuple(o.name for o in model.graph.output if o.name not in scores),
        decisions=decisions,
        constant={name: why for name in scores if (why := constant_answer(graph, name, given))},
        normalised=frozenset(name for name in scores if is_softmax_of_all(graph, name)),
        classes=classes,
        classes_from=classes_from,
        classes_written=class_metadata.class_names(graph.model),
        external_files=external_files(model, path),
        changes=tuple(changes),
        clusters=clusters(graph),
        handles_missing=_handles_missing(graph),
        random=(*operators(model.graph, RANDOM), *in_training(model)),
    )


def _true_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller fills; older files list their weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _decisions_and_scores(graph: View) -> tuple[dict[str, str], list[str]]:
    """Floating-point outputs: those that an operator turned into answers, with its name, and the others."""
    floats = [o.name for o in graph.model.graph.output if _may_score(o)]
    decisions = {name: made for name in floats if (made := decision(graph, name)) is not None}
    return decisions, [name for name in floats if name not in decisions]


def _class_names(graph: View, scores: list[str]) -> class_metadata.Named | tuple[None, str]:
    """Class names that operators hold, and where they stand; those of the first output's own classifier come first."""
    return (class_names(graph, scores[0]) if scores else None) or (None, "")


def check_draft(draft: Bundle) -> None:
    """Check a draft against its graph.

    Raises
    ------
    ManifestInvalid
        If the graph lists the same class names in another order, or quantises by the batch and the manifest lets rows
        run together.
    BundleError
        If a file belongs to neither: it would be published, and change what a calibration is bound to.
    """
    findings = inspect_graph(draft.graph_path)
    check_class_order(findings.classes or named_in_metadata(findings), draft.manifest.graph.classes)
    _check_rows(findings.model, draft.manifest)
    for file in sorted(draft.path.iterdir()):
        if file.name not in (*PARTS, *findings.external_files):
            raise BundleError(f"{file} is no part of a bundle; remove it")


def _check_rows(model: onnx.ModelProto, manifest: Manifest) -> None:
    read = (manifest.graph.output, *([manifest.ood.space] if manifest.ood.looks_at_tensor else []))
    found = tuple(dict.fromkeys(operator for name in read for operator in dynamic_operators(model, name)))
    if found and manifest.graph.rows == "together":
        raise ManifestInvalid(
            f"graph.rows: {', '.join(found)} quantises by the range of the whole batch, so a row's answer depends on "
            'the rows beside it; write rows = "alone" under [graph]: every row is then run by itself'
        )


def named_in_metadata(findings: Findings) -> tuple[str, ...] | None:
    """Class names of the file's metadata, where all of its entries agree."""
    found = {names for names, _ in findings.classes_written}
    return found.pop() if len(found) == 1 else None


def check_class_order(graph: tuple[str, ...] | None, declared: tuple[str, ...]) -> None:
    """Raise ManifestInvalid if the graph lists the same class names in another order."""
    if graph is not None and set(graph) == set(declared) and graph != declared:
        raise ManifestInvalid(f"classes: the graph lists them in another order: {', '.join(graph)}")


def _may_score(value: onnx.ValueInfoProto) -> bool:
    # An output that a rewrite exposed has no declared type; it is the tensor of scores.
    return not value.HasField("type") or value.type.tensor_type.elem_type in FLOAT_TYPES


def _input(graph: View, value: onnx.ValueInfoProto) -> Input:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise GraphError(f"input {value.name!r} is no tensor; export the model with tensors as inputs")
    dims = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    flexible = dims is None or (len(dims) == 2 and not isinstance(dims[1], int))  # rows of open width
    vector = _vector_width(graph, value.name) if flexible else None
    return Input(
        value.name,
        onnx.TensorProto.DataType.Name(tensor.elem_type),
        dims,
        _coefficients(graph, value.name) or vector,
        tuple(_words(graph, value.name)),
        any(n.op_type == "OneHotEncoder" and attribute(n, "zeros") == 0 for n, _ in _readers(graph, value.name)),
        min(_tables(graph, value.name), default=None),
        vector is not None,
    )


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def _users(graph: View, name: str, passing: frozenset[str]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Operators that take a tensor, also behind those that only pass it on."""
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        for node in graph.consumers.get(current, ()):
            graph.allowance.take()
            yield node, current
            if node.op_type in passing and node.output[0] not in seen:
                seen.add(node.output[0])
                pending.append(node.output[0])


def _coefficients(graph: View, name: str) -> int | None:
    for node, tensor in _users(graph, name, KEEPS_WIDTH):
        if tensor != node.input[0]:
            continue
        coefficients, rows = attribute(node, "coefficients"), len(attribute(node, "intercepts") or ())
        if node.op_type in {"LinearClassifier", "LinearRegressor"} and coefficients and rows:
            return len(coefficients) // rows
        if node.op_type in {"Gemm", "MatMul"} and (weights := graph.constants.get(node.input[1])) is not None:
            return int(weights.dims[1 if attribute(node, "transB") else 0])
    return None


def _vector_width(graph: View, name: str) -> int | None:
    """How many columns there are if a vector of constants is added to them, or they are scaled by one."""
    for node, tensor in _users(graph, name, frozenset({"Identity", "Cast"})):
        if node.op_type in {"Add", "Sub", "Mul", "Div"} and len(node.input) == 2:  # both sides
            other = node.input[1] if node.input[0] == tensor else node.input[0]
            vector = graph.constants.get(other)
            if vector is not None and vector.dims and vector.dims[-1] > 1 and math.prod(vector.dims) == vector.dims[-1]:
                return int(vector.dims[-1])
    return None


def _readers(graph: View, name: str) -> Iterator[tuple[onnx.NodeProto, str]]:
    return _users(graph, name, PASSING | {"Concat"})


def _words(graph: View, name: str) -> Iterator[tuple[str, ...]]:
    for node, _ in _readers(graph, name):
        for pool in NAMED_POOLS:
            if values := attribute(node, pool):
                yield tuple(value.decode() for value in values)


def _tables(graph: View, name: str) -> Iterator[int]:
    for node, tensor in _users(graph, name, frozenset({"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape"})):
        if node.op_type == "Gather" and node.input[1] == tensor and (table := graph.constants.get(node.input[0])):
            yield int(table.dims[attribute(node, "axis") or 0])
        if node.op_type == "OneHot" and node.input[0] == tensor and (depth := graph.short(node.input[1])) is not None:
            yield int(depth.reshape(-1)[0])


def _handles_missing(graph: View) -> str | None:
    for node in graph.model.graph.node:
        replaced = attribute(node, "replaced_value_float")
        if node.op_type == "Imputer" and replaced is not None and replaced != replaced:  # noqa: PLR0124  # NaN
            return "Imputer"
        if any(attribute(node, "nodes_missing_value_tracks_true") or ()):
            return str(node.op_type)
    return None


def _refuse_state(graph: View, inputs: list[onnx.ValueInfoProto], path: Path) -> None:
    named = {value.name for value in inputs}
    for node in graph.model.graph.node:
        for index in RECURRENT.get(node.op_type, ()):
            if len(node.input) > index and node.input[index] in named:
                _refuse_stateful(path, node.input[index], f"the state of {node.op_type}")
    if len(inputs) < 2:
        return
    for value in inputs:
        for output in graph.model.graph.output:
            if _carries(value, output):
                _refuse_stateful(path, value.name, f"what {output.name!r} answered")


def _carries(value: onnx.ValueInfoProto, output: onnx.ValueInfoProto) -> bool:
    """Whether an output can be an input's next value, and their names or the place of the row axis suggest it."""
    given, answered = value.type.tensor_type, output.type.tensor_type
    sizes = [_dim(d) for d in given.shape.dim]
    if given.elem_type != answered.elem_type or len(sizes) < 2 or len(sizes) != len(answered.shape.dim):
        return False
    pairs = zip(sizes, (_dim(d) for d in answered.shape.dim), strict=True)
    if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
        return False
    aside = isinstance(sizes[0], int) and not all(isinstance(d, int) for d in sizes[1:])
    a, b = value.name.lower(), output.name.lower()
    following = {f"{a}{end}" for end in NEXT_ENDS} | {f"new_{a}", f"next_{a}"}
    following |= {a.replace("past", "present"), a.replace("_in", "_out"), a.replace("0", "n")} - {a}
    return aside or b in following


def _refuse_stateful(path: Path, name: str, what: str) -> None:
    raise GraphError(
        f"{path}: input {name!r} takes {what}: the model carries a state from one call to the next, and rows here are "
        "classified each for itself; export it over whole sequences, with the state inside"
    )
