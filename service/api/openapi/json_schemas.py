"""JSON schemas of types; every property is described by the numpydoc docstring of its class.

A class is described where it is defined: the paragraphs of its docstring become the description of its schema, and the
entries of its ``Attributes`` section those of its properties. A description that a field states itself comes first.
Fields of manifests and records are described in `bundle_fields`.
"""

import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from service.api.openapi.bundle_fields import FIELDS

Json = dict[str, Any]

REF: Final = "#/components/schemas/{model}"
UNDERLINE: Final = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)
ENTRY: Final = re.compile(r"^(?P<names>\w[\w, ]*?)(?: : .*)?$")


class DescribedSchemas(GenerateJsonSchema):
    """Pydantic's schemas, with the descriptions of docstrings."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Schema of a pydantic model."""
        return described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Schema of a dataclass."""
        return described(super().dataclass_schema(schema), schema["cls"])


def reference(name: str) -> Json:
    """Reference to a schema among the components."""
    return {"$ref": REF.format(model=name)}


def components(types: Iterable[tuple[Any, str]]) -> Json:
    """Schemas of types and of all that they are made of, by name.

    Parameters
    ----------
    types : iterable of (type, mode)
        The mode is ``validation`` for what is read, ``serialization`` for what is written.
    """
    inputs = [(place, mode, TypeAdapter(kind)) for place, (kind, mode) in enumerate(types)]
    _, document = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=DescribedSchemas)  # type: ignore[arg-type]  # the mode is a literal
    found: Json = document["$defs"]
    return found


def described(schema: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    """A class' schema with the descriptions in its docstring, of itself and of its properties."""
    prose, attributes = documented(kind)
    if prose:
        schema["description"] = prose
    for name, entry in schema.get("properties", {}).items():
        text = entry.get("description") or attributes.get(name) or _of_a_branch(entry)
        if text:
            entry["description"] = text
    return schema


@cache
def documented(kind: type) -> tuple[str, dict[str, str]]:
    """The prose of a class' docstring, and its ``Attributes``; those of its bases too."""
    prose, attributes = _sections(inspect.cleandoc(kind.__doc__ or ""))
    inherited = [documented(base)[1] for base in kind.__bases__ if base is not object]
    every = (*inherited, FIELDS.get(kind, {}), attributes)
    return prose, {name: text for own in every for name, text in own.items()}


def _of_a_branch(schema: Json) -> str | None:
    # An optional value is a union with null, and its description stands in the other branch.
    branches = [branch for key in ("anyOf", "oneOf") for branch in schema.get(key, ())]
    found = (branch.get("description") or _of_a_branch(branch) for branch in branches)
    return next(filter(None, found), None)


def _sections(text: str) -> tuple[str, dict[str, str]]:
    prose, *rest = UNDERLINE.split(text)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    paragraphs = [" ".join(paragraph.split()) for paragraph in prose.split("\n\n")]
    return "\n\n".join(filter(None, paragraphs)), _entries(sections.get("Attributes", ""))


def _entries(section: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line.startswith(" "):
            for name in names:
                found.setdefault(name, []).append(line.strip())
        elif (entry := ENTRY.match(line)) is not None:
            names = [name.strip() for name in entry["names"].split(",")]
    return {name: " ".join(lines) for name, lines in found.items()}
