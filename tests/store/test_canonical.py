"""What is hashed: every attribute, and nothing twice the same way."""

from dataclasses import fields, replace
from typing import Any

import pytest

from service.store.canonical import ZEROS, context_digest, link
from service.store.entries import Context, Event, Outcome, Prediction

PREDICTION = Prediction(
    "id", 1, "caller", None, None, 1, 2, b"context", b"columns", b"digests", None, b"subjects", None, "key"
)
OUTCOME = Outcome("id", 0, '"yes"', 1, 2, None, "routine", "caller", arrival=3)
EVENT = Event(1, "alias", "{}")
CONTEXT = Context(b"", "decide", "m", 1, "a", "b", "c", None, None, None, "{}", "{}", "multiclass", None, b"basis")


def other(value: Any) -> Any:
    """Another value of the same type; of none, a text."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value + b"+" if isinstance(value, bytes) else f"{value}+"


@pytest.mark.parametrize("entry", [PREDICTION, OUTCOME, EVENT], ids=lambda entry: type(entry).__name__)
def test_every_attribute_of_an_entry_moves_its_link(entry: Any) -> None:
    blobs = {"ids", "groups"}
    for field in fields(entry):
        value = getattr(entry, field.name)
        changed = replace(entry, **{field.name: b"x" if field.name in blobs else other(value)})
        assert link(ZEROS, changed) != link(ZEROS, entry), field.name


def test_every_attribute_of_a_context_moves_its_digest() -> None:
    for field in fields(CONTEXT)[1:]:
        value = getattr(CONTEXT, field.name)
        own: Any = {"schema": b"schema", "shadow_of": 1}.get(field.name) if value is None else None
        change: dict[str, Any] = {field.name: own or other(value)}
        assert context_digest(replace(CONTEXT, **change)) != context_digest(CONTEXT), field


def test_a_link_depends_on_the_one_before() -> None:
    assert link(b"\1" * 32, EVENT) != link(ZEROS, EVENT)


def test_bytes_that_move_from_one_field_to_the_next_move_the_link() -> None:
    moved = replace(PREDICTION, columns=b"column", row_digests=b"sdigests")
    assert link(ZEROS, moved) != link(ZEROS, PREDICTION)
