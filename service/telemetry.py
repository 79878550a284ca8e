"""Counters and histograms, on a registry that is passed in.

Tested in `tests/api/test_app.py`.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
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
