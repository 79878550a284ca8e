"""Answers of several groups or replicas made one: lists of models, readiness, metrics.

Where one of them is an error, that is the answer: a service is as ready as the least ready of its parts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from http import HTTPStatus
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.cluster.forwarded import Reply

REPLICA: Final = "replica"
"""Label of every sample: which replica counted it."""

Merge = Callable[[Sequence[Reply]], Reply]


def one_document(replies: Sequence[Reply]) -> Reply:
    """JSON documents made one: objects member by member, lists end to end, and lists of models by their names."""
    first = _first_error(replies)
    if first is not None or len(replies) == 1:
        return first or replies[0]
    documents = [orjson.loads(reply.body) for reply in replies]
    merged = _sorted(_merged(documents))
    return replies[0] if merged == documents[0] else replies[0].with_body(orjson.dumps(merged))


def one_exposition(replies: Sequence[Reply]) -> Reply:
    """Metrics of replicas made one: each sample gets the label `replica`, so that counters of one never go back."""
    first = _first_error(replies)
    if first is not None:
        return first
    registry = CollectorRegistry()
    registry.register(_Merged(replies))
    return replies[0].with_body(generate_latest(registry))


class _Merged(Collector):
    def __init__(self, replies: Sequence[Reply]) -> None:
        self._replies = replies

    def collect(self) -> list[Metric]:
        families: dict[str, Metric] = {}
        for reply in self._replies:
            for family in text_string_to_metric_families(reply.body.decode()):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                own = {REPLICA: reply.replica}
                known.samples += [sample._replace(labels=sample.labels | own) for sample in family.samples]
        return list(families.values())


def _first_error(replies: Sequence[Reply]) -> Reply | None:
    return next((reply for reply in replies if reply.status != HTTPStatus.OK), None)


def _merged(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _merged([value[key] for value in values if key in value]) for key in keys}
    if isinstance(first, list):
        return reduce(lambda known, value: known + [item for item in value if item not in known], values)
    return first


def _sorted(document: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value, key=_name) if key in _OF_MODELS else value for key, value in document.items()}


def _name(item: Any) -> str:
    return item if isinstance(item, str) else str(item["name"])


_OF_MODELS: Final = frozenset({"models", "model_stats"})

OF_EACH_GROUP: Final[Mapping[str, Merge]] = {
    "/readyz": one_document,
    "/v2/health/ready": one_document,
    "/v1/models": one_document,
    "/v2/models/stats": one_document,
    "/openapi.json": one_document,
}
"""Path -> how the answers of one replica of each group become one."""
OF_EACH_REPLICA: Final[Mapping[str, Merge]] = {"/metrics": one_exposition}
"""Path -> how the answers of all replicas become one."""
