"""Traces and metrics for a collector: a real HTTP server that decodes what it is sent."""

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from service.bundle.repository import Repository
from service.telemetry import Telemetry, TracedRequest
from service.tracing import MOST_WAITING, TIMEOUT, Exporter

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECONDS = 20.0


@dataclass
class Sink:
    """A collector that keeps what it is sent."""

    endpoint: str = ""
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    answers: bool = True

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(part.resource))
                self.spans += [span for scope in part.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for part in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                found = {one.name: one for scope in part.scope_metrics for one in scope.metrics}
                # A worker that has answered nothing has no points.
                self.metrics = found | self.metrics if self.metrics and not points(found) else self.metrics | found
        else:
            self.faults.append(path)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


def points(metrics: dict[str, Any]) -> list[Any]:
    return list(metrics["temperance_requests"].sum.data_points) if "temperance_requests" in metrics else []


def attributes(thing: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in thing.attributes}


@contextmanager
def collecting(**options: Any) -> Iterator[Sink]:
    """A real server on a free port."""
    sink, silent = Sink(**options), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not sink.answers:
                silent.wait(SECONDS)
            sink.take(self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *values: object) -> None:
            del values

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        sink.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield sink
        silent.set()
        server.shutdown()


def traced(**values: Any) -> TracedRequest:
    now = time.monotonic()
    given: dict[str, Any] = {
        "method": "POST",
        "route": "/v1/models/{name}:decide",
        "status": 200,
        "request_id": "0192f0c1",
        "started": now - 0.010,
        "ended": now,
        "stages": (("read", now - 0.009, now - 0.008), ("run", now - 0.005, now - 0.002)),
    }
    return TracedRequest(**given | values)


def sent(registry: CollectorRegistry, *requests: TracedRequest) -> Sink:
    """What a collector holds after requests were recorded and the exporter was closed."""
    with collecting() as sink:
        exporter = Exporter(sink.endpoint, registry, span_seconds=60.0)
        exporter.start()
        for request in requests:
            exporter.record(request)
        exporter.close()
        return sink


def test_a_request_is_a_span_of_its_callers_trace_with_a_span_for_each_stage() -> None:
    before = time.time_ns()
    request = traced(traceparent=f"00-{TRACE}-{PARENT}-01", model="breast-cancer", version="1", rows=3)
    sink = sent(CollectorRegistry(), request)
    (server,) = sink.named("POST /v1/models/{name}:decide")
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert server.kind == 2  # SPAN_KIND_SERVER
    assert [span.name for span in sink.spans if span.parent_span_id == server.span_id] == ["read", "run"]
    assert {span.trace_id.hex() for span in sink.spans} == {TRACE}
    assert server.end_time_unix_nano - server.start_time_unix_nano == pytest.approx(10e6, rel=1e-3)
    assert abs(server.end_time_unix_nano - before) < 60e9
    (run,) = sink.named("run")
    assert run.end_time_unix_nano - run.start_time_unix_nano == pytest.approx(3e6, rel=1e-3)
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{name}:decide",
        "http.response.status_code": 200,
        "temperance.request_id": "0192f0c1",
        "temperance.model": "breast-cancer",
        "temperance.version": "1",
        "temperance.rows": 3,
    }
    assert sink.faults == []


def test_a_request_without_a_trace_begins_one() -> None:
    first, second = sent(CollectorRegistry(), traced(stages=()), traced(stages=())).spans
    assert first.parent_span_id == b""
    assert first.trace_id != second.trace_id


def test_a_request_whose_caller_does_not_sample_is_not_sent() -> None:
    assert sent(CollectorRegistry(), traced(traceparent=f"00-{TRACE}-{PARENT}-00")).spans == []


def test_the_sampler_is_opentelemetrys_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    sink = sent(CollectorRegistry(), traced(), traced(traceparent=f"00-{TRACE}-{PARENT}-01"))
    assert {span.trace_id.hex() for span in sink.spans} == {TRACE}


def test_a_fault_of_the_service_is_an_error_and_a_callers_mistake_is_none() -> None:
    fault, mistake = sent(
        CollectorRegistry(),
        traced(status=500, code="internal", stages=()),
        traced(status=422, code="invalid-instances", stages=()),
    ).spans
    assert (fault.status.code, mistake.status.code) == (2, 0)
    assert attributes(mistake)["error.type"] == "invalid-instances"


def test_the_process_has_a_name_a_version_and_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = sent(CollectorRegistry(), traced()).resources
    assert own["service.name"] == "temperance"
    assert own["service.version"]
    assert len(own["service.instance.id"]) == 36
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ward-7")
    (named,) = sent(CollectorRegistry(), traced()).resources
    assert named["service.name"] == "ward-7"
    assert named["service.instance.id"] != own["service.instance.id"]


def test_metrics_are_those_of_prometheus() -> None:
    telemetry = Telemetry(CollectorRegistry())
    telemetry.requests.labels("GET", "/livez", 200).inc(3)
    telemetry.run.labels("breast-cancer").observe(0.0002)
    telemetry.run.labels("breast-cancer").observe(0.3)
    telemetry.run.labels("other").observe(99.0)
    telemetry.waiting.labels("breast-cancer").set(7)
    metrics = sent(telemetry.registry).metrics
    (requests,) = metrics["temperance_requests"].sum.data_points
    assert (requests.as_double, attributes(requests)["route"]) == (3.0, "/livez")
    assert requests.start_time_unix_nano < requests.time_unix_nano
    assert metrics["temperance_requests"].sum.is_monotonic
    points = {attributes(one)["model"]: one for one in metrics["temperance_run_seconds"].histogram.data_points}
    own = points["breast-cancer"]
    assert (own.count, own.sum) == (2, pytest.approx(0.3002))
    assert sum(own.bucket_counts) == 2
    assert own.bucket_counts[list(own.explicit_bounds).index(0.00025)] == 1
    assert own.bucket_counts[list(own.explicit_bounds).index(0.5)] == 1
    assert points["other"].bucket_counts[-1] == 1
    assert not own.HasField("min")
    (waiting,) = metrics["temperance_waiting_requests"].gauge.data_points
    assert waiting.as_double == 7.0


def test_spans_and_metrics_are_sent_while_the_process_runs() -> None:
    telemetry = Telemetry(CollectorRegistry())
    with collecting() as sink:
        exporter = Exporter(sink.endpoint, telemetry.registry, span_seconds=0.01, metric_seconds=0.01)
        exporter.start()
        exporter.record(traced())
        until(lambda: bool(sink.spans) and bool(sink.metrics))
        exporter.close()


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_what_is_too_much_for_the_collector_is_dropped() -> None:
    sink = sent(CollectorRegistry(), *[traced(stages=())] * (MOST_WAITING + 10))
    assert len(sink.spans) == MOST_WAITING


@pytest.mark.parametrize("collector", ["silent", "unreachable"])
def test_a_collector_that_does_not_answer_delays_neither_requests_nor_the_end(
    collector: str, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting(answers=False) as sink:
        endpoint = sink.endpoint if collector == "silent" else "http://127.0.0.1:1"
        exporter = Exporter(endpoint, CollectorRegistry(), span_seconds=0.01)
        exporter.start()
        slowest = 0.0
        for _ in range(2 * MOST_WAITING):
            began = time.perf_counter()
            exporter.record(traced())
            slowest = max(slowest, time.perf_counter() - began)
        began = time.monotonic()
        exporter.close()
        assert time.monotonic() - began < TIMEOUT + 0.5
    exporter._thread.join(SECONDS)
    assert slowest < 0.25  # nothing waits for the network; a busy machine may take a thread away
    assert len(caplog.records) < 50


DECIDE = "/v1/models/breast-cancer:decide"
STAGES = ["read", "queue", "run", "postprocess", "write", "record"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_sends_every_request_until_its_end(
    workers: int, serving: Callable[..., Any], repository: Repository, test_rows: list[list[float]]
) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with collecting() as sink:
        with serving(repository.root, "--workers", str(workers), TEMPERANCE_OTLP_ENDPOINT=sink.endpoint) as server:
            for _ in range(10):
                answer = server.client.post(DECIDE, json={"instances": test_rows[:2]}, headers=parent)
                assert answer.status_code == 200
            server.client.get("/nowhere", headers=parent)
        answered, refused = sink.named("POST /v1/models/{name}:decide"), sink.named("GET (other)")
        assert len(answered) == 10
        assert answer.headers["temperance-id"] in {attributes(span)["temperance.request_id"] for span in answered}
        assert {attributes(span)["temperance.rows"] for span in answered} == {2}
        assert attributes(refused[0])["error.type"] == "not-found"
        stages = [span for span in sink.spans if span.parent_span_id == answered[0].span_id]
        assert [span.name for span in sorted(stages, key=lambda span: span.start_time_unix_nano)] == STAGES
        assert {span.trace_id.hex() for span in (*answered, *refused, *stages)} == {TRACE}
        assert len({own["service.instance.id"] for own in sink.resources}) <= workers
        assert sink.metrics["temperance_requests"].sum.data_points
        assert "temperance_queue_seconds" in sink.metrics


def test_a_server_whose_collector_cannot_be_reached_answers_and_ends_as_usual(
    serving: Callable[..., Any], repository: Repository, test_rows: list[list[float]]
) -> None:
    with serving(repository.root, TEMPERANCE_OTLP_ENDPOINT="http://127.0.0.1:1") as server:
        for _ in range(20):
            assert server.client.post(DECIDE, json={"instances": test_rows[:1]}).status_code == 200
        server.process.terminate()
        began = time.monotonic()
        server.process.wait(timeout=30)
        assert time.monotonic() - began < TIMEOUT + 8.0


def test_variables_of_opentelemetry_alone_send_nothing(
    serving: Callable[..., Any], repository: Repository, test_rows: list[list[float]]
) -> None:
    with collecting() as sink:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        }
        with serving(repository.root, **variables) as server:
            assert server.client.post(DECIDE, json={"instances": test_rows[:1]}).status_code == 200
        assert (sink.spans, sink.metrics, sink.faults) == ([], {}, [])


def test_nothing_that_sends_is_imported_without_a_collector() -> None:
    # FastAPI imports the interfaces by itself.
    code = (
        "import service.main, sys;"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
