"""Counters, gauges and histograms, on a registry that is passed in; what a trace is made of."""

import math
import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import mark_process_dead

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
Mode = Literal["livesum", "livemin", "livemax"]
"""What /metrics shows of a gauge of several workers."""

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
        self.requests = self._counter("requests", "HTTP requests answered", "method", "route", "status")
        self.refusals = self._counter("refusals", "Requests answered by a problem, by its type", "code")
        self.seconds = self._histogram("request_seconds", "Time to answer", "route", buckets=SECONDS)
        self.rows = self._counter("rows", "Rows answered", "model", "version", "verb")
        self.batch = self._histogram("request_rows", "Rows in one request", "model", buckets=ROWS)
        self.flagged = self._counter("flagged_rows", "Rows flagged as out of distribution", "model", "version")
        self.actions = self._counter(
            "actions",
            "Actions decided; those by costs in the request count under policy and action (request)",
            *("model", "version", "policy", "action"),
        )
        self.given_up = self._counter("given_up_processes", "Processes that ended because a run did not end")
        self.key_reloads = self._counter("key_reloads", "Changes of the file of keys: taken over or refused", "result")
        self.reloads = self._counter("reloads", "Changes of models: ok, or refused at each try", "model", "result")
        # The worker that has not looked for the longest time is the one to know of.
        self.last_look = self._gauge("last_look_seconds", "Time of the last look at the models", mode="livemin")
        self.waiting = self._gauge("waiting_requests", "Requests that wait for their run", "model")
        self._add_stages()
        self._add_record()

    def _add_stages(self) -> None:
        self.queue = self._histogram("queue_seconds", "Wait of a request for its run", "model", buckets=STAGE_SECONDS)
        self.run = self._histogram(
            "run_seconds", "A run of the graph, for all requests that it joins", "model", buckets=STAGE_SECONDS
        )
        self.postprocess = self._histogram(
            "postprocess_seconds", "From a run's output to its answers", "model", buckets=STAGE_SECONDS
        )

    def _add_record(self) -> None:
        self.records = self._counter("records", "Answers whose records are durable")
        self.unrecorded = self._counter("unrecorded_answers", "Answers that left without a record: relaxed audit")
        self.commit_seconds = self._histogram(
            "record_commit_seconds", "Time to write a group of records", buckets=STAGE_SECONDS
        )
        self.store_up = self._gauge("record_store_up", "Whether records can be written: 0 or 1", mode="livemin")
        self.record_group = self._histogram("record_group_answers", "Records that were written together", buckets=ROWS)
        self.record_waiting = self._gauge("record_waiting_writes", "Writes that wait for the store")
        self.unrecorded_logins = self._counter("unrecorded_logins", "Failed logins beyond those on record")
        self._add_store()
        self._add_monitoring()

    def _add_store(self) -> None:
        self.store_bytes = self._gauge("store_bytes", "Size of the store", mode="livemax")
        self.store_free = self._gauge("store_free_bytes", "Free on the disk of an embedded store", mode="livemin")
        # A store on a server is never measured, and 0 would be a full disk to the alert.
        self.store_free.set(math.nan)

    def _add_monitoring(self) -> None:
        self.shadows = self._counter(
            "shadow_requests",
            "Requests that a shadow was to see: recorded, dropped where too many waited, or failed",
            *("model", "version", "result"),
        )
        self.alarm = self._gauge(
            "alarm", "1 for an alarm that is not acknowledged, 0 after that", "model", "version", "test", mode="livemin"
        )
        self.alarm_evidence = self._gauge(
            "alarm_evidence",
            "Evidence of a test, as a share of what raises its alarm; of both, the logarithm",
            *("model", "version", "test"),
            mode="livemax",
        )
        self.alarm_outcomes = self._gauge(
            "alarm_outcomes", "Outcomes that have entered a test", "model", "version", "test", mode="livemax"
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"temperance_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"temperance_{name}", meaning, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str, mode: Mode = "livesum") -> Gauge:
        # Of live workers alone: what waited in one that has ended waits no more.
        return Gauge(f"temperance_{name}", meaning, labels, registry=self.registry, multiprocess_mode=mode)


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


def forget_ended_workers(folder: Path) -> None:
    """Take the gauges of worker processes that have ended out of the folder in which workers count together.

    Their counters stay: what they counted has happened.
    """
    pids = {int(found[1]) for path in folder.glob("gauge_live*.db") if (found := _OF_A_PROCESS.search(path.name))}
    for pid in filter(_has_ended, pids):
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # it ships no types


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # of another user: it lives, and is none of ours
        return False
    return False


_OF_A_PROCESS: Final = re.compile(r"_(\d+)\.db$")
