"""Class names that an exporter wrote into a model's metadata: flat literals, read and never evaluated."""

import ast
import json
from collections.abc import Iterator
from typing import Any, Final

import onnx

KEYS: Final = ("names", "classes", "labels", "id2label", "class_names", "label_names")
BACKWARDS: Final = "label2id"
LONGEST: Final = 2**22
NAME_LENGTH: Final = 200
UNREADABLE: Final = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)


def class_names(model: onnx.ModelProto) -> tuple[tuple[str, ...], str] | None:
    """Class names in output order, and where they stand."""
    for key, value in _entries(model):
        names = _names(_backwards(_literal(value)) if key == BACKWARDS else _literal(value))
        if names is not None:
            return names, f"the file's metadata, {key!r}"
    return None


def _entries(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    held = {entry.key.lower(): entry.value for entry in model.metadata_props}
    yield from ((key, held[key]) for key in (*KEYS, BACKWARDS) if key in held and len(held[key]) <= LONGEST)


def _literal(text: str) -> Any:
    """What JSON or a Python literal says; the parts of a plain list between commas or lines; None for anything else."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except UNREADABLE:
            continue
    if any(sign in text for sign in "{}[]()"):
        return None
    parts = text.strip().splitlines() if "\n" in text.strip() else text.split(",")
    return [part.strip() for part in parts]


def _backwards(value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return None
    turned = {index: name for name, index in value.items() if isinstance(index, int | str)}
    return turned if len(turned) == len(value) else None


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        value = _in_order(value)
    if not isinstance(value, list | tuple) or len(value) < 2:
        return None
    texts = tuple(str(name) if type(name) is int else name for name in value)
    sound = all(isinstance(name, str) and 0 < len(name) <= NAME_LENGTH and name.strip() for name in texts)
    return texts if sound and len(set(texts)) == len(texts) else None


def _in_order(value: dict[Any, Any]) -> list[Any] | None:
    """Values of a dict whose keys are 0 to K - 1."""
    numbers = [str(key) for key in value]
    if sorted(numbers) != sorted(map(str, range(len(value)))):
        return None
    held = dict(zip(numbers, value.values(), strict=True))
    return [held[str(i)] for i in range(len(held))]
