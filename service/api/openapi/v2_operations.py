"""Operations of `/v2`.

Tested in tests/api/openapi/test_document.py.
"""

from typing import Any, Final

from service.api.addresses import VERSION_PLACES
from service.api.openapi.inference_schemas import InferenceError, InferenceRequest, InferenceResponse
from service.api.openapi.json_schemas import Json, reference
from service.api.openapi.operation import JSON, OF_ROWS, SUFFIXES, Operation
from service.api.openapi.server_schemas import (
    IndexRequest,
    LoadRequest,
    ModelMetadata,
    ModelReady,
    RepositoryEntry,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Statistics,
)

TAG: Final = "v2"
BINARY: Final = "application/octet-stream"
BYTES: Final[Json] = {"type": "string", "format": "binary"}
BY_VERSION: Final = {place: SUFFIXES[place] for place in VERSION_PLACES}
OF_A_MODEL: Final = (404, 500, 503)
CHANGES: Final = (403, 404, 409, 422, 500)


def v2_operations() -> list[Operation]:
    """All of them, those of a model with and without a version."""
    models = [operation for place, suffix in BY_VERSION.items() for operation in _of_a_model(place, suffix)]
    return [*_of_the_server(), *models, *_of_the_repository()]


def _of_the_server() -> list[Operation]:
    return [
        _get("server_metadata", "/v2", "Name, version and extensions of the server", ServerMetadata),
        _get("server_live", "/v2/health/live", "Whether the process responds", ServerLive, is_open=True),
        _get(
            "server_ready",
            "/v2/health/ready",
            "Whether a model is served, and the service does not end",
            ServerReady,
            500,
            503,
            is_open=True,
        ),
        _get("all_statistics", "/v2/models/stats", "What every model has done since it was loaded", Statistics),
    ]


def _of_a_model(place: str, suffix: str) -> list[Operation]:
    path = f"/v2/models/{{name}}{place}"
    return [
        _get(f"model_metadata{suffix}", path, "What a model takes and answers", ModelMetadata, *OF_A_MODEL),
        _get(f"model_ready{suffix}", f"{path}/ready", "Whether a model is ready", ModelReady, *OF_A_MODEL),
        _get(
            f"model_statistics{suffix}",
            f"{path}/stats",
            "What a model has done since it was loaded",
            Statistics,
            *OF_A_MODEL,
        ),
        Operation(
            id=f"infer{suffix}",
            method="post",
            path=f"{path}/infer",
            tag=TAG,
            summary="Predict rows of tensors",
            takes={JSON: reference(InferenceRequest.__name__), BINARY: BYTES},
            answers={JSON: reference(InferenceResponse.__name__), BINARY: BYTES},
            headers=(_JSON_LENGTH,),
            errors=OF_ROWS,
            scope="predict",
        ),
    ]


def _of_the_repository() -> list[Operation]:
    listing: Json = {"type": "array", "items": reference(RepositoryEntry.__name__)}
    changes = {
        "load": "Serve what the aliases of a model name",
        "unload": "Serve a model no longer, until it is loaded again",
    }
    return [
        _post("repository_index", "/v2/repository/index", "Published models and their state", IndexRequest, listing),
        *(
            _post(f"{verb}_model", f"/v2/repository/models/{{name}}/{verb}", summary, LoadRequest, {"type": "object"})
            for verb, summary in changes.items()
        ),
    ]


def _get(name: str, path: str, summary: str, answer: type, *errors: int, is_open: bool = False) -> Operation:
    return Operation(
        id=name,
        method="get",
        path=path,
        tag=TAG,
        summary=summary,
        answers={JSON: reference(answer.__name__)},
        errors=errors or (500,),
        is_open=is_open,
    )


def _post(name: str, path: str, summary: str, body: type, answer: Json) -> Operation:
    return Operation(
        id=name,
        method="post",
        path=path,
        tag=TAG,
        summary=summary,
        takes={JSON: reference(body.__name__)},
        body_is_optional=True,
        answers={JSON: answer},
        errors=CHANGES,
        scope="admin",
    )


_JSON_LENGTH: Final[Json] = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Bytes of the JSON at the head of a binary body.",
    "schema": {"type": "integer", "minimum": 0},
}
V2_TYPES: Final[tuple[tuple[Any, str], ...]] = (
    (InferenceError, "serialization"),
    (InferenceRequest, "validation"),
    (InferenceResponse, "serialization"),
    (IndexRequest, "validation"),
    (LoadRequest, "validation"),
    (ModelMetadata, "serialization"),
    (ModelReady, "serialization"),
    (RepositoryEntry, "serialization"),
    (ServerLive, "serialization"),
    (ServerMetadata, "serialization"),
    (ServerReady, "serialization"),
    (Statistics, "serialization"),
)
"""What their bodies are made of."""
