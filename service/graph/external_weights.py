"""Weights that a graph keeps in files beside it: which files, and whether every tensor lies within its own.

Tested in `tests/graph/test_external_weights.py`.
"""

import math
from pathlib import Path

import onnx
from onnx import external_data_helper

from service.bundle.sums import PARTS
from service.errors import GraphError
from service.graph.wellformed import PACKED, every_tensor


def external_files(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Names of the weight files that belong to a graph.

    Raises
    ------
    GraphError
        If one is missing, lies outside the graph's own folder, is no regular file, or does not hold the tensors that
        are said to be in it. Symbolic links are followed.
    """
    sizes: dict[str, int] = {}
    for tensor in every_tensor(model):
        if external_data_helper.uses_external_data(tensor):
            name = location_of(tensor)
            if name not in sizes:
                sizes[name] = _size(path, name)
            _check_place(tensor, path.parent / name, sizes[name])
    return tuple(sorted(sizes))


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or none that a file can have
        return False


def location_of(tensor: onnx.TensorProto) -> str:
    """Name of the file that holds a tensor; empty if none is given."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def place_of(tensor: onnx.TensorProto) -> tuple[int, int]:
    """Offset and length in bytes of a tensor in its file, by the graph; the length by its shape if none is given."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = given.get("offset") or "0", given.get("length") or str(_bytes(tensor))
    return int(offset), int(length)


def _size(path: Path, name: str) -> int:
    if Path(name).name != name or not is_file(path.parent / name):
        raise GraphError(
            f"{path} keeps weights in an external file that is missing, or no regular file (nor a link to one) "
            "beside it; copy both files into one folder, or export with the weights inside (torch: "
            "external_data=False)"
        )
    if name in PARTS:
        raise GraphError(f"{path} keeps weights in a file named like a part of a bundle: {name}; rename it")
    return (path.parent / name).stat().st_size


def _check_place(tensor: onnx.TensorProto, file: Path, size: int) -> None:
    try:
        offset, length = place_of(tensor)
    except ValueError:
        raise GraphError(f"{file}: the place of the weights {tensor.name!r} in it is no number; export again") from None
    if offset < 0 or length < 0:
        raise GraphError(f"{file}: the place of the weights {tensor.name!r} in it is negative; export the model again")
    if tensor.data_type not in PACKED and length != _bytes(tensor):
        raise GraphError(
            f"{file}: the weights {tensor.name!r} in it have {length} bytes, and their shape needs {_bytes(tensor)}; "
            "export the model again"
        )
    if offset + length > size:
        raise GraphError(f"{file} is shorter than the weights {tensor.name!r} in it; copy it again")


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(math.prod(tensor.dims)) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
