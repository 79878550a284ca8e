"""Reading an .onnx file, or the one sentence why not. Nothing in it is run, unpickled or followed.

Tested in `tests/graph/test_inspect.py` and `tests/graph/test_wellformed.py`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import external_data_helper

from service.errors import GraphError
from service.graph.external_weights import external_files, is_file, location_of, place_of
from service.graph.walk import every_node
from service.graph.wellformed import EXAMINE, faults

FOREIGN: Final[tuple[tuple[bytes, str], ...]] = (
    (b"version https://git-lfs", "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"<", "it looks like a web page; the download failed"),
    (b"\x80", "it looks like a pickle, which is never opened; export the model to ONNX first"),
    (b"PK", "it is an archive, such as torch.save writes; export the model with torch.onnx.export"),
    (b"{", "it looks like JSON; export the model to ONNX first"),
)
STANDARD: Final = ("", "ai.onnx", "ai.onnx.ml")
WEIGHTS: Final = frozenset({"coefficients", "intercepts", "base_values", "support_vectors", "rho", "target_weights"})
FLOAT_TYPES: Final = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)
HEAD = 512
LARGEST_FILE: Final = 2**31 - 1
"""Bytes of a protobuf."""

PART: Final = 2**20
"""Numbers that are looked at together."""

MALFORMED: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, StopIteration, EncodeError),
    MemoryError,
)
"""What reading a graph raises when it is not what ONNX defines."""


def load_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without its external weights.

    Raises
    ------
    GraphError
        If the file is no ONNX graph, is newer than what runs it, or holds weights that are no numbers.
    """
    if not is_file(path):
        raise GraphError(f"{path} does not exist, or is no regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise GraphError(
            f"{path} has more than 2 GiB, which no ONNX file can have; export it with external weights (torch: "
            "external_data=True)"
        )
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)  # whatever its suffix
    except DecodeError:
        raise GraphError(f"{path} is no ONNX file: {_looks(path)}") from None
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error.strerror}") from None
    if not model.graph.node or not model.graph.output:
        raise GraphError(f"{path} is no ONNX file, or its graph is empty: {_looks(path)}")
    with readable(path):
        _check_versions(model, path)
        _check_operators(model, path)
        _check_definitions(model, path)
        _check_weights(model, path)
    return model


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn every error on a graph that contradicts ONNX into GraphError."""
    try:
        yield
    except MALFORMED as error:
        raise GraphError(
            f"{path}: its graph cannot be read as ONNX defines it ({type(error).__name__}); {EXAMINE}, and report it "
            "if it passes"
        ) from error


def _looks(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD).lstrip()
    if not head:
        return "it is empty"
    reasons = (reason for magic, reason in FOREIGN if head.startswith(magic))
    return next(reasons, "it cannot be decoded; it may be cut short or damaged, so copy it again")


def _check_versions(model: onnx.ModelProto, path: Path) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise GraphError(
            f"{path} has IR version {model.ir_version}, this release reads up to {onnx.IR_VERSION}; "
            "export it with an older release of onnx"
        )
    newest_of = {domain: _newest("" if domain == "ai.onnx" else domain) for domain in STANDARD}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if domain in STANDARD and opset.version > (newest := newest_of[domain]):
            named = f"opset {domain} {opset.version}" if domain else f"opset {opset.version}"
            raise GraphError(
                f"{path} has {named}, this release runs up to {newest}; export it with opset_version={newest} or lower"
            )


def _newest(domain: str) -> int:
    """The newest version of a standard domain that the installed onnx defines."""
    if not domain:
        return int(onnx.defs.onnx_opset_version())
    return max(int(schema.since_version) for schema in onnx.defs.get_all_schemas() if schema.domain == domain)


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in every_node(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain in STANDARD and not onnx.defs.has(node.op_type, domain) and (node.domain, node.op_type) not in own:
            raise GraphError(
                f"{path} uses the operator {node.op_type}, which ONNX does not have; "
                "export the model with standard operators"
            )


def _check_definitions(model: onnx.ModelProto, path: Path) -> None:
    if fault := next(faults(model), None):
        raise GraphError(f"{path}: {fault}; {EXAMINE}")


def _check_weights(model: onnx.ModelProto, path: Path) -> None:
    external_files(model, path)
    for tensor in model.graph.initializer:
        # A lone NaN is what a graph compares with, not a weight.
        if tensor.data_type in FLOAT_TYPES and math.prod(tensor.dims) > 1 and _has_nan(tensor, path.parent):
            raise GraphError(f"{path}: the weights {tensor.name!r} hold NaN; the training went wrong, so export again")
    for node in every_node(model.graph):
        for found in node.attribute:
            if found.name in WEIGHTS and np.isnan(np.array(found.floats)).any():
                raise GraphError(f"{path}: {node.op_type} has NaN among its {found.name}; export the model again")


def _has_nan(tensor: onnx.TensorProto, folder: Path) -> bool:
    if not external_data_helper.uses_external_data(tensor):
        return _holds_nan(onnx.numpy_helper.to_array(tensor).reshape(-1))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    offset, _ = place_of(tensor)
    return _holds_nan(
        np.memmap(folder / location_of(tensor), dtype, mode="r", offset=offset, shape=(math.prod(tensor.dims),))
    )


def _holds_nan(values: npt.NDArray[Any]) -> bool:
    """Part by part: a copy of all weights may be larger than memory."""
    parts = (values[start : start + PART] for start in range(0, len(values), PART))
    return any(bool(np.isnan(part.astype(np.float32, copy=False)).any()) for part in parts)
