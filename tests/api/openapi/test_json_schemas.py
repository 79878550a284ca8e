"""Docstrings become the descriptions of schemas."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field

from service.api.openapi.json_schemas import components, documented


class Base(BaseModel):
    """A base.

    Attributes
    ----------
    first, second : int
        One of two.
    """

    first: int
    second: int = 2


class Own(Base):
    """Prose that takes
    two lines.

    And a second paragraph.

    Attributes
    ----------
    third : str or None
        A text
        of two lines.
    fourth : int
        Not this.

    Notes
    -----
    These are not read.
    """

    third: str | None
    fourth: Annotated[int, Field(description="This.")]
    fifth: Annotated[str, Field(description="Of a branch.")] | None = None


@dataclass(frozen=True)
class Value:
    """A value.

    Attributes
    ----------
    size : int
        How large it is.
    """

    size: int


def test_prose_and_attributes_of_a_docstring_are_separated() -> None:
    prose, attributes = documented(Own)
    assert prose == "Prose that takes two lines.\n\nAnd a second paragraph."
    assert attributes["third"] == "A text of two lines."
    assert attributes["first"] == attributes["second"] == "One of two."


def test_a_field_is_described_by_itself_or_else_by_its_class_or_by_a_branch_of_its_union() -> None:
    schema = components([(Own, "serialization")])["Own"]
    described = {name: entry.get("description") for name, entry in schema["properties"].items()}
    assert described == {
        "first": "One of two.",
        "second": "One of two.",
        "third": "A text of two lines.",
        "fourth": "This.",
        "fifth": "Of a branch.",
    }
    assert schema["description"] == "Prose that takes two lines.\n\nAnd a second paragraph."


def test_dataclasses_are_described_as_models_are() -> None:
    schema = components([(Value, "serialization")])["Value"]
    assert schema["properties"]["size"]["description"] == "How large it is."
