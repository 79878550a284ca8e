"""Operations of `/v1`: the verbs, and what the models are.

Tested in tests/api/openapi/test_document.py.
"""

from collections.abc import Iterator
from typing import Any, Final

from service.api.openapi.answer_components import answer_names, report_types
from service.api.openapi.json_schemas import Json, reference
from service.api.openapi.operation import JSON, OF_ROWS, SUFFIXES, Operation
from service.api.openapi.performance_operation import PERFORMANCE_TYPES, performance_operation
from service.api.openapi.record_operations import RECORD_TYPES, record_operations
from service.api.v1.model_description import ModelDescription, RefusedModel
from service.api.v1.responses import ModelList, Problem
from service.api.v1.verbs import VERBS, Verb

TAG: Final = "v1"


def v1_operations() -> list[Operation]:
    """All of them, those of a model also by version and by alias."""
    models = Operation(
        id="list_models",
        method="get",
        path="/v1/models",
        tag=TAG,
        summary="Names of the served models",
        answers={JSON: reference(ModelList.__name__)},
    )
    return [models, *_descriptions(), *_verbs(), performance_operation(TAG), *record_operations(TAG)]


def _descriptions() -> Iterator[Operation]:
    for place, suffix in SUFFIXES.items():
        yield Operation(
            id=f"describe_model{suffix}",
            method="get",
            path=f"/v1/models/{{name}}{place}",
            tag=TAG,
            summary="What a model takes, answers and costs, and how it was calibrated",
            answers={JSON: reference(ModelDescription.__name__) if place else _described()},
            errors=(404, 500, *((503,) if place else ())),
        )


def _described() -> Json:
    return {"anyOf": [reference(kind.__name__) for kind in (ModelDescription, RefusedModel)]}


def _verbs() -> Iterator[Operation]:
    for verb in VERBS.values():
        for place, suffix in SUFFIXES.items():
            yield Operation(
                id=f"{verb.name}{suffix}",
                method="post",
                path=f"/v1/models/{{name}}{place}:{verb.name}",
                tag=TAG,
                summary=verb.summary,
                takes={JSON: reference(verb.request.__name__)},
                answers={JSON: _answer(verb)},
                errors=OF_ROWS,
                scope=verb.scope,
            )


def _answer(verb: Verb) -> Json:
    refs = [reference(name) for name in answer_names(verb)]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def v1_types() -> list[tuple[Any, str]]:
    """What their bodies are made of, each with the mode of its schema."""
    written = (Problem, ModelList, ModelDescription, RefusedModel, *report_types())
    requests = [(verb.request, "validation") for verb in VERBS.values()]
    return [*((kind, "serialization") for kind in written), *requests, *RECORD_TYPES, *PERFORMANCE_TYPES]
