"""What a graph itself says about its scores: evidence for the output kind and the class names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from service.bundle.repository import PARTS, Bundle
from service.errors import BundleError, GraphError, ManifestInvalid

PASSING: Final = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
LINEAR: Final = frozenset({"Gemm", "MatMul", "Add", "Sub", "Conv", "LinearRegressor"})
CLASSIFIERS: Final = frozenset({"LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"})
FLOATS: Final = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)


@dataclass(frozen=True, slots=True)
class Output:
    """A graph output that may carry scores.

    Attributes
    ----------
    name : str
    kind : str or None
        Output kind that the operators prove; None when they prove nothing.
    evidence : str
        The operator, in words.
    """

    name: str
    kind: str | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What can be read off a graph.

    Attributes
    ----------
    outputs : tuple of Output
        Floating-point tensors.
    unusable : tuple of str
        Sequence outputs, which carry scores no session can take as a tensor.
    classes : tuple of str or None
        Class names in output order, from an operator's attributes.
    external_files : tuple of str
        Weight files that belong to the graph.
    """

    outputs: tuple[Output, ...]
    unusable: tuple[str, ...]
    classes: tuple[str, ...] | None
    external_files: tuple[str, ...]


def inspect_graph(path: Path) -> Findings:
    """Read a graph and the evidence in it.

    Raises
    ------
    GraphError
        If the file is no ONNX graph, or refers to weights outside its own folder.
    """
    model = _load(path)
    producers = {name: node for node in model.graph.node for name in node.output}
    tensors = [o for o in model.graph.output if o.type.tensor_type.elem_type in FLOATS]
    return Findings(
        outputs=tuple(_output(o.name, producers) for o in tensors),
        unusable=tuple(o.name for o in model.graph.output if o.type.HasField("sequence_type")),
        classes=next(_class_names(model.graph.node), None),
        external_files=_external_files(model, path),
    )


def check_draft(draft: Bundle) -> None:
    """Check a draft against its graph.

    Raises
    ------
    ManifestInvalid
        If the graph lists the same class names in another order.
    BundleError
        If a file belongs to neither: it would be published, and change what a calibration is bound to.
    """
    findings = inspect_graph(draft.graph_path)
    check_class_order(findings.classes, draft.manifest.graph.classes)
    for file in sorted(draft.path.iterdir()):
        if file.name not in (*PARTS, *findings.external_files):
            raise BundleError(f"{file} is no part of a bundle; remove it")


def check_class_order(graph: tuple[str, ...] | None, declared: tuple[str, ...]) -> None:
    """Raise ManifestInvalid if the graph lists the same class names in another order."""
    if graph is not None and set(graph) == set(declared) and graph != declared:
        raise ManifestInvalid(f"classes: the graph lists them in another order: {', '.join(graph)}")


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"{path} does not exist")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)  # whatever its suffix says
    except DecodeError:
        raise GraphError(f"{path} is no ONNX file: it cannot be decoded") from None
    if not model.graph.node:
        raise GraphError(f"{path} is no ONNX file, or its graph is empty")
    return model


def _output(name: str, producers: dict[str, onnx.NodeProto]) -> Output:
    node = producers.get(name)
    while node is not None and node.op_type in PASSING:
        node = producers.get(node.input[0])
    if node is None:
        return Output(name, None, "no operator computes it")
    kind = _kind(node)
    return Output(name, kind, f"its last operator is {node.op_type}{_transform_note(node)}")


def _kind(node: onnx.NodeProto) -> str | None:
    if node.op_type in {"Softmax", "Normalizer"}:
        return "probabilities"
    if node.op_type == "LogSoftmax":
        return "log_probabilities"
    if node.op_type in LINEAR:
        return "logits"
    if node.op_type in CLASSIFIERS and _post_transform(node) in {"SOFTMAX", "LOGISTIC"}:
        return "probabilities"
    # A classifier without a transform emits margins, (-s, +s) for two classes, or a forest's probabilities; a sigmoid
    # is one class of two or one label of many. What runs, or the user, must tell.
    return None


def _post_transform(node: onnx.NodeProto) -> str:
    values = [attribute.s.decode() for attribute in node.attribute if attribute.name == "post_transform"]
    return values[0] if values else "NONE"


def _transform_note(node: onnx.NodeProto) -> str:
    return f" with post_transform {_post_transform(node)}" if node.op_type in CLASSIFIERS else ""


def _class_names(nodes: onnx.NodeProto) -> Iterator[tuple[str, ...]]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name == "classlabels_strings" and attribute.strings:
                yield tuple(value.decode() for value in attribute.strings)
            if attribute.name in {"classlabels_ints", "classlabels_int64s"} and attribute.ints:
                yield tuple(str(value) for value in attribute.ints)


def _external_files(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    tensors = external_data_helper._get_all_tensors(model)  # noqa: SLF001  # onnx has no public walk over all tensors
    infos = [external_data_helper.ExternalDataInfo(t) for t in tensors if external_data_helper.uses_external_data(t)]
    names = sorted({info.location for info in infos})
    for name in names:
        file = path.parent / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise GraphError(f"{path} keeps weights in an external file that is missing or not a plain file beside it")
        if name in PARTS:
            raise GraphError(f"{path} keeps weights in a file named like a part of a bundle: {name}; rename it")
    return tuple(names)
