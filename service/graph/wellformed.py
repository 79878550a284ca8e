"""Whether a graph keeps to ONNX's own definitions, on which every reader of it relies."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Final

import onnx
from onnx import defs

from service.graph.ordering import order_faults
from service.graph.walk import every_node

KINDS: Final = onnx.AttributeProto.AttributeType
PACKED: Final = frozenset(
    number for name, number in onnx.TensorProto.DataType.items() if name.startswith(("INT4", "UINT4", "INT2", "UINT2"))
) | frozenset(number for name, number in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT4", "FLOAT6")))
"""Types of which several elements share a byte."""

ABSENT: Final = ("", "ai.onnx")
EXAMINE: Final = "check the file with onnx.checker.check_model and export it again"


def faults(model: onnx.ModelProto) -> Iterator[str]:
    """What in a graph contradicts ONNX, in words, one after the other.

    Operators that ONNX does not define are left to the runtime.
    """
    versions = {opset.domain: opset.version for opset in model.opset_import}
    for node in every_node(model.graph):
        schema = _schema(node, versions)
        if schema is not None:
            yield from _attribute_faults(node, schema)
            yield from _arity_faults(node, schema)
    for tensor in every_tensor(model):
        yield from _tensor_faults(tensor)
    yield from order_faults(model.graph)


def _schema(node: onnx.NodeProto, versions: dict[str, int]) -> defs.OpSchema | None:
    domain = "" if node.domain in ABSENT else node.domain
    version = versions.get(domain, versions.get("ai.onnx" if domain == "" else domain, 1))
    if not defs.has(node.op_type, domain):
        return None
    try:
        return defs.get_schema(node.op_type, min(version, 2**31 - 1), domain)
    except (defs.SchemaError, TypeError):
        return None  # an operator that this opset does not have: the runtime names it


def _attribute_faults(node: onnx.NodeProto, schema: defs.OpSchema) -> Iterator[str]:
    given = {found.name: found for found in node.attribute}
    if len(given) < len(node.attribute):
        yield f"{node.op_type} has an attribute twice"
    for name, found in given.items():
        defined = schema.attributes.get(name)
        if defined is None:
            yield f"{node.op_type} has an attribute {name!r}, which ONNX does not define"
        elif (given_kind := _kind(found.type)) != (kind := str(defined.type).rpartition(".")[2]):
            yield f"{node.op_type}'s {name} is {given_kind}, ONNX defines it as {kind}"
        elif not _holds_its_type(found):
            yield f"{node.op_type}'s {name} does not hold what its type declares"


def _kind(number: int) -> str:
    return KINDS.Name(number) if number in KINDS.values() else f"of type {number}"


def _holds_its_type(found: onnx.AttributeProto) -> bool:
    texts = [found.s] if found.type == KINDS.Value("STRING") else found.strings
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        return False
    field = {"TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "sparse_tensor"}.get(KINDS.Name(found.type))
    return field is None or found.HasField(field)


def _arity_faults(node: onnx.NodeProto, schema: defs.OpSchema) -> Iterator[str]:
    for word, names, least, most in (
        ("inputs", node.input, schema.min_input, schema.max_input),
        ("outputs", node.output, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most:
            yield f"{node.op_type} has {len(names)} {word}"


def every_tensor(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Constants of a graph, of the graphs inside it and of its functions, sparse ones as their values and indices."""
    yield from _initialisers(model.graph)
    own = (onnx.GraphProto(node=function.node) for function in model.functions)
    for node in chain(every_node(model.graph), *map(every_node, own)):
        for found in node.attribute:
            yield from ([found.t] if found.HasField("t") else [])
            yield from found.tensors
            for sparse in (*([found.sparse_tensor] if found.HasField("sparse_tensor") else []), *found.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (*([found.g] if found.HasField("g") else []), *found.graphs):
                yield from _initialisers(inner)


def _initialisers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _tensor_faults(tensor: onnx.TensorProto) -> Iterator[str]:
    what = f"the tensor {tensor.name!r}" if tensor.name else "a tensor"
    if tensor.data_type not in onnx.TensorProto.DataType.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        yield f"{what} is of a type that ONNX does not define"
    elif any(size < 0 for size in tensor.dims):
        yield f"{what} has a negative size"
    elif tensor.data_location != onnx.TensorProto.EXTERNAL and not _is_full(tensor):
        yield f"{what} holds another number of elements than its shape declares"


def _is_full(tensor: onnx.TensorProto) -> bool:
    count = int(math.prod(tensor.dims))  # of Python's integers: no product of sizes overflows
    if tensor.data_type == onnx.TensorProto.STRING:
        return len(tensor.string_data) == count
    if tensor.HasField("raw_data"):
        return tensor.data_type in PACKED or len(tensor.raw_data) == count * _width(tensor)
    complex_parts = 2 if tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128) else 1
    if tensor.data_type in PACKED:
        return True
    held = getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type))
    return len(held) == count * complex_parts


def _width(tensor: onnx.TensorProto) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
