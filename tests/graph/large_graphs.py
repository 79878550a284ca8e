"""Graphs of very many operators, tensors, inputs or outputs, for which a walk over all of them for each never ends."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.mutants import FLOAT, INT64, info, model, node, tensor

Build = Callable[[int], onnx.ModelProto]
X: Final = [info("x", FLOAT, ["N", 2])]
CODES: Final = [info("x", INT64, ["N", 2])]
S: Final = [info("s", FLOAT, ["N", 2])]


def _links(count: int) -> list[tuple[str, str]]:
    names = ["x", *(f"t{i}" for i in range(count - 1)), "s"]
    return list(pairwise(names))


def _chain(operator: str, second: str = "", constants: tuple[TensorProto, ...] = (), **attributes: Any) -> Build:
    def build(count: int) -> onnx.ModelProto:
        nodes = [node(operator, f"{a} {second}", b, **attributes) for a, b in _links(count)]
        return model(nodes, X, S, constants)

    return build


def _fan(operator: str, join: str, *, inputs: Sequence[onnx.ValueInfoProto] = X, **attributes: Any) -> Build:
    def build(count: int) -> onnx.ModelProto:
        many = [node(operator, "x", f"t{i}") for i in range(count)]
        return model([*many, node(join, " ".join(f"t{i}" for i in range(count)), "s", **attributes)], list(inputs), S)

    return build


def _outputs(count: int) -> onnx.ModelProto:
    nodes = [node("Softmax", "x", f"s{i}") for i in range(count)]
    return model(nodes, X, [info(f"s{i}", FLOAT, ["N", 2]) for i in range(count)])


def _outputs_of_a_chain(count: int) -> onnx.ModelProto:
    nodes = [node("Identity", a, b) for a, b in _links(count)]
    return model(nodes, X, [info(b, FLOAT, ["N", 2]) for _, b in _links(count)])


def _maps(count: int) -> onnx.ModelProto:
    maps = [node("ZipMap", "p", f"s{i}", classlabels_int64s=[0, 1]) for i in range(count)]
    return model([node("Softmax", "x", "p"), *maps], X, [info(f"s{i}", FLOAT, ["N", 2]) for i in range(count)])


def _columns(count: int) -> onnx.ModelProto:
    picks = [node("ArrayFeatureExtractor", f"p i{i}", f"s{i}") for i in range(count)]
    constants = [tensor("W", np.ones((2, count))), *(tensor(f"i{i}", np.array([i])) for i in range(count))]
    outputs = [info(f"s{i}", FLOAT, ["N", 1]) for i in range(count)]
    return model([node("MatMul", "x W", "p"), *picks], X, outputs, tuple(constants))


def _sequence(count: int) -> onnx.ModelProto:
    parts = [node("Softmax", "x", f"p{i}") for i in range(count)]
    joined = node("SequenceConstruct", " ".join(f"p{i}" for i in range(count)), "s")
    return model([*parts, joined], X, [helper.make_tensor_sequence_value_info("s", FLOAT, None)])


def _inputs(count: int) -> onnx.ModelProto:
    joined = node("Concat", " ".join(f"x{i}" for i in range(count)), "s", axis=1)
    return model([joined], [info(f"x{i}", FLOAT, ["N", 1]) for i in range(count)], S)


def _initialisers(count: int) -> onnx.ModelProto:
    return model([node("Softmax", "x", "s")], X, S, tuple(tensor(f"w{i}", [1.0]) for i in range(5 * count)))


def _opsets(count: int) -> onnx.ModelProto:
    made = model([node("Softmax", "x", "s")], X, S)
    made.opset_import.extend(helper.make_opsetid("ai.onnx.ml", 3) for _ in range(5 * count))
    return made


def _attributes(count: int) -> onnx.ModelProto:
    made = model([node("Softmax", "x", "s")], X, S)
    made.graph.node[0].attribute.extend(helper.make_attribute(f"a{i}", i) for i in range(5 * count))
    return made


def _tables(count: int) -> onnx.ModelProto:
    nodes = [node("Gather", f"T {a}", b) for a, b in _links(count)]
    return model(nodes, CODES, S, (tensor("T", np.arange(10)),))


def _computed_tables(count: int) -> onnx.ModelProto:
    nodes = []
    for i, (a, b) in enumerate(_links(count // 2)):
        nodes += [node("Add", "T one", f"T{i}"), node("Gather", f"T{i} {a}", b)]
    return model(nodes, CODES, S, (tensor("T", np.arange(10)), tensor("one", np.array([1]))))


def _differences(count: int) -> onnx.ModelProto:
    nodes = [node("Sub", "x one", f"t{i}") for i in range(count)]
    return model([*nodes, node("Sum", " ".join(f"t{i}" for i in range(count)), "s")], X, S, (tensor("one", [1, 1.5]),))


def _functions(count: int) -> onnx.ModelProto:
    """Functions of which each calls the next twice: written out they are 2^count operators."""
    made = model([helper.make_node("f0", ["x"], ["s"], domain="my")], X, S)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    made.opset_import.append(opsets[1])
    for i in range(count // 100):
        inner, domain = (f"f{i + 1}", "my") if i + 1 < count // 100 else ("Relu", "")
        calls = [helper.make_node(inner, [a], [b], domain=domain) for a, b in (("a", "b"), ("b", "c"))]
        made.functions.append(helper.make_function("my", f"f{i}", ["a"], ["c"], calls, opsets))
    return made


def _one_large_constant(count: int) -> onnx.ModelProto:
    nodes = [node("Mul", f"{a} w", b) for a, b in _links(count)]
    return model(nodes, X, S, (numpy_helper.from_array(np.ones((100_000, 2), np.float32), "w"),))


LARGE: Final[dict[str, Build]] = {
    "a chain that passes on": _chain("Identity"),
    "a chain of casts": _chain("Cast", to=FLOAT),
    "a chain of functions": _chain("Relu"),
    "a chain of softmaxes": _chain("Softmax"),
    "a chain of sums": _chain("Add", "one", (tensor("one", [1.0, 2.0]),)),
    "readers that pass on": _fan("Identity", "Sum"),
    "a joined fan": _fan("Relu", "Concat", axis=1),
    "outputs": _outputs,
    "outputs of a chain": _outputs_of_a_chain,
    "maps": _maps,
    "columns": _columns,
    "a sequence": _sequence,
    "inputs": _inputs,
    "initialisers": _initialisers,
    "opsets": _opsets,
    "attributes": _attributes,
    "tables behind tables": _tables,
    "computed tables": _computed_tables,
    "differences": _differences,
    "functions that call functions": _functions,
    "one large constant": _one_large_constant,
}
