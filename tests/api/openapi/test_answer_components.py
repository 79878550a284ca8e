"""Schemas of answers as components."""

from typing import Any

import pytest

from service.api.openapi.answer_components import answer_components, answer_names, hoisted
from service.api.v1.verbs import VERBS

POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
OTHER = {"type": "object", "properties": {"y": {"type": "number"}}}


def test_every_verb_answers_components_that_are_there() -> None:
    found = answer_components()
    for verb in VERBS.values():
        assert set(answer_names(verb)) <= set(found)
    assert {"MulticlassDecideRows", "SequenceDecideColumns", "EvaluateReport"} <= set(found)


def test_what_all_tasks_answer_alike_is_one_component() -> None:
    assert answer_names(VERBS["detect"]) == ["DetectRows", "DetectColumns"]
    assert len(answer_names(VERBS["decide"])) == 6


def test_equal_objects_are_one_component_and_others_stay_where_they_are() -> None:
    found = hoisted({name: {"properties": {"end": end}} for name, end in (("A", POINT), ("B", POINT), ("C", OTHER))})
    reference = {"$ref": "#/components/schemas/AnswerEnd"}
    assert found["A"]["properties"]["end"] == found["B"]["properties"]["end"] == reference
    assert found["C"]["properties"]["end"] == OTHER
    assert found["AnswerEnd"] == POINT


@pytest.mark.parametrize("holder", ["items", "additionalProperties"])
def test_objects_within_lists_and_maps_are_hoisted_too(holder: str) -> None:
    inner: dict[str, Any] = {"type": "object", "properties": {"end": POINT}}
    found = hoisted({"A": {"properties": {"all": {"type": "array", holder: inner}}}})
    assert found["A"]["properties"]["all"][holder]["properties"]["end"] == {"$ref": "#/components/schemas/AnswerEnd"}
