"""What the operators of a graph prove about its scores and its classes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import onnx

from service.graph.walk import View, attribute, every_node, origins, text_of

LINEAR: Final = frozenset(
    {"Gemm", "MatMul", "Conv", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm", "Einsum"}
)
CLASSIFIERS: Final = frozenset({"LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"})
REGRESSORS: Final = frozenset({"LinearRegressor", "TreeEnsembleRegressor", "TreeEnsemble", "SVMRegressor"})
RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
ENDLESS: Final = frozenset({"Loop", "Scan", "If"})
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


def operators(graph: onnx.GraphProto, wanted: frozenset[str]) -> list[str]:
    """Those of some operators that a graph has, in its order."""
    return list(dict.fromkeys(node.op_type for node in every_node(graph) if node.op_type in wanted))


def clusters(graph: View) -> bool:
    """Whether an output is the index of the smallest of something: a cluster."""
    return any(node.op_type == "ArgMin" for o in graph.model.graph.output for node in origins(graph, o.name))


def _kind(node: onnx.NodeProto) -> str | None:
    if node.op_type in CLASSIFIERS:
        transform = _post_transform(node)
        return {"SOFTMAX": "probabilities", "LOGISTIC": "sigmoid", "NONE": "margins"}.get(transform)
    if node.op_type in LINEAR:
        return "logits"
    if node.op_type in REGRESSORS:
        return "sigmoid" if _post_transform(node) == "LOGISTIC" else "regression"
    return {
        "Softmax": "probabilities",
        "Normalizer": "probabilities",
        "LogSoftmax": "log_probabilities",
        "Sigmoid": "sigmoid",
    }.get(node.op_type)


def _post_transform(node: onnx.NodeProto) -> str:
    return text_of(node, "post_transform", "NONE")


def _transform_note(node: onnx.NodeProto) -> str:
    return f" with post_transform {_post_transform(node)}" if node.op_type in CLASSIFIERS else ""


def _labels_looked_up(graph: View) -> Iterator[tuple[tuple[str, ...], str]]:
    """Constants from which an index picks the label: scikit-learn's `classes`, a LabelEncoder's values."""
    for node in graph.model.graph.node:
        if node.op_type == "ArrayFeatureExtractor" and _is_index(graph, node.input[1]):
            values = graph.constant(node.input[0])
            if values is not None and values.dtype.kind in "iuOSU":
                yield _as_text(values.reshape(-1).tolist()), f"the initialiser {node.input[0]!r}"
        if node.op_type == "LabelEncoder" and _is_index(graph, node.input[0]):
            keys, values = attribute(node, "keys_int64s"), attribute(node, "values_strings")
            if keys and values and list(keys) == list(range(len(keys))):
                yield _as_text(values), "the graph's LabelEncoder"


def _is_index(graph: View, name: str) -> bool:
    return any(node.op_type == "ArgMax" for node in origins(graph, name))


def _as_text(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)
