"""The operation of performance. Tested in tests/api/openapi/test_document.py."""

from collections import Counter
from typing import Any, Final

from service.api.openapi.json_schemas import Json, reference
from service.api.openapi.operation import JSON, Examples, Operation
from service.monitoring.group_performance import GROUP_BY
from service.monitoring.observed import observations
from service.monitoring.performance import PerformanceReport, performance
from service.monitoring.window import Window

MOMENT: Final[Json] = {"type": "string", "examples": ["2026-01-01", "2026-01-01T12:00:00Z"]}
NAME: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 256}
QUERY: Final[dict[str, tuple[str, Json]]] = {
    "from": ("Answered then or later: RFC 3339, or a date in UTC.", MOMENT),
    "to": ("Answered before then.", MOMENT),
    "version": ("Answered by this version.", {"type": "integer", "minimum": 1}),
    "site": ("Answered for this site.", NAME),
    "caller": ("Answered to this caller.", NAME),
    "group_by": (
        "Shows groups beside the whole; those of fewer than 20 subjects are withheld.",
        {"type": "string", "enum": list(GROUP_BY)},
    ),
}


def performance_operation(tag: str) -> Operation:
    """What came of a model's answers."""
    return Operation(
        id="model_performance",
        method="get",
        path="/v1/models/{name}/performance",
        tag=tag,
        summary="What came of a model's answers: calibration, discrimination, costs, groups, shadows, alarms",
        answers={JSON: reference(PerformanceReport.__name__)},
        query=[
            {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
            for name, (text, schema) in QUERY.items()
        ],
        errors=(404, 422, 500, 503, 504),
        scope="evaluate",
    )


PERFORMANCE_TYPES: Final[tuple[tuple[Any, str], ...]] = ((PerformanceReport, "serialization"),)
"""What its body is made of."""
PERFORMANCE_EXAMPLES: Final = {
    "model_performance": Examples(
        path={"name": "breast-cancer"},
        responses={
            "example": performance(
                observations("breast-cancer", [], more=0, left_out=Counter()), Window("2026-01-01", "2026-02-01")
            ).as_json()
        },
    )
}
"""Examples by the id of the operation: an application that only documents has no record, so nothing was answered."""
