"""The whole document, from operations, schemas and examples."""

from collections.abc import Mapping
from typing import Any, Final

from service.api.openapi.answer_components import answer_components
from service.api.openapi.json_schemas import Json, components
from service.api.openapi.operation import (
    Examples,
    Operation,
    error_name,
    error_response,
    example_components,
    operation_object,
)
from service.api.openapi.service_operations import SERVICE_TYPES, service_operations
from service.api.openapi.v1_operations import v1_operations, v1_types
from service.api.openapi.v2_operations import V2_TYPES, v2_operations

OPENAPI: Final = "3.1.0"
TITLE: Final = "Temperance"
SUMMARY: Final = "Calibrated probabilities, out-of-distribution flags and least-cost decisions from ONNX classifiers"
HERE: Final = "."
"""Address of the service: beside the document, under whatever path that is."""
TAGS: Final = {
    "v1": "Rows in, answers out: the convention of KServe V1, TensorFlow Serving and Vertex AI.",
    "v2": "Tensors in, tensors out: the Open Inference Protocol.",
    "operations": "For those who run the service.",
}
TEXT: Final[Json] = {"type": "string"}
HEADERS: Final[Json] = {
    "Temperance-Id": {"description": "Id of the request, ours; errors have one too.", "schema": TEXT},
    "X-Request-Id": {"description": "What the request had in this header, or else our id.", "schema": TEXT},
    "traceparent": {"description": "What the request had in this header, in W3C's form.", "schema": TEXT},
    "WWW-Authenticate": {"description": "How to authenticate, as RFC 6750 has it.", "schema": TEXT},
    "Retry-After": {"description": "Seconds after which a retry may succeed.", "schema": {"type": "integer"}},
    "RateLimit": {"description": "What is left of the quota, and in how many seconds it is renewed.", "schema": TEXT},
    "RateLimit-Policy": {"description": "The quota that is used up, and its seconds.", "schema": TEXT},
}
"""Header fields of answers."""
BEARER: Final = "bearer"
SCHEMES: Final[Json] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, which begins with tmp_, or a JSON Web Token of a configured issuer.",
    }
}


def operations() -> list[Operation]:
    """Every operation of the service."""
    return [*v1_operations(), *v2_operations(), *service_operations()]


def document(
    version: str, examples: Mapping[str, Examples], errors: Mapping[str, Any], *, is_open: bool = True
) -> Json:
    """The OpenAPI document.

    Parameters
    ----------
    version : str
        Of the service.
    examples : dict of str to Examples
        By the base of the operation's id.
    errors : dict of str to object
        Body of an error by the name of its response, as `error_name` gives it.
    is_open : bool, optional
        Whether no credential is needed.
    """
    known = operations()
    return {
        "openapi": OPENAPI,
        "info": {"title": TITLE, "summary": SUMMARY, "version": version},
        "servers": [{"url": HERE}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        **({} if is_open else {"security": [{BEARER: []}]}),
        "paths": _paths(known, examples),
        "components": {
            "examples": _examples(examples),
            "headers": HEADERS,
            "responses": _errors(known, errors),
            "securitySchemes": SCHEMES,
            "schemas": {**answer_components(), **components([*v1_types(), *V2_TYPES, *SERVICE_TYPES])},
        },
    }


def _paths(known: list[Operation], examples: Mapping[str, Examples]) -> Json:
    paths: Json = {}
    for operation in known:
        described = operation_object(operation, examples.get(operation.base, Examples()))
        paths.setdefault(operation.path, {})[operation.method] = described
    return paths


def _examples(examples: Mapping[str, Examples]) -> Json:
    return {name: shown for base, own in examples.items() for name, shown in example_components(base, own).items()}


def _errors(known: list[Operation], errors: Mapping[str, Any]) -> Json:
    found: Json = {}
    for operation in known:
        for status in operation.statuses:
            name = error_name(operation.path, status)
            found[name] = error_response(operation.path, status, errors.get(name))
    return found
