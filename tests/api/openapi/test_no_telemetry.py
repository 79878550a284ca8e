"""Copies of models for examples."""

from prometheus_client import generate_latest

from service.api.openapi.no_telemetry import NoTelemetry, without_statistics
from service.runtime.registry import Registry


def test_a_copy_has_the_same_models_and_statistics_of_its_own(shipped: Registry) -> None:
    model, copy = shipped.model("breast-cancer"), without_statistics(shipped).model("breast-cancer")
    assert copy.session is model.session
    assert copy.tally is not model.tally


def test_nothing_is_counted() -> None:
    telemetry = NoTelemetry()
    telemetry.rows.labels("model", "1", "decide").inc(3)
    telemetry.batch.labels("model").observe(3)
    assert generate_latest(telemetry.registry) == b""
