"""Counters, gauges and histograms, on a registry that is passed in; what a trace is made of.

Tested in tests/api/test_app.py and tests/test_tracing.py.
"""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, *SECONDS)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Telemetry:
    """Everything the service counts. Labels come from routes and bundles, never from what a caller sent.

    Parameters
    ----------
    registry : CollectorRegistry
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "temperance_requests", "HTTP requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "temperance_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.rows = Counter("temperance_rows", "Rows answered", ["model", "version", "verb"], registry=registry)
        self.batch = Histogram(
            "temperance_request_rows", "Rows in one request", ["model"], buckets=ROWS, registry=registry
        )
        self.flagged = Counter(
            "temperance_flagged_rows", "Rows flagged as out of distribution", ["model", "version"], registry=registry
        )
        self.actions = Counter(
            "temperance_actions",
            "Actions decided; those by costs in the request count under policy and action (request)",
            ["model", "version", "policy", "action"],
            registry=registry,
        )
        self.refusals = Counter(
            "temperance_refusals", "Requests answered by a problem, by its type", ["code"], registry=registry
        )
        self.queue = self._stage("queue", "Time that a request waited for its run")
        self.run = self._stage("run", "Time of a run of the model's graph, for all requests that it joins")
        self.postprocess = self._stage("postprocess", "Time from the graph's output to the answer, for a run")
        # Of live workers alone: what waited in one that has ended waits no more.
        self.waiting = Gauge(
            "temperance_waiting_requests",
            "Requests that wait for their run",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waiting_bytes = Gauge(
            "temperance_waiting_bytes",
            "Bytes of bodies that are read, parsed or wait",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def _stage(self, name: str, meaning: str) -> Histogram:
        return Histogram(
            f"temperance_{name}_seconds", meaning, ["model"], buckets=STAGE_SECONDS, registry=self.registry
        )


class TracedRequest(NamedTuple):
    """A request that was answered, as a trace shows it; times are seconds on the monotonic clock.

    Attributes
    ----------
    method, route : str
        The route as a template, never the path.
    status : int
    request_id : str
        Ours.
    started, ended : float
    traceparent : str or None
        Of the caller, checked.
    code : str or None
        Type of the problem that answered it.
    model, version : str or None
    rows : int
    stages : tuple of (str, float, float)
        Name, start and end of what was done for it.
    """

    method: str
    route: str
    status: int
    request_id: str
    started: float
    ended: float
    traceparent: str | None = None
    code: str | None = None
    model: str | None = None
    version: str | None = None
    rows: int = 0
    stages: tuple[tuple[str, float, float], ...] = ()
