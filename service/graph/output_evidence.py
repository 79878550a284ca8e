"""What the operators of a graph prove about its scores and its classes.

Tested in `tests/graph/test_inspect.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from service.graph.walk import JOINING, PASSING, View, attribute, every_node, moved_from, origins, reached, text_of

LINEAR: Final = frozenset(
    {"Gemm", "MatMul", "Conv", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm", "Einsum"}
)
CLASSIFIERS: Final = frozenset({"LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"})
REGRESSORS: Final = frozenset({"LinearRegressor", "TreeEnsembleRegressor", "TreeEnsemble", "SVMRegressor"})
RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
TRANSFORMS: Final = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""What `post_transform` of TreeEnsemble (ai.onnx.ml 5) counts; the classifiers' is the word itself."""

DECISIONS: Final = frozenset(
    {"ArgMax", "ArgMin", "Hardmax", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not"}
)
PICKING: Final = PASSING | JOINING | {"OneHot", "Where", "LabelEncoder"}
KEEPING: Final = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose"})
NORMALISING: Final = frozenset({"Softmax", "LogSoftmax", "Hardmax", "Normalizer"})
SOFTMAX_OF_ONE_AXIS: Final = 13
TOTALS: Final = {"Div": ("ReduceSum", "ReduceL1"), "Sub": ("ReduceLogSumExp", "ReduceMax")}
SHAPED: Final = frozenset(
    {
        "Shape",
        "Size",
        "ConstantOfShape",
        "EyeLike",
        "RandomNormalLike",
        "RandomUniformLike",
        "RandomNormal",
        "RandomUniform",
    }
)
"""Operators that look at a tensor's shape alone, if at anything."""

PRODUCTS: Final = frozenset({"Mul", "MatMul", "Gemm", "Conv"})
SELF_CANCELLING: Final = frozenset({"Sub", "Div", "Xor", "Equal", "Less", "Greater", "BitwiseXor"})
LABELS: Final = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that may carry scores.

    Attributes
    ----------
    name : str
    kind : str or None
        What the operators prove: an output kind; `sigmoid`, one or many; `margins` of a classifier without a
        transform, which may also be a forest's probabilities; `regression`; None when they prove nothing.
    evidence : str
        The operators, in words.
    """

    name: str
    kind: str | None
    evidence: str


def trace(graph: View, name: str) -> Output:
    """Follow a tensor back to the operators that made its values."""
    found = origins(graph, name)
    if not found:
        return Output(name, None, "no operator computes it")
    kinds = {_kind(node) for node in found}
    notes = list(dict.fromkeys(f"{node.op_type}{_transform_note(node)}" for node in found))
    words = f"its last operator is {notes[0]}" if len(notes) == 1 else f"its last operators are {', '.join(notes[:4])}"
    if "regression" in kinds:
        return Output(name, "regression", words)
    return Output(name, kinds.pop() if len(kinds) == 1 else None, words)


def class_names(graph: View, output: str) -> tuple[tuple[str, ...], str] | None:
    """Class names in output order, and where they stand; of the classifier behind the output if it has any."""
    for node in [*origins(graph, output), *graph.model.graph.node]:
        for name in LABELS:
            if values := attribute(node, name):
                return _as_text(values), f"the graph's class labels ({node.op_type})"
    return next(_labels_looked_up(graph), None)


def operators(graph: onnx.GraphProto, sought: frozenset[str]) -> list[str]:
    """Those of some operators that a graph has, in its order."""
    return list(dict.fromkeys(node.op_type for node in every_node(graph) if node.op_type in sought))


def decision(graph: View, name: str) -> str | None:
    """The operator that turned scores into an answer (ArgMax, Hardmax, a comparison), if a tensor holds no more."""
    found: list[str] = []
    for tensor in reached(graph, [name], lambda tensor: _picked_from(graph, tensor)):
        node = graph.producers.get(tensor)
        if node is not None and node.op_type in DECISIONS:
            found.append(node.op_type)
        elif node is not None and node.op_type not in PICKING:
            return None
    return found[0] if found else None


def _picked_from(graph: View, tensor: str) -> list[str]:
    node = graph.producers.get(tensor)
    if node is None or node.op_type not in PICKING:
        return []
    return [name for name in node.input if name and name not in graph.constants]


def constant_answer(graph: View, name: str, inputs: frozenset[str], known: frozenset[str] = frozenset()) -> str | None:
    """Why a tensor is the same for every row, whatever the row holds; None where nothing proves it.

    ``known`` are tensors of which it is known already.
    """
    reach = reached(graph, [name], lambda tensor: [] if tensor in known else _value_inputs(graph, tensor))
    if any(tensor in inputs and tensor not in known for tensor in reach):
        return None
    return "no operator behind it looks at a value of an input"


def is_softmax_of_all(graph: View, name: str) -> bool:
    """Whether a tensor is a normalisation (a softmax) with all of its columns, none of them picked."""
    node = graph.producers.get(name)
    while node is not None and node.op_type in KEEPING:
        graph.allowance.take()
        node = graph.producers.get(node.input[0])
    if node is None:
        return False
    if node.op_type in {*CLASSIFIERS, "TreeEnsemble"}:
        return post_transform(node) in {"SOFTMAX", "SOFTMAX_ZERO"}
    return node.op_type in NORMALISING or _is_own_share(graph, node)


def _is_own_share(graph: View, node: onnx.NodeProto) -> bool:
    """Whether a tensor is divided by its own sum, or less the logarithm of its own sum: a softmax in steps."""
    if node.op_type not in TOTALS or len(node.input) < 2:  # both sides
        return False
    total = graph.producers.get(node.input[1])
    return total is not None and total.op_type in TOTALS[node.op_type] and total.input[0] == node.input[0]


def _value_inputs(graph: View, name: str) -> list[str]:
    """Tensors whose values an operator's values may depend on."""
    node = graph.producers.get(name)
    if node is None or node.op_type in SHAPED or name in graph.constants:
        return []
    if node.op_type in SELF_CANCELLING and len(set(node.input)) == 1:
        return []
    if (settled := _settled(graph, node)) is not None:
        return settled
    if node.op_type in PRODUCTS and any(graph.proves(n, _is_zero) for n in node.input[:2]):
        return [n for n in node.input[2:] if n]
    inner = [n for other in every_node(onnx.GraphProto(node=[node])) for n in other.input]
    return [n for n in inner if n]


def _settled(graph: View, node: onnx.NodeProto) -> list[str] | None:
    """Tensors whose values count where constants settle the rest: a choice, a power of zero, a range of one number."""
    names = node.input
    if node.op_type == "Where" and (graph.proves(names[0], _is_all_true) or graph.proves(names[0], _is_zero)):
        return [names[1 if graph.proves(names[0], _is_all_true) else 2]]
    if node.op_type == "Pow" and graph.proves(names[1], _is_zero):
        return []
    if node.op_type == "Clip" and len(names) > 2:  # both bounds
        low, high = graph.short(names[1]), graph.short(names[2])
        return [] if low is not None and high is not None and bool(np.all(low >= high)) else None
    return None


def _is_all_true(value: npt.NDArray[Any]) -> bool:
    return bool(value.all())


def _is_zero(value: npt.NDArray[Any]) -> bool:
    return not value.any()


def normalisations(graph: View, name: str) -> tuple[tuple[str, slice], ...]:
    """Softmaxes before a tensor, by their outputs, and the axes each runs over: all from one on before opset 13."""
    opset = next((o.version for o in graph.model.opset_import if o.domain in {"", "ai.onnx"}), SOFTMAX_OF_ONE_AXIS)
    found = []
    for current in reached(graph, [name], lambda tensor: _value_inputs(graph, tensor)):
        node = graph.producers.get(current)
        if node is not None and node.op_type in {"Softmax", "LogSoftmax"}:
            given = attribute(node, "axis")
            single = opset >= SOFTMAX_OF_ONE_AXIS
            axis = int(given) if given is not None else -1 if single else 1
            found.append((current, slice(axis, axis + 1 or None) if single else slice(axis, None)))
    return tuple(found)


def clusters(graph: View) -> bool:
    """Whether an output is the index of the smallest of something: a cluster."""
    return any(node.op_type == "ArgMin" for o in graph.model.graph.output for node in origins(graph, o.name))


def _kind(node: onnx.NodeProto) -> str | None:
    if node.op_type in CLASSIFIERS or (node.op_type == "TreeEnsemble" and (attribute(node, "n_targets") or 1) > 1):
        return {"SOFTMAX": "probabilities", "LOGISTIC": "sigmoid", "NONE": "margins"}.get(post_transform(node))
    if node.op_type in LINEAR:
        return "logits"
    if node.op_type in REGRESSORS:
        return {"LOGISTIC": "sigmoid", "SOFTMAX": "probabilities"}.get(post_transform(node), "regression")
    return {
        "Softmax": "probabilities",
        "Normalizer": "probabilities",
        "LogSoftmax": "log_probabilities",
        "Sigmoid": "sigmoid",
    }.get(node.op_type)


def post_transform(node: onnx.NodeProto) -> str:
    """What a classifier or an ensemble of trees does to its sums, in the classifiers' words."""
    if node.op_type != "TreeEnsemble":
        return text_of(node, "post_transform", "NONE")
    number = attribute(node, "post_transform") or 0
    return TRANSFORMS[number] if 0 <= number < len(TRANSFORMS) else f"number {number}"


def _transform_note(node: onnx.NodeProto) -> str:
    return f" with post_transform {post_transform(node)}" if node.op_type in {*CLASSIFIERS, "TreeEnsemble"} else ""


def _labels_looked_up(graph: View) -> Iterator[tuple[tuple[str, ...], str]]:
    """Constants from which an index picks the label: scikit-learn's `classes`, a LabelEncoder's values."""
    indices = _indices(graph)
    for node in graph.model.graph.node:
        if node.op_type == "ArrayFeatureExtractor" and node.input[1] in indices:
            values = graph.constant(node.input[0])
            if values is not None and values.dtype.kind in "iuOSU":
                yield _as_text(values.reshape(-1).tolist()), f"the initialiser {node.input[0]!r}"
        if node.op_type == "LabelEncoder" and node.input[0] in indices:
            keys, values = attribute(node, "keys_int64s"), attribute(node, "values_strings")
            if keys and values and list(keys) == list(range(len(keys))):
                yield _as_text(values), "the graph's LabelEncoder"


def _indices(graph: View) -> frozenset[str]:
    """Tensors whose values ArgMax made, also behind operators that only move, scale or join them."""
    made = [name for node in graph.model.graph.node if node.op_type == "ArgMax" for name in node.output[:1]]

    def moved(tensor: str) -> list[str]:
        users = graph.consumers.get(tensor, [])
        return [name for node in users if tensor in (moved_from(graph, node) or ()) for name in node.output if name]

    return frozenset(reached(graph, made, moved))


def _as_text(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)
