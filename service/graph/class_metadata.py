"""Class names that an exporter wrote into a model's metadata: flat literals, read and never evaluated."""

import ast
import json
from collections.abc import Iterator
from typing import Any, Final

import onnx

KEYS: Final = (
    *("names", "classes", "labels", "id2label", "class_names", "label_names", "class_labels", "classlabels"),
    *("target_names", "label2id", "class_to_idx"),
)
LONGEST: Final = 2**20  # a literal takes some 250 times its size while it is parsed
NAME_LENGTH: Final = 200
SEPARATORS: Final = ("\n", ";", "\t", "|", ",")
UNREADABLE: Final = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)

Named = tuple[tuple[str, ...], str]


def class_names(model: onnx.ModelProto) -> tuple[Named, ...]:
    """Class names in output order, and where they stand: one after the other of the entries that hold some."""
    found = []
    for key, value in _entries(model):
        names = _names(_literal(value))
        if names is not None:
            found.append((names, f"the file's metadata, {key!r}"))
    return tuple(found)


def _entries(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    held = {entry.key.lower(): entry.value for entry in model.metadata_props}
    yield from ((key, held[key]) for key in KEYS if key in held and len(held[key]) <= LONGEST)


def _literal(text: str) -> Any:
    """The value of JSON or a Python literal; the parts of a plain list between commas or lines; else None."""
    text = text.lstrip("\ufeff")
    for read in (_from_json, _from_python):
        try:
            return read(text)
        except UNREADABLE:
            continue
    if any(sign in text for sign in "{}[]()"):
        return None
    separator = next((sign for sign in SEPARATORS if sign in text.strip()), ",")
    return text.strip().removesuffix(separator).split(separator)


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """An object; None where a key is there twice."""
    return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else None


def _from_python(text: str) -> Any:
    tree = ast.parse(text.strip(), mode="eval")
    value = ast.literal_eval(tree)
    return None if isinstance(tree.body, ast.Dict) and len(tree.body.keys) != len(value) else value


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        value = _in_order(value) or _in_order(_turned(value))
    if not isinstance(value, list | tuple) or len(value) < 2:
        return None
    texts = tuple(str(name) if type(name) is int else name for name in value)
    if not all(isinstance(name, str) for name in texts):
        return None
    names = tuple(name.strip() for name in texts)
    sound = all(0 < len(name) <= NAME_LENGTH and name.isprintable() for name in names)
    return names if sound and len(set(names)) == len(names) else None


def _turned(value: dict[Any, Any]) -> dict[Any, Any]:
    """Indices and names of a dict from every name to its index; empty for any other."""
    turned = {index: name for name, index in value.items() if type(index) in {int, str}}
    return turned if len(turned) == len(value) else {}


def _in_order(value: dict[Any, Any]) -> list[Any] | None:
    """Values of a dict whose keys are 0 to K - 1."""
    numbers = [str(key) for key in value]
    if sorted(numbers) != sorted(map(str, range(len(value)))):
        return None
    held = dict(zip(numbers, value.values(), strict=True))
    return [held[str(i)] for i in range(len(held))]
