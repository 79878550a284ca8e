"""Rewrites with standard operators that give score outputs one of few shapes.

Tested in `tests/graph/test_inspect.py` and `tests/conformance/test_import.py`.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from service.errors import GraphError
from service.graph.output_evidence import LABELS
from service.graph.walk import View, attribute, origins, view

NOT_TENSORS: Final = frozenset({"ZipMap", "SequenceConstruct"})
OPSET: Final = 13  # of the default domain, for graphs that use none of its operators

Array = npt.NDArray[Any]


def expose(model: onnx.ModelProto, tensor: str) -> str:
    """Make a tensor an output; ONNX Runtime works out its type and shape."""
    expose_all(model, [tensor])
    return tensor


def expose_all(model: onnx.ModelProto, tensors: Iterable[str]) -> None:
    """Make tensors outputs, as `expose` does."""
    known = {output.name for output in model.graph.output}
    new = [name for name in dict.fromkeys(tensors) if name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; external weights stay the files that it names."""
    path.write_bytes(model.SerializeToString())


def append(
    model: onnx.ModelProto,
    operator: str,
    inputs: list[str],
    name: str,
    *,
    taken: set[str] | None = None,
    **attributes: Any,
) -> str:
    """Add an operator; the answer is the name of its output, made unique. ``taken``: see `fresh`."""
    unique = fresh(model, name, taken=taken)
    model.graph.node.append(helper.make_node(operator, inputs, [unique], **attributes))
    if all(opset.domain not in {"", "ai.onnx"} for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    return unique


def constant(model: onnx.ModelProto, value: Array, name: str, *, taken: set[str] | None = None) -> str:
    """Add an initialiser; the answer is its name, made unique. ``taken``: see `fresh`."""
    unique = fresh(model, name, taken=taken)
    model.graph.initializer.append(numpy_helper.from_array(value, unique))
    return unique


def fresh(model: onnx.ModelProto, name: str, *, taken: set[str] | None = None) -> str:
    """A tensor name that is not taken.

    ``taken`` is `names_in` of the graph, for a caller that adds many; the new name joins it.
    """
    names = names_in(model) if taken is None else taken
    unique = next(n for i in range(len(names) + 1) if (n := name if i == 0 else f"{name}_{i}") not in names)
    names.add(unique)
    return unique


def names_in(model: onnx.ModelProto) -> set[str]:
    """Names of all tensors."""
    names = {n for node in model.graph.node for n in (*node.output, *node.input)}
    return names | {v.name for v in (*model.graph.input, *model.graph.output, *model.graph.initializer)}


def simplify_outputs(model: onnx.ModelProto) -> list[str]:
    """Replace outputs that are no tensors, and per-class columns, by the tensor behind them.

    Returns
    -------
    list of str
        What was done, in sentences.
    """
    return [*_drop_zipmaps(model), *_stack_sequences(model), *_join_columns(model)]


def stack(model: onnx.ModelProto, names: tuple[str, ...]) -> str:
    """Tensors of one score each per row, side by side."""
    shape = constant(model, np.array([-1, 1], dtype=np.int64), "column_shape")
    taken = names_in(model)
    columns = [append(model, "Reshape", [name, shape], f"{name}_column", taken=taken) for name in names]
    return expose(model, append(model, "Concat", columns, "scores", axis=1))


def set_width(model: onnx.ModelProto, name: str, width: int) -> None:
    """Declare an input as rows of a given width."""
    (value,) = (v for v in model.graph.input if v.name == name)
    dims = value.type.tensor_type.shape.dim
    while len(dims) < 2:
        dims.add()
    if not dims[0].dim_value and not dims[0].dim_param:
        dims[0].dim_param = "rows"
    dims[1].ClearField("dim_param")
    dims[1].dim_value = width


def _drop_zipmaps(model: onnx.ModelProto) -> list[str]:
    outputs = {output.name for output in model.graph.output}
    maps = [n for n in model.graph.node if n.op_type == "ZipMap" and n.output[0] in outputs]
    tensors = [node.input[0] for node in maps]
    _remove(model, {node.output[0] for node in maps})
    expose_all(model, tensors)
    return [f"the ZipMap after {name!r} was dropped: that tensor is an output now" for name in tensors]


def _remove(model: onnx.ModelProto, outputs: set[str]) -> None:
    """Take outputs away, and the operators that made something else than tensors of them."""
    for i in reversed([i for i, output in enumerate(model.graph.output) if output.name in outputs]):
        del model.graph.output[i]
    made = (i for i, n in enumerate(model.graph.node) if n.op_type in NOT_TENSORS and n.output[0] in outputs)
    for i in reversed(list(made)):
        del model.graph.node[i]


def _stack_sequences(model: onnx.ModelProto) -> list[str]:
    outputs = {output.name for output in model.graph.output}
    made = [n for n in model.graph.node if n.op_type == "SequenceConstruct" and n.output[0] in outputs]
    sequences = {node.output[0]: list(node.input) for node in made}
    if not sequences:
        return []
    graph, taken = view(model), names_in(model)
    for part in chain.from_iterable(sequences.values()):
        _check_pair(graph, part)
    # rows of any other width would not fit
    pairs = constant(model, np.array([-1, 2], dtype=np.int64), "pairs", taken=taken)
    second = constant(model, np.array([1], dtype=np.int64), "second_column", taken=taken)
    stacked = {}
    for sequence, parts in sequences.items():
        paired = [append(model, "Reshape", [part, pairs], f"{part}_pairs", taken=taken) for part in parts]
        columns = [append(model, "Gather", [pair, second], f"{pair}_present", taken=taken, axis=1) for pair in paired]
        stacked[sequence] = append(model, "Concat", columns, f"{sequence}_present", taken=taken, axis=1)
    _remove(model, set(sequences))
    expose_all(model, stacked.values())
    return [
        f"the sequence {sequence!r} was replaced by {name!r}: the second column of each of its tensors"
        for sequence, name in stacked.items()
    ]


def _check_pair(graph: View, part: str) -> None:
    for node in origins(graph, part):
        names = next((v for key in LABELS if (v := attribute(node, key))), None)
        if names is not None and len(names) != 2:
            raise GraphError(
                f"the graph answers for several targets at once, and {part!r} has {len(names)} classes; only targets "
                "of two classes are labels that are present or absent: export one model per target"
            )


def _join_columns(model: onnx.ModelProto) -> list[str]:
    graph = view(model)
    parts: dict[str, list[tuple[int, str]]] = {}
    for output in model.graph.output:
        if (found := _column_of(graph, output.name)) is not None:
            parts.setdefault(found[0], []).append((found[1], output.name))
    done = []
    for tensor, columns in parts.items():
        if len(columns) > 1 and sorted(i for i, _ in columns) == list(range(len(columns))):
            _remove(model, {name for _, name in columns})
            expose(model, tensor)
            names = ", ".join(name for _, name in sorted(columns))
            done.append(f"the outputs {names} are the columns of {tensor!r}, which is an output in their place")
    return done


def _column_of(graph: View, name: str) -> tuple[str, int] | None:
    """The tensor and the number of the column that an output is, if it is one."""
    node = graph.producers.get(name)
    while node is not None and node.op_type in {"Reshape", "Squeeze", "Identity", "Flatten"}:
        graph.allowance.take()
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type not in {"Slice", "ArrayFeatureExtractor"}:
        return None
    if node.op_type == "ArrayFeatureExtractor":
        index = graph.constant(node.input[1])
        return None if index is None or index.size != 1 else (node.input[0], int(index.reshape(-1)[0]))
    starts, ends, axes = (graph.constant(n) for n in [*node.input[1:4], *[""] * 3][:3])
    if starts is None or ends is None or axes is None or [*axes.reshape(-1)] != [1] or ends.item() - starts.item() != 1:
        return None
    return node.input[0], int(starts.item())


def _flatten(model: onnx.ModelProto, name: str) -> str:
    return append(model, "Flatten", [name], f"{name}_flat", axis=1)


def _channels_last(model: onnx.ModelProto, name: str) -> str:
    return append(model, "Transpose", [name], f"{name}_channels_last", perm=[0, 2, 1])


def _pixels(model: onnx.ModelProto, name: str) -> str:
    return _pixels_last(model, append(model, "Transpose", [name], f"{name}_channels_last", perm=[0, 2, 3, 1]))


def _pixels_last(model: onnx.ModelProto, name: str) -> str:
    shape = append(model, "Shape", [name], f"{name}_shape")
    rows, classes = (
        append(
            model, "Gather", [shape, constant(model, np.array([i], dtype=np.int64), f"axis_{i}")], f"{name}_size_{i}"
        )
        for i in (0, 3)
    )
    every = constant(model, np.array([-1], dtype=np.int64), "every_position")
    shape_of_rows = append(model, "Concat", [rows, every, classes], f"{name}_positions_shape", axis=0)
    return append(model, "Reshape", [name, shape_of_rows], f"{name}_positions")


def _present(model: onnx.ModelProto, name: str) -> str:
    second = constant(model, np.array(1, dtype=np.int64), "present")
    picked = append(model, "Gather", [name, second], f"{name}_picked", axis=2)
    return append(model, "Transpose", [picked], f"{name}_present", perm=[1, 0])


def _column(index: int) -> Callable[[onnx.ModelProto, str], str]:
    def pick(model: onnx.ModelProto, name: str) -> str:
        which = constant(model, np.array([index], dtype=np.int64), "which_column")
        return append(model, "Gather", [name, which], f"{name}_second", axis=1)

    return pick


def apply(model: onnx.ModelProto, output: str, rewrite: str) -> str:
    """Append the operators of one of `REWRITES` behind an output; the answer is the new output's name."""
    return expose(model, REWRITES[rewrite][0](model, output))


REWRITES: Final[dict[str, tuple[Callable[[onnx.ModelProto, str], str], Callable[[Array], Array]]]] = {
    "flatten": (_flatten, lambda x: x.reshape(len(x), -1)),
    "channels last": (_channels_last, lambda x: x.transpose(0, 2, 1)),
    "pixels": (_pixels, lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])),
    "pixels, channels last": (_pixels_last, lambda x: x.reshape(len(x), -1, x.shape[3])),
    "labels": (_present, lambda x: x[:, :, 1].T),
    "first column": (_column(0), lambda x: x[:, [0]]),
    "second column": (_column(1), lambda x: x[:, [1]]),
}
"""By name: the operators that are appended, and what they must compute, in NumPy, for a dry run to prove them by."""
