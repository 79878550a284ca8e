"""Schemas of responses: every response fits its own, every member is described."""

from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator

from service.api.encoders.answer_schemas import columns_response_schema, header_schema, row_schema, rows_response_schema
from service.api.v1.verbs import VERBS
from service.prediction.answer import Part
from service.runtime.registry import Registry
from tests.every_task import CASES, ROWS, Case, Json, answer_of, rows_of, written

SCHEMAS = {"rows": rows_response_schema, "columns": columns_response_schema}
TASKS = ("multiclass", "multilabel", "sequence")


@pytest.mark.parametrize("layout", SCHEMAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_response_fits_its_schema_and_has_no_member_beside_it(every_task: Registry, case: Case, layout: str) -> None:
    query = case.query(every_task)
    response = written(query, answer_of(query, rows_of(query.model)), case.verb, layout, [Part("r", ROWS, case.ids)])[0]
    schema = closed(SCHEMAS[layout](query.model.task, VERBS[case.verb].topics))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(response)] == []


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS.values() if verb.topics])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", SCHEMAS)
def test_every_member_is_described(task: str, verb: str, layout: str) -> None:
    schema = SCHEMAS[layout](task, VERBS[verb].topics)
    Draft202012Validator.check_schema(schema)
    assert [path for path, member in members(schema) if not member.get("description")] == []


def test_what_is_always_there_is_required() -> None:
    row = row_schema("multiclass", VERBS["decide"].topics)
    assert {"prediction_id", "label", "ood", "decision"} <= set(row["required"])
    assert {"id", "probabilities", "top", "set"}.isdisjoint(row["required"])
    assert "overridden" not in row["properties"]["decision"]["required"]
    assert {"policy", "action", "risk", "risks"} <= set(row["properties"]["decision"]["required"])
    assert {"id", "created", "model", "version", "prevalence"} <= set(header_schema()["required"])


def closed(schema: Json) -> Json:
    """The same schema, without room for members that it does not name."""
    if "properties" in schema:
        named = {name: closed(inner) for name, inner in schema["properties"].items()}
        schema = {**schema, "properties": named, "additionalProperties": schema.get("additionalProperties", False)}
    return {**schema, "items": closed(schema["items"])} if isinstance(schema.get("items"), dict) else schema


def members(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every member that a schema names."""
    for kind in ("properties", "patternProperties"):
        for name, inner in schema.get(kind, {}).items():
            yield f"{path}/{name}", inner
            yield from members(inner, f"{path}/{name}")
    for kind in ("items", "additionalProperties"):
        if isinstance(schema.get(kind), dict):
            yield from members(schema[kind], f"{path}/{kind}")
