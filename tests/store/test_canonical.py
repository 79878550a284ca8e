"""The bytes that are hashed: whatever is kept of an entry changes its link."""

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest

from service.store.canonical import ZEROS, anchor_bytes, context_digest, link, stream_link
from service.store.entries import Anchor, Event, Outcome, Prediction
from tests.record.sample import context

ENTRIES = (
    Prediction("r", 1, "c", "x", "t", 1, 2, bytes(32), b"columns", b"digest", b"ids", b"subjects", b"groups", "k", "s"),
    Outcome("r", 0, '"a"', 1, 2, "source", "routine", "c", contradicts=False, arrival=3),
    Event(1, "alias", "{}"),
)
ANCHOR = Anchor(1, "name", 2, bytes(32), 3, "k", b"signature")


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value + (b"x" if isinstance(value, bytes) else "x")


def changes(value: Any):
    """The same value with each of its attributes changed, by the attribute."""
    for field in fields(value):
        before = getattr(value, field.name)
        yield field.name, replace(value, **{field.name: "x" if before is None else other(before)})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_every_attribute_of_an_entry_is_in_its_link(entry):
    own = link(ZEROS, entry)
    assert [name for name, changed in changes(entry) if link(ZEROS, changed) == own] == []


def test_what_is_absent_differs_from_what_is_empty():
    entry = ENTRIES[0]
    assert link(ZEROS, replace(entry, ids=None)) != link(ZEROS, replace(entry, ids=b""))


def test_bytes_cannot_move_from_one_attribute_to_the_next():
    entry = replace(ENTRIES[0], ids=b"ab", subjects=b"c")
    assert link(ZEROS, entry) != link(ZEROS, replace(entry, ids=b"a", subjects=b"bc"))


def test_a_link_depends_on_the_one_before():
    assert link(ZEROS, ENTRIES[2]) != link(hashlib.sha256().digest(), ENTRIES[2])


def test_entries_of_different_kinds_have_different_links():
    assert len({link(ZEROS, entry) for entry in ENTRIES}) == len(ENTRIES)


def test_every_attribute_of_a_context_but_its_digest_is_in_the_digest():
    own = context()
    unseen = [name for name, changed in changes(own) if context_digest(changed) == own.digest]
    assert unseen == ["digest"]


def test_every_attribute_of_an_anchor_but_its_signature_is_signed():
    unseen = [name for name, changed in changes(ANCHOR) if anchor_bytes(changed) == anchor_bytes(ANCHOR)]
    assert unseen == ["signature"]


def test_all_that_is_known_of_a_stream_is_in_its_link():
    known: dict[str, Any] = {"number": 1, "name": "n", "started": 2, "key_id": "k"}
    own = stream_link(ZEROS, **known)
    assert all(stream_link(ZEROS, **{**known, name: other(value)}) != own for name, value in known.items())


def test_the_bytes_stay_the_same_from_release_to_release():
    """A store that was written before must verify: a change here needs a version of the chain."""
    assert [link(ZEROS, entry).hex()[:16] for entry in ENTRIES] == FIXED


FIXED = ["33593b7f09af95c3", "8eb4d90650471501", "3655bc4292f8ed38"]
