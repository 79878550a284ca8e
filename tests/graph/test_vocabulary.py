import onnx
from onnx import TensorProto, helper

from service.graph.vocabulary import words_of


def looked_up(words: list[str]) -> onnx.ModelProto:
    text, codes = (
        helper.make_tensor_value_info(n, k, [None]) for n, k in (("t", TensorProto.STRING), ("c", TensorProto.INT64))
    )
    node = helper.make_node(
        "LabelEncoder", ["t"], ["c"], domain="ai.onnx.ml", keys_strings=words, values_int64s=list(range(len(words)))
    )
    return helper.make_model(helper.make_graph([node], "g", [text], [codes]))


def test_words_are_those_that_operators_look_up_once_each() -> None:
    assert words_of(looked_up(["fever", "", "cough", "fever"]), most=10) == ("fever", "cough")


def test_some_of_many_words_are_taken_from_all_of_them() -> None:
    words = words_of(looked_up([f"w{i}" for i in range(1000)]), most=64)
    assert 32 <= len(words) <= 64
    assert words[0] == "w0"
    assert words[-1] > "w9"


def test_a_graph_without_text_has_no_words() -> None:
    assert (
        words_of(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])), most=9)
        == ()
    )
