"""JSON schemas of reports, from the types of their dataclasses and the attributes of their docstrings."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SECTION = "Attributes\n----------\n"
ENTRY = re.compile(r"^(\w+(?:, \w+)*) : ", re.MULTILINE)
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(kind: Any) -> dict[str, Any]:
    """Schema of a value of a type: dataclasses become objects, their docstrings descriptions.

    Parameters
    ----------
    kind : type
        A dataclass, a scalar, or a ``dict``, ``list``, ``tuple`` or union of such.

    Raises
    ------
    TypeError
        For any other type.

    Examples
    --------
    >>> json_schema(dict[str, float])
    {'type': 'object', 'additionalProperties': {'type': 'number'}}
    >>> json_schema(int | None)
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    """
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _object(kind)
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if origin in (Union, UnionType):
        return _union(inner)
    if origin is Literal:
        return {"type": "string", "enum": list(inner)}
    if origin is dict:
        return {"type": "object", "additionalProperties": json_schema(inner[1])}
    if origin in (list, tuple):
        return {"type": "array", "items": json_schema(inner[0])}
    raise TypeError(f"{kind} is no part of a report")


def descriptions(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field; its first line for a field that it does not describe.

    Parameters
    ----------
    kind : type
    """
    text = "\n".join(line.removeprefix("    ") for line in (kind.__doc__ or "").splitlines())
    summary, _, attributes = text.partition(SECTION)
    found = dict(_entries(attributes))
    first = summary.strip().splitlines()[0]
    return {field.name: found.get(field.name) or first for field in fields(kind)}


def _entries(attributes: str) -> Iterator[tuple[str, str]]:
    names: list[str] = []
    for block in re.split(r"\n(?=\w)", attributes):
        head, _, body = block.partition("\n")
        match = ENTRY.match(head)
        names = match.group(1).split(", ") if match else names
        yield from ((name, " ".join(body.split())) for name in names)


def _object(kind: type) -> dict[str, Any]:
    hints, about = get_type_hints(kind), descriptions(kind)
    properties = {
        field.name: {**json_schema(hints[field.name]), "description": about[field.name]} for field in fields(kind)
    }
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().splitlines()[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _union(kinds: tuple[Any, ...]) -> dict[str, Any]:
    schemas = [{"type": "null"} if kind is NoneType else json_schema(kind) for kind in kinds]
    return {"anyOf": schemas}
