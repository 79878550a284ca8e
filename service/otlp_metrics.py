"""What a registry of Prometheus holds, as metrics of OpenTelemetry: one set of counters, shown in two ways.

Tested in tests/test_tracing.py.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

Span = tuple[int, int]
"""Start and end of what was counted, in nanoseconds since 1970."""


def metrics_data(registry: CollectorRegistry, own: Resource, scope: str, *, started_ns: int) -> MetricsData:
    """Everything that a registry counts, since the start.

    Parameters
    ----------
    registry : CollectorRegistry
    own : Resource
        Where it was counted.
    scope : str
        By what.
    started_ns : int
        Since when, in nanoseconds since 1970.
    """
    span = (started_ns, time.time_ns())
    metrics = [_metric(family, span) for family in registry.collect() if family.type in _DATA]
    return MetricsData([ResourceMetrics(own, [ScopeMetrics(InstrumentationScope(scope), metrics, "")], "")])


def _metric(family: Family, span: Span) -> Metric:
    unit = "s" if family.name.endswith("_seconds") else "1"
    return Metric(family.name, family.documentation, unit, _DATA[family.type](family, span))


def _sum(family: Family, span: Span) -> Sum:
    samples = (sample for sample in family.samples if sample.name.endswith("_total"))
    return Sum(list(_numbers(samples, span)), AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _gauge(family: Family, span: Span) -> Gauge:
    return Gauge(list(_numbers(family.samples, span)))


def _numbers(samples: Iterable[Sample], span: Span) -> Iterator[NumberDataPoint]:
    return (NumberDataPoint(dict(sample.labels), *span, sample.value) for sample in samples)


def _histogram(family: Family, span: Span) -> Histogram:
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in family.samples:
        labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
        series.setdefault(labels, []).append(sample)
    points = [_point(dict(labels), samples, span) for labels, samples in series.items()]
    return Histogram(points, AggregationTemporality.CUMULATIVE)


def _point(labels: dict[str, str], samples: list[Sample], span: Span) -> HistogramDataPoint:
    below = {float(sample.labels["le"]): int(sample.value) for sample in samples if sample.name.endswith("_bucket")}
    total = next(sample.value for sample in samples if sample.name.endswith("_sum"))
    counts = [after - before for before, after in pairwise([0, *below.values()])]
    bounds = [bound for bound in below if math.isfinite(bound)]
    unknown: Any = None  # Prometheus keeps neither the least nor the largest; both may be absent on the wire
    return HistogramDataPoint(labels, *span, sum(counts), total, counts, bounds, unknown, unknown)


_DATA: Final[dict[str, Callable[[Family, Span], Sum | Gauge | Histogram]]] = {
    "counter": _sum,
    "gauge": _gauge,
    "histogram": _histogram,
}
