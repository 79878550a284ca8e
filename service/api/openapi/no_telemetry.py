"""For the examples of the document, which must not be counted: no telemetry, and models with statistics apart."""

from dataclasses import replace

from prometheus_client import CollectorRegistry

from service.runtime.loader import Served
from service.runtime.registry import Registry
from service.runtime.timing import Tally
from service.telemetry import Telemetry


class NoTelemetry(Telemetry):
    """Counts nothing.

    A registry of its own would not do: where several workers count in files, a metric is known by its name alone.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        nothing = _Nothing()
        self.requests = self.rows = self.flagged = self.actions = nothing  # type: ignore[assignment]  # as far as is used
        self.seconds = self.batch = self.queue = self.run = self.postprocess = nothing  # type: ignore[assignment]
        self.refusals = self.waiting = nothing  # type: ignore[assignment]


def without_statistics(registry: Registry) -> Registry:
    """The same models with statistics of their own."""
    return Registry({name: _without_statistics(registry.served(name)) for name in registry.names()})


def _without_statistics(served: Served) -> Served:
    models = {version: replace(model, tally=Tally()) for version, model in served.models.items()}
    return replace(served, models=models)


class _Nothing:
    def labels(self, *values: object) -> "_Nothing":
        del values
        return self

    def inc(self, amount: float = 1.0) -> None:
        del amount

    def observe(self, amount: float) -> None:
        del amount

    def set(self, amount: float) -> None:
        del amount
