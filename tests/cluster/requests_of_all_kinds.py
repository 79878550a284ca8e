"""Requests of every kind that the service answers, made from its own document, and the errors of clients."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

NEW = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z")
"""Ids and times."""
OF_THE_SERVER = frozenset({"date", "server", "temperance-id", "x-request-id", "keep-alive", "connection"})
"""Header fields that are of the server, or new for every answer."""
MODEL = "breast-cancer"
PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Sent:
    """A request."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self, client: httpx.Client) -> tuple[int, dict[str, str], bytes]:
        """Status, header fields and body, without what is new for every answer."""
        got = client.request(self.method, self.path, content=self.body, headers=self.headers)
        fields = {name: value for name, value in got.headers.items() if name not in OF_THE_SERVER}
        return got.status_code, fields, NEW.sub(b"", got.content)


def of_the_document(client: httpx.Client) -> Iterator[Sent]:
    """Every path with every example of the OpenAPI document."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _of(method.upper(), path, operation, document["components"].get("examples", {}))


def _of(method: str, path: str, operation: dict[str, Any], shared: dict[str, Any]) -> Iterator[Sent]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    place = path.replace("{version}", "1").replace("{alias}", "stable").replace("{prediction_id}", "none")
    if path == "/metrics" or path.endswith("/stats"):  # each replica counts by itself
        return
    if content is None:
        for name in (MODEL, "yeast-genes", "unknown") if "{name}" in place else ("",):
            yield Sent(method, place.replace("{name}", name))
        return
    for name, example in content["examples"].items():
        own = shared[example["$ref"].rpartition("/")[2]] if "$ref" in example else example
        yield Sent(method, place.replace("{name}", name), json.dumps(own["value"]).encode(), JSON)


def mistakes(rows: list[list[float]]) -> Iterator[Sent]:
    """What clients do wrong, and what few of them do."""
    body = json.dumps({"instances": rows[:1]}).encode()
    yield Sent("POST", PREDICT, body)
    yield Sent("POST", PREDICT, body, {"Content-Type": "text/plain"})
    yield Sent("POST", PREDICT, b'{"instances": [[NaN]]}', JSON)
    yield Sent("POST", PREDICT, b'{"instances": ', JSON)
    yield Sent("POST", PREDICT, b'{"a": 1, "a": 2}', JSON)
    yield Sent("POST", PREDICT, b"", JSON)
    yield Sent("POST", PREDICT, b" " * (17 << 20), JSON)
    yield Sent("POST", PREDICT, body, {**JSON, "Content-Encoding": "gzip"})
    yield Sent("POST", "/v1/models/unknown:predict", body, JSON)
    yield Sent("POST", f"/v1/models/{MODEL}:unknown", body, JSON)
    yield Sent("POST", f"/v1/models/{MODEL}/versions/99:predict", body, JSON)
    yield Sent("POST", "/v1/models/a%2fb:predict", body, JSON)
    yield Sent("DELETE", PREDICT)
    yield Sent("GET", "/nothing/here")
    yield Sent("HEAD", "/v1/models")
    yield Sent("GET", f"/v1/models/{MODEL}/performance?from=never")
    yield Sent("POST", INFER, b"\x00\x01", {"Content-Type": "application/octet-stream"})
    yield Sent("GET", "/docs")
    yield Sent("GET", "/docs/favicon.png")
    yield Sent("POST", PREDICT, body, {**JSON, "X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"})
    yield Sent("POST", PREDICT, json.dumps({"instances": rows[:1] * 300}).encode(), JSON)
