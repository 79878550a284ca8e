"""Operations of `/v1` on the record: outcomes are reported, and records are shown.

Their examples are written here: an application that only documents has no record. Tested in
tests/api/openapi/test_document.py and tests/api/v1/test_outcome_routes.py.
"""

from typing import Any, Final

from service.api.openapi.json_schemas import reference
from service.api.openapi.operation import JSON, Examples, Operation
from service.api.v1.outcome_requests import OutcomesRequest
from service.api.v1.outcome_responses import OutcomesAnswer, RecordedPrediction, RecordedRequest

EXAMPLE: Final = "example"
ID: Final = "019bd2c4-0c4e-7d10-9a40-2f4a5a1c9e11"
OUTCOME: Final[dict[str, Any]] = {
    "prediction_id": f"{ID}.0",
    "outcome": "malignant",
    "observed_at": "2026-01-01T12:00:00Z",
    "source": "histology",
    "ascertainment": "routine",
}
RECORDED: Final[dict[str, Any]] = {
    "prediction_id": f"{ID}.0",
    "row": 0,
    "id": ID,
    "created": "2026-01-01T09:00:00.000000Z",
    "caller": "key:ward-3",
    "x_request_id": "order-17",
    "traceparent": None,
    "shadow_of": None,
    "rows": 1,
    "latency_seconds": 0.0021,
    "key_id": "2026-01",
    "verb": "predict",
    "model": "breast-cancer",
    "version": "1",
    "task": "multiclass",
    "digest": "sha256:5d1f…",
    "graph_digest": "sha256:9a01…",
    "calibration_digest": "sha256:c07e…",
    "policy": None,
    "site": None,
    "prevalence": None,
    "options": {},
    "software": {},
    "basis_digest": "sha256:77b2…",
    "basis": {"classes": ["benign", "malignant"]},
    "place": {"stream": 3, "sequence": 17, "link": "e4c9…"},
    "columns": {"logits": {"benign": -1.7, "malignant": 1.7}, "label": "malignant"},
    "row_digest": "8c1d6d0a6c2f4b8f9e03a5d2b7c41f60",
    "id_token": None,
    "subject_token": "3f2a9c7e5b1d4860a7c3e9f105d2b84c",
    "group_token": None,
    "outcome": "malignant",
    "outcomes": [
        {**{name: value for name, value in OUTCOME.items() if name != "prediction_id"}}
        | {"received": "2026-01-02T08:00:00.000000Z", "caller": "key:registry", "contradicts": False}
    ],
}


def record_operations(tag: str) -> list[Operation]:
    """All of them."""
    shown = {"anyOf": [reference(kind.__name__) for kind in (RecordedPrediction, RecordedRequest)]}
    return [
        Operation(
            id="report_outcomes",
            method="post",
            path="/v1/outcomes",
            tag=tag,
            summary="What turned out to be true of answered rows",
            takes={JSON: reference(OutcomesRequest.__name__)},
            answers={JSON: reference(OutcomesAnswer.__name__)},
            errors=(422, 500, 503, 504),
            scope="outcomes",
        ),
        Operation(
            id="show_prediction",
            method="get",
            path="/v1/predictions/{prediction_id}",
            tag=tag,
            summary="The record of an answered row and its outcomes, or what the rows of a request have in common",
            answers={JSON: shown},
            errors=(404, 500, 503, 504),
            scope="audit",
        ),
    ]


RECORD_TYPES: Final = (
    (OutcomesRequest, "validation"),
    (OutcomesAnswer, "serialization"),
    (RecordedPrediction, "serialization"),
    (RecordedRequest, "serialization"),
)
"""What their bodies are made of."""
RECORD_EXAMPLES: Final = {
    "report_outcomes": Examples(
        bodies={EXAMPLE: {"outcomes": [OUTCOME]}},
        responses={
            EXAMPLE: {
                "accepted": 1,
                "repeated": 0,
                "contradicting": 0,
                "unknown": 0,
                "not_a_class": 0,
                "results": [{"prediction_id": f"{ID}.0", "status": "accepted"}],
            }
        },
    ),
    "show_prediction": Examples(path={"prediction_id": f"{ID}.0"}, responses={EXAMPLE: RECORDED}),
}
"""Examples by the id of the operation."""
