"""One operation of the document: a method on a path, what it takes and what it answers.

Tested in tests/api/openapi/test_document.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service.api.addresses import PLACES
from service.api.openapi.json_schemas import Json, reference
from service.api.problems import MEDIA_TYPE, is_v2

JSON: Final = "application/json"
SUFFIXES: Final = dict(zip(PLACES, ("", "_version", "_alias"), strict=True))
"""What may stand behind a model's name -> what the id of the operation then ends in."""
PARAMETER: Final = re.compile(r"\{(\w+)\}")
STATUSES: Final = {
    400: "The request is not valid HTTP, or its body is not strict JSON.",
    401: "No credential, or none that is valid here.",
    403: "The credential does not allow this, or the server was started without this interface.",
    404: "No such model or version is served, or there is no such record.",
    408: "The request did not arrive in time.",
    409: "The model cannot be loaded.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "The body has another format than this path reads.",
    422: "The request does not fit the model.",
    429: "The caller's quota is used up.",
    431: "The header fields are too large.",
    500: "The service is at fault.",
    503: "Too many requests wait, the model is not loaded, or the process ends.",
    504: "The model did not answer in time.",
}
OF_ROWS: Final = (404, 422, 500, 503, 504)
"""What an operation that reads rows may answer instead of an answer to them."""
OF_HTTP: Final = (400, 408, 414, 431)
"""What any request may be answered instead, before it is known for which operation it is."""
OF_A_BODY: Final = (413, 415)
"""What an operation that takes a body may answer instead."""
OF_CALLERS: Final = (401, 403, 429)
"""What an operation that is not open to everyone may answer instead."""
STATUS_HEADERS: Final[Mapping[int, Sequence[str]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}
"""Header fields of a response with a status, beside those of every response."""
PATH_PARAMETERS: Final = {
    "name": "Name of a model.",
    "version": "Version of the model, a positive whole number.",
    "alias": "Alias of a version, such as `stable`.",
    "prediction_id": "Id of an answered row; or of a request, for what its rows have in common.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method on a path.

    Attributes
    ----------
    id : str
        Name that generated clients call it by; no two operations share one.
    method, path, tag, summary : str
    answers : dict of str to dict
        Media type -> schema of a successful response.
    takes : dict of str to dict
        Media type -> schema of the body; empty where there is none.
    body_is_optional : bool
    headers, query : sequence of dict
        Parameters in headers, and in the query.
    errors : sequence of int
        Statuses it may answer instead, beside those of HTTP, of bodies and of callers.
    scope : str
        That a caller needs; empty where any valid credential will do.
    is_open : bool
        Whether it needs no credential.
    """

    id: str
    method: str
    path: str
    tag: str
    summary: str
    answers: Mapping[str, Json]
    takes: Mapping[str, Json] = field(default_factory=dict)
    body_is_optional: bool = False
    headers: Sequence[Json] = ()
    query: Sequence[Json] = ()
    errors: Sequence[int] = (500,)
    scope: str = ""
    is_open: bool = False

    @property
    def statuses(self) -> list[int]:
        """All statuses it may answer instead."""
        callers, bodies = () if self.is_open else OF_CALLERS, OF_A_BODY if self.takes else ()
        return sorted({*self.errors, *OF_HTTP, *bodies, *callers})

    @property
    def base(self) -> str:
        """Its id without what stands for the place of a version or an alias."""
        suffix = next((suffix for place, suffix in SUFFIXES.items() if suffix and place in self.path), "")
        return self.id.removesuffix(suffix)

    @property
    def names(self) -> list[str]:
        """Parameters in the path."""
        return PARAMETER.findall(self.path)


@dataclass(frozen=True, slots=True)
class Examples:
    """Requests to one operation with their responses.

    Attributes
    ----------
    path : dict of str to str
        Values of the path's parameters.
    bodies : dict of str to object
        Title -> body of a request.
    responses : dict of str to object
        Title -> what was answered.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Any] = field(default_factory=dict)
    responses: Mapping[str, Any] = field(default_factory=dict)


def operation_object(operation: Operation, examples: Examples) -> Json:
    """The operation as the document holds it."""
    described: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation, examples), *operation.headers, *operation.query],
        "responses": _responses(operation, examples),
    }
    if operation.scope:
        described["description"] = f"Needs the scope `{operation.scope}` where credentials are needed."
    if operation.is_open:
        described["security"] = []
    if operation.takes:
        content = _content(operation.takes, _references(operation, "request", examples.bodies))
        described["requestBody"] = {"required": not operation.body_is_optional, "content": content}
    return described


def example_name(base: str, side: str, title: str) -> str:
    """Name of an example among the components; ``side`` is ``request`` or ``response``."""
    return f"{base}.{side}.{title}"


def example_components(base: str, examples: Examples) -> Json:
    """Examples of operations that share the base of their ids, as components."""
    sides = {"request": examples.bodies, "response": examples.responses}
    return {
        example_name(base, side, title): {"summary": title, "value": value}
        for side, values in sides.items()
        for title, value in values.items()
    }


def error_name(path: str, status: int) -> str:
    """Name of the response among the components that a path answers a status with."""
    return f"{'Error' if is_v2(path) else 'Problem'}{status}"


def error_response(path: str, status: int, example: Any) -> Json:
    """The response with which a path answers a status: a problem, or under `/v2` what its clients read."""
    media_type, schema = (JSON, "InferenceError") if is_v2(path) else (MEDIA_TYPE, "Problem")
    content = {"schema": reference(schema), **({} if example is None else {"example": example})}
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in STATUS_HEADERS.get(status, ())}
    described: Json = {"description": STATUSES[status], "content": {media_type: content}}
    return {**described, "headers": headers} if headers else described


def _path_parameters(operation: Operation, examples: Examples) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": {"type": "string"},
            **({"example": examples.path[name]} if name in examples.path else {}),
        }
        for name in operation.names
    ]


def _responses(operation: Operation, examples: Examples) -> Json:
    success = {
        "description": "Success.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("Temperance-Id", "X-Request-Id")},
        "content": _content(operation.answers, _references(operation, "response", examples.responses)),
    }
    names = {status: error_name(operation.path, status) for status in operation.statuses}
    errors = {str(status): {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}
    return {"200": success, **errors}


def _content(schemas: Mapping[str, Json], examples: Json) -> Json:
    return {
        media_type: {"schema": schema, **({"examples": examples} if examples and media_type == JSON else {})}
        for media_type, schema in schemas.items()
    }


def _references(operation: Operation, side: str, examples: Mapping[str, Any]) -> Json:
    names = {title: example_name(operation.base, side, title) for title in examples}
    return {title: {"$ref": f"#/components/examples/{name}"} for title, name in names.items()}
