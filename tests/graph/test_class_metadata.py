"""Class names in a model's metadata are evidence where they are a flat literal, and nothing else ever is."""

import onnx
import pytest

from service.graph.class_metadata import class_names
from tests.graph.mutants import seeds

THREE = ("tench", "goldfish", "shark, white")


def written(key: str, value: str) -> onnx.ModelProto:
    """A model with one entry of metadata."""
    model: onnx.ModelProto = onnx.ModelProto.FromString(seeds()["softmax"].SerializeToString())
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value
    return model


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'tench', 1: 'goldfish', 2: 'shark, white'}"),
        ("id2label", '{"0": "tench", "2": "shark, white", "1": "goldfish"}'),
        ("classes", '["tench", "goldfish", "shark, white"]'),
        ("labels", "('tench', 'goldfish', 'shark, white')"),
        ("Labels", "tench\ngoldfish\nshark, white\n"),
        ("classes", "tench;goldfish;shark, white"),
        ("classes", "tench\tgoldfish\tshark, white"),
        ("labels", "tench|goldfish|shark, white|"),
        ("names", '\ufeff[" tench", "goldfish ", "shark, white"]'),
        ("names", "{'goldfish': 1, 'tench': 0, 'shark, white': 2}"),
        ("class_to_idx", '{"goldfish": 1, "tench": 0, "shark, white": 2}'),
        ("label2id", '{"goldfish": 1, "tench": 0, "shark, white": 2}'),
    ],
)
def test_a_flat_literal_names_the_classes(key: str, value: str) -> None:
    ((names, where),) = class_names(written(key, value))
    assert names == THREE
    assert key.lower() in where


@pytest.mark.parametrize(
    "value",
    [
        "{0: 'a', 2: 'b'}",
        "{1: 'a', 2: 'b'}",
        "{'a': 0.5, 'b': None}",
        "[['a'], ['b']]",
        "['a', 'a']",
        "['a', '']",
        "['only']",
        '["a", "b\\u001b[31m"]',
        '["a", "b\\nc"]',
        '["a", "\\ud800"]',
        '{"0": "a", "0": "b", "1": "c"}',
        "{0: 'a', 0: 'b', 1: 'c'}",
        "__import__('os').system('true')",
        "{0: 'a', 1: open('x')}",
        "(" * 5000,
        "[" * 100_000,
        "{0: 'a', 1: " + "'b' * 9}",
        "\x00",
        "",
        "3",
        f"['a', '{'b' * 201}']",
    ],
)
def test_anything_else_names_nothing(value: str) -> None:
    assert class_names(written("names", value)) == ()


def test_whole_numbers_are_names_too() -> None:
    ((names, _),) = class_names(written("classes", "[10, 20]"))
    assert names == ("10", "20")
