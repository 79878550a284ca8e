"""Schemas of what verbs answer, as components: one for every task and layout, and what they have in common once."""

from collections.abc import Iterator
from typing import Any, Final

from service.api.encoders.answer_schemas import columns_response_schema, header_schema, rows_response_schema
from service.api.openapi.json_schemas import Json, reference
from service.api.v1.reports import VerbReport
from service.api.v1.verbs import VERBS, Verb
from service.prediction.tasks import TASKS

LAYOUTS: Final = {"Rows": rows_response_schema, "Columns": columns_response_schema}


def answer_names(verb: Verb) -> list[str]:
    """Names of the components that a verb answers one of."""
    return [name for name, _ in _schemas(verb)]


def answer_components() -> Json:
    """Schemas of the answers of all verbs."""
    found: Json = {}
    for verb in VERBS.values():
        found |= dict(_schemas(verb))
    return hoisted(found)


def report_types() -> list[type]:
    """Types of the reports, which are components of their own."""
    return [verb.report.values for verb in VERBS.values() if verb.report]


def hoisted(schemas: Json) -> Json:
    """Schemas in which equal objects are components of their own, named like the member that holds them.

    Parameters
    ----------
    schemas : dict
        By the name of the component.

    Examples
    --------
    >>> point = {"type": "object", "properties": {"x": {"type": "number"}}}
    >>> found = hoisted({"Line": {"properties": {"start": point}}, "Path": {"properties": {"start": point}}})
    >>> list(found), found["Path"]
    (['AnswerStart', 'Line', 'Path'], {'properties': {'start': {'$ref': '#/components/schemas/AnswerStart'}}})
    """
    shared: Json = {}
    outer = {name: _without(schema, shared) for name, schema in schemas.items()}
    return {**shared, **outer}


def _without(schema: Any, shared: Json) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    if isinstance(made.get("items"), dict):
        made["items"] = _without(made["items"], shared)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _without(made["additionalProperties"], shared)
    made["properties"] = {name: _shared(name, entry, shared) for name, entry in made.get("properties", {}).items()}
    return made if made["properties"] else {key: value for key, value in made.items() if key != "properties"}


def _shared(name: str, entry: Any, shared: Json) -> Any:
    made, title = _without(entry, shared), "Answer" + "".join(part.title() for part in name.split("_"))
    if made.get("type") != "object" or "properties" not in made or shared.get(title, made) != made:
        return made
    shared[title] = made
    return reference(title)


def _schemas(verb: Verb) -> Iterator[tuple[str, Json]]:
    if verb.report is None:
        yield from _of_rows(verb)
    else:
        yield f"{verb.name.title()}Report", _report(verb, verb.report)


def _of_rows(verb: Verb) -> Iterator[tuple[str, Json]]:
    for layout, schema_of in LAYOUTS.items():
        by_task = {task: schema_of(task, verb.topics) for task in TASKS}
        same = all(schema == by_task["multiclass"] for schema in by_task.values())
        for task, schema in list(by_task.items())[: 1 if same else None]:
            yield f"{'' if same else task.title()}{verb.name.title()}{layout}", schema


def _report(verb: Verb, report: VerbReport) -> Json:
    schema = header_schema()
    schema["description"] = verb.summary + "."
    schema["properties"][report.member] = reference(report.values.__name__)
    schema["required"].append(report.member)
    return schema
