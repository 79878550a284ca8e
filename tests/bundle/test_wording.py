"""No sentence of pydantic's reaches anybody: manifests, records, settings and requests, each with many things wrong."""

import copy
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import pytest
import tomlkit
from pydantic_core import core_schema

from service.bundle.manifest import parse_manifest
from service.bundle.record import parse_record
from service.bundle.repository import Bundle
from service.bundle.wording import MOST_LETTERS, OTHERWISE, WORDS, one_line, reason
from service.environment import read_settings
from service.errors import ServiceError
from service.settings import PREFIX, Settings

PHRASES = re.compile(
    r"Input should|Field required|Extra inputs|should (be|have|match|contain|not)|Unable to|not permitted|Value error|"
    r"valid (dictionary|integer|number|string|list|boolean)|type=|pydantic|Python|Discriminator|tag found"
)
BAD: list[Any] = [None, True, -1, 0, 1.5, 10**30, "", "x" * 300, [], ["x"], [1, 2], {}, {"x": 1}, {"x": {"y": "z"}}]


def spoiled(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Places of a document, and what to put there; `...` takes the place away."""
    if path:
        yield from ((path, bad) for bad in [*BAD, ...])
    if isinstance(document, dict):
        yield (*path, "surprising_key"), 1
        for key, value in document.items():
            yield from spoiled(value, (*path, key))
    elif isinstance(document, list) and document:
        yield from spoiled(document[0], (*path, 0))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    found = copy.deepcopy(document)
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(value)
    return found


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    try:
        call(*arguments)
    except ServiceError as error:
        return str(error)
    return None


def test_errors_of_manifests_are_in_our_words(published: Bundle) -> None:
    document = tomlkit.parse((published.path / "manifest.toml").read_text()).unwrap()
    document["features"] = dict(list(document["features"].items())[:1])
    refused = 0
    for path, value in spoiled(document):
        if value is None:
            continue
        message = refusal(parse_manifest, tomlkit.dumps(put(document, path, value)))
        refused += message is not None
        assert not PHRASES.search(message or ""), (path, value, message)
    assert refused > 200


def test_errors_of_records_are_in_our_words(published: Bundle) -> None:
    document = json.loads((published.path / "calibration.json").read_text())
    refused = 0
    for path, value in spoiled(document):
        message = refusal(partial(parse_record, where="record"), json.dumps(put(document, path, value)))
        refused += message is not None
        assert not PHRASES.search(message or ""), (path, value, message)
    assert refused > 200
    for text in ("", "{", "[]", "null", "7", '"x"'):
        with pytest.raises(ServiceError) as raised:
            parse_record(text, where="record")
        assert not PHRASES.search(str(raised.value))


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize("value", ["", "x", "-1", "1e400", "0.5", "nan", "999999999999", "null", "[]"])
def test_errors_of_settings_are_in_our_words(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(PREFIX)]:
        monkeypatch.delenv(key)
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)
    message = refusal(read_settings)
    assert not PHRASES.search(message or ""), message


def test_every_kind_of_error_that_pydantic_knows_has_words_or_none() -> None:
    """None of its own, whatever a later release adds."""
    kinds = get_args(core_schema.ErrorType)
    for kind in kinds:
        message = (
            reason(kind, "Input should be something of pydantic's", {})
            if kind not in {"value_error", "assertion_error"}
            else ""
        )
        assert not PHRASES.search(message), kind
    assert reason("none of these", "Input should be", {}) == OTHERWISE
    assert set(WORDS) <= set(kinds)


def test_a_text_of_another_library_is_one_line_of_a_bounded_length() -> None:
    assert one_line(ValueError("no\n  number\r\n")) == "no number"
    assert len(one_line("a" * 10_000)) == MOST_LETTERS
