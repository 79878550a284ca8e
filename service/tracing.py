"""Traces and metrics for an OpenTelemetry collector, sent by a thread of its own; imported only where one is set.

A request costs the event loop one value in a bounded queue. Everything else happens on the thread: spans are made from
the times in that value, and metrics from the registry that `/metrics` shows. A collector that is slow or cannot be
reached delays nothing: what does not fit into the queue is dropped.
"""

import asyncio
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from prometheus_client import CollectorRegistry

from service.otlp_metrics import metrics_data
from service.telemetry import TracedRequest

MOST_WAITING: Final = 512  # requests; sent once a second, at 140 microseconds each that is a tenth of a processor
SPAN_SECONDS: Final = 1.0
METRIC_SECONDS: Final = 15.0
TIMEOUT: Final = 2  # seconds for an export, with its retries
LONGEST_PAUSE: Final = 60.0
SCOPE: Final = "temperance"

log = logging.getLogger("temperance")


class Exporter:
    """Sends spans and metrics from its start until it is closed.

    Parameters
    ----------
    endpoint : str
        Of the collector, without the paths of its signals. Headers, certificates and sampling follow OpenTelemetry's
        own `OTEL_…` variables.
    registry : CollectorRegistry
        Whose metrics are sent.
    span_seconds, metric_seconds : float
        Between sends.
    """

    def __init__(
        self,
        endpoint: str,
        registry: CollectorRegistry,
        *,
        span_seconds: float = SPAN_SECONDS,
        metric_seconds: float = METRIC_SECONDS,
    ) -> None:
        base = endpoint.rstrip("/")
        self._registry, self._resource = registry, resource()
        self._spans = Spans(self._resource)
        self._traces = OTLPSpanExporter(f"{base}/v1/traces", timeout=TIMEOUT)
        self._metrics = OTLPMetricExporter(f"{base}/v1/metrics", timeout=TIMEOUT)
        self._waiting: deque[tuple[int, TracedRequest]] = deque()
        self._dropped, self._failures = 0, 0
        self._span_seconds, self._metric_seconds = span_seconds, metric_seconds
        self._started_ns, self._metrics_due = time.time_ns(), time.monotonic() + metric_seconds
        self._wake, self._is_ending = threading.Event(), False
        self._thread = threading.Thread(target=self._send_on, name="otlp", daemon=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send for as long as the context lasts."""
        self.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.close)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def record(self, request: TracedRequest) -> None:
        """Take in a request that was answered, if it is sampled; never waits."""
        trace = self._spans.sampled(request)
        if trace is None:
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((trace, request))
        else:
            self._dropped += 1

    def close(self) -> None:
        """Send what waits, in `TIMEOUT` seconds; what is not sent by then is lost."""
        self._is_ending = True
        self._wake.set()
        self._thread.join(TIMEOUT)

    def _send_on(self) -> None:
        while not self._is_ending:
            self._wake.wait(self._pause())
            self._send_spans()
            if time.monotonic() >= self._metrics_due:
                self._metrics_due = time.monotonic() + self._metric_seconds
                self._send_metrics()
        self._send_metrics()

    def _pause(self) -> float:
        # A collector that does not answer is left alone for longer each time.
        return float(min(self._span_seconds * 2**self._failures, LONGEST_PAUSE))

    def _send_spans(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if batch:
            self._note(is_sent=self._traces.export(self._spans.of(batch)) is SpanExportResult.SUCCESS)
        if self._dropped and not self._failures:
            log.info("%d of %d traces were dropped: there are too many", self._dropped, self._dropped + len(batch))
        self._dropped = 0

    def _send_metrics(self) -> None:
        data = metrics_data(self._registry, self._resource, SCOPE, started_ns=self._started_ns)
        self._note(is_sent=self._metrics.export(data) is MetricExportResult.SUCCESS)

    def _note(self, *, is_sent: bool) -> None:
        self._failures = 0 if is_sent else self._failures + 1


class Spans:
    """Spans of requests: one for the request, of the caller's trace if it has one, and one for each of its stages.

    Parameters
    ----------
    own : Resource
        What is traced.
    """

    def __init__(self, own: Resource) -> None:
        provider = TracerProvider(resource=own, shutdown_on_exit=False)  # its sampler is OTEL_TRACES_SAMPLER's
        self._own, self._sampler, self._ids = own, provider.sampler, provider.id_generator
        self._scope = InstrumentationScope(SCOPE, version("temperance"))

    def sampled(self, request: TracedRequest) -> int | None:
        """The trace of a request; None where its caller, or else the sampler, decided against one."""
        parent = _parent(request.traceparent)
        context = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
        trace = self._ids.generate_trace_id() if parent is None else parent.trace_id
        decision = self._sampler.should_sample(context, trace, request.route).decision
        return trace if decision is Decision.RECORD_AND_SAMPLE else None

    def of(self, requests: Iterable[tuple[int, TracedRequest]]) -> list[ReadableSpan]:
        """Spans of requests, with their traces."""
        # The times of requests are on the monotonic clock.
        offset = time.time_ns() - time.monotonic_ns()
        return [span for trace, request in requests for span in self._trace(trace, request, offset)]

    def _trace(self, trace: int, request: TracedRequest, offset: int) -> Iterator[ReadableSpan]:
        server = self._context(trace)
        status = Status(StatusCode.ERROR if request.status >= 500 else StatusCode.UNSET)
        yield ReadableSpan(
            f"{request.method} {request.route}",
            server,
            _parent(request.traceparent),
            self._own,
            dict(_attributes(request)),
            kind=SpanKind.SERVER,
            status=status,
            start_time=_nanoseconds(request.started, offset),
            end_time=_nanoseconds(request.ended, offset),
            instrumentation_scope=self._scope,
        )
        for name, started, ended in request.stages:
            times = _nanoseconds(started, offset), _nanoseconds(ended, offset)
            yield self._stage(name, self._context(trace), server, times)

    def _stage(self, name: str, own: SpanContext, server: SpanContext, times: tuple[int, int]) -> ReadableSpan:
        start, end = times
        return ReadableSpan(
            name, own, server, self._own, start_time=start, end_time=end, instrumentation_scope=self._scope
        )

    def _context(self, trace: int) -> SpanContext:
        return SpanContext(trace, self._ids.generate_span_id(), is_remote=False, trace_flags=_SAMPLED)


def resource() -> Resource:
    """What is traced: this process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` add to it."""
    own: dict[str, AttributeValue] = {
        "service.version": version("temperance"),
        "service.instance.id": str(uuid.uuid4()),
        "process.pid": os.getpid(),
    }
    if "OTEL_SERVICE_NAME" not in os.environ:
        own["service.name"] = "temperance"
    return Resource.create(own)


def _attributes(request: TracedRequest) -> Iterator[tuple[str, AttributeValue]]:
    # Nothing that the caller sent.
    yield "http.request.method", request.method
    yield "http.route", request.route
    yield "http.response.status_code", request.status
    yield "temperance.request_id", request.request_id
    if request.model is not None:
        yield "temperance.model", request.model
        yield "temperance.version", request.version or ""
        yield "temperance.rows", request.rows
    if request.code is not None:
        yield "error.type", request.code


def _parent(traceparent: str | None) -> SpanContext | None:
    if traceparent is None:
        return None
    _, trace, span, flags = traceparent.split("-")[:4]
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _nanoseconds(seconds: float, offset: int) -> int:
    return int(seconds * 1e9) + offset


_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
