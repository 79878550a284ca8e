from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.bundle.guards import Kinds
from service.bundle.repository import Repository
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.importer.input_kinds import kinds_of


def mixed_graph(path: Path) -> Path:
    """Logits of a number, a text and an image of 2 by 2 by 1."""
    nodes = [
        helper.make_node("Equal", ["sex", "female"], ["is_female"]),
        helper.make_node("Cast", ["is_female"], ["coded"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("ReduceSum", ["pixels", "one"], ["light"], keepdims=1),
        helper.make_node("Sum", ["age", "coded", "light"], ["total"]),
        helper.make_node("Neg", ["total"], ["minus"]),
        helper.make_node("Concat", ["minus", "total"], ["z"], axis=1),
        helper.make_node("Softmax", ["z"], ["p"]),
    ]
    female = numpy_helper.from_array(np.array(["female"], dtype=object), "female")
    inputs = [
        helper.make_tensor_value_info("age", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("sex", TensorProto.STRING, [None, 1]),
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 2, 2, 1]),
    ]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [female, numpy_helper.from_array(np.array([1]), "one")])
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_numbers_texts_and_tensors_are_distinguished_at_import_and_in_a_bundle(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    imported = import_model(repository, "m", mixed_graph(tmp_path / "m.onnx"), Declared())
    assert imported.kinds == Kinds(numbers=("age",), texts=("sex",), tensors=("image",))
    assert kinds_of(repository.draft("m")) == imported.kinds
