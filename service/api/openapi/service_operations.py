"""Operations for those who run the service: health and metrics.

Tested in tests/api/openapi/test_document.py.
"""

from typing import Final

from pydantic import BaseModel

from service.api.openapi.json_schemas import Json, reference
from service.api.openapi.operation import JSON, Operation

TAG: Final = "operations"
TEXT: Final[Json] = {"type": "string"}


class ServiceStatus(BaseModel):
    """State of the process.

    Attributes
    ----------
    status : str
        `alive` or `ready`.
    """

    status: str


def service_operations() -> list[Operation]:
    """`/livez`, `/readyz` and `/metrics`."""
    status = {JSON: reference(ServiceStatus.__name__)}
    return [
        _get("alive", "/livez", "Whether the process responds", status, is_open=True),
        _get(
            "ready",
            "/readyz",
            "Whether a model is loaded and has answered a row, and the service does not end",
            status,
            503,
            is_open=True,
        ),
        _get("metrics", "/metrics", "Counters and histograms for Prometheus", {"text/plain": TEXT}, scope="metrics"),
    ]


def _get(
    name: str,
    path: str,
    summary: str,
    answers: dict[str, Json],
    *errors: int,
    scope: str = "",
    is_open: bool = False,
) -> Operation:
    return Operation(
        id=name,
        method="get",
        path=path,
        tag=TAG,
        summary=summary,
        answers=answers,
        errors=(500, *errors),
        scope=scope,
        is_open=is_open,
    )


SERVICE_TYPES: Final = ((ServiceStatus, "serialization"),)
"""What their bodies are made of."""
