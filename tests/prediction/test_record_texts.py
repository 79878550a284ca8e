"""Clear text of rows, as it is encrypted."""

import numpy as np
import orjson
import pytest

from service.api.v1.instances import InstanceReader
from service.prediction.answer import Part
from service.prediction.record_texts import clear_texts, rows_json
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.store.keyed_tokens import Tokens
from tests.api.v2.sent_tensors import INSTANCES

TOKENS = Tokens("k1", bytes(32))


def test_a_request_without_texts_has_none() -> None:
    assert clear_texts(Part("r", 3), TOKENS) == []


def test_a_text_belongs_to_the_subject_of_its_row_or_its_id_or_itself() -> None:
    part = Part("r", 2, ["a", "b"], subjects=["p", "q"], groups=["north", "north"])
    found = clear_texts(part, TOKENS)
    assert [(text.row, text.kind, text.content) for text in found[:3]] == [
        (0, "id", b"a"),
        (0, "subject", b"p"),
        (0, "group", b"north"),
    ]
    assert {text.subject for text in found} == {TOKENS.token("subject", "p"), TOKENS.token("subject", "q")}
    (own,) = clear_texts(Part("r", 1, ["a"]), TOKENS)
    assert own.subject == TOKENS.token("subject", "a")
    (group,) = clear_texts(Part("r", 1, groups=["north"]), TOKENS)
    assert group.subject == TOKENS.token("subject", "r.0")


@pytest.mark.parametrize("name", ["stay", "notes", "picture", "motion"])
def test_inputs_are_kept_as_they_were_read(kinds: Registry, name: str) -> None:
    model = kinds.model(name)
    reader = InstanceReader(model.inputs, most=9)
    first = reader.parse(INSTANCES[name])
    again = reader.parse([orjson.loads(row) for row in rows_json(first, model.inputs)])
    assert rows_json(again, model.inputs) == rows_json(first, model.inputs)


def test_a_missing_number_is_null(shipped_model: Model) -> None:
    (row,) = rows_json(np.full((1, 30), np.nan), shipped_model.inputs)
    assert set(orjson.loads(row).values()) == {None}
