"""Real requests to the served models with their real responses, put to an application that only documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import orjson
from starlette.types import ASGIApp

from service.api.openapi.in_process import Request, send_request
from service.api.openapi.json_schemas import Json
from service.api.openapi.operation import Examples, Operation
from service.api.openapi.performance_operation import PERFORMANCE_EXAMPLES
from service.api.openapi.record_operations import RECORD_EXAMPLES
from service.api.v1.instances import example
from service.api.v1.verbs import VERBS
from service.api.v2.expected_tensors import expected_tensors
from service.runtime.model import Model
from service.runtime.registry import Registry

NEVER_SENT: Final = frozenset({"load_model", "unload_model"})
"""Operations that would change what is served; both answer an empty object."""
ANY: Final = "example"
"""Title of the example of an operation that is of no one model."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that requests are shown of; ``path`` holds values of path parameters."""

    model: Model
    path: Mapping[str, str]


def subjects(registry: Registry) -> list[Subject]:
    """The model with the fewest classes of every task, among those whose rows are short enough to be shown."""
    by_task: dict[str, Subject] = {}
    for subject in sorted(_aliased(registry), key=lambda one: len(one.model.classes)):
        if example(subject.model.inputs) is not None:
            by_task.setdefault(subject.model.task, subject)
    return list(by_task.values())


def _aliased(registry: Registry) -> Iterator[Subject]:
    for name in registry.names():
        served = registry.served(name)
        for alias, version in served.aliases.items():
            yield Subject(served.models[version], {"name": name, "version": str(version), "alias": alias})


WRITTEN: Final = {**RECORD_EXAMPLES, **PERFORMANCE_EXAMPLES}
"""Examples of operations on the record, which an application that only documents does not have."""


async def examples_of(app: ASGIApp, operations: Sequence[Operation], shown: Sequence[Subject]) -> dict[str, Examples]:
    """Examples by the base of the operations' ids.

    Parameters
    ----------
    app : ASGI application
        Answers the requests.
    operations : sequence of Operation
        Operations that differ by the place of a version or an alias share the examples of the first.
    shown : sequence of Subject
    """
    found: dict[str, Examples] = {}
    for operation in operations:
        if operation.base in WRITTEN:
            found[operation.base] = WRITTEN[operation.base]
        elif operation.base not in found:
            found[operation.base] = await _examples(app, operation, shown)
    return found


async def _examples(app: ASGIApp, operation: Operation, shown: Sequence[Subject]) -> Examples:
    if not operation.names:
        bodies: Json = {ANY: {}} if operation.takes else {}
        return Examples({}, bodies, await _responses(app, operation, bodies, {ANY: {}}))
    paths = {subject.model.name: subject.path for subject in shown}
    bodies = {subject.model.name: await _body(app, operation, subject.model) for subject in shown}
    bodies = {title: body for title, body in bodies.items() if body is not None}
    responses = await _responses(app, operation, bodies, paths)
    # A verb may refuse models of a task; what is refused is no example.
    answered = {title: body for title, body in bodies.items() if title in responses or ANY in responses}
    return Examples(shown[0].path if shown else {}, answered, responses)


async def _body(app: ASGIApp, operation: Operation, model: Model) -> Json | None:
    if operation.base in VERBS:
        return await _instances(app, operation.base, model)
    if operation.base == "infer":
        return _tensors(model)
    return {} if operation.takes else None


async def _instances(app: ASGIApp, verb: str, model: Model) -> Json:
    body: Json = {"instances": example(model.inputs)}
    if "labels" not in VERBS[verb].request.model_fields:
        return body
    predicted = await send_request(app, Request("post", f"/v1/models/{model.name}:predict", orjson.dumps(body)))
    if predicted.status != HTTPStatus.OK:
        return body
    row = predicted.document["predictions"][0]
    return {**body, "labels": [row["labels"] if "labels" in row else row["label"]]}


def _tensors(model: Model) -> Json:
    row: Any = (example(model.inputs) or [[]])[0]
    names = [cell for entry in model.inputs.entries for cell in entry.cells]
    cells = row if isinstance(row, dict) else dict(zip(names, row, strict=True))
    tensors = []
    for expected, entry in zip(expected_tensors(model.inputs), model.inputs.entries, strict=True):
        value = cells[entry.name] if entry.shape else [cells[cell] for cell in entry.cells]
        shape = [1, *np.shape(value)]
        tensors.append({"name": expected.name, "shape": shape, "datatype": expected.datatype, "data": [value]})
    return {"inputs": tensors}


async def _responses(
    app: ASGIApp, operation: Operation, bodies: Mapping[str, Json], paths: Mapping[str, Mapping[str, str]]
) -> Json:
    if operation.base in NEVER_SENT:
        return {ANY: {}}
    found = {}
    for title, path in paths.items():
        body = orjson.dumps(bodies[title]) if title in bodies else b""
        received = await send_request(app, Request(operation.method, operation.path.format(**path), body))
        if received.status == HTTPStatus.OK and received.document is not None:
            found[title] = received.document
    return found
