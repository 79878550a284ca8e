"""Counting by several processes in one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry import STAGE_SECONDS, Telemetry, forget_ended_workers

COUNTING = """
from prometheus_client import CollectorRegistry
from service.telemetry import Telemetry
telemetry = Telemetry(CollectorRegistry())
telemetry.waiting.labels("a").inc(3)
telemetry.run.labels("a").observe(0.0002)
telemetry.refusals.labels("overloaded").inc()
print("counted", flush=True)
input()
"""


def counting(folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", COUNTING]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def counted(folder: Path, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return registry.get_sample_value(name, labels)


def test_what_ended_workers_counted_stays_and_what_waited_in_them_does_not(tmp_path: Path) -> None:
    with counting(tmp_path) as first, counting(tmp_path) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == b"counted\n"
        forget_ended_workers(tmp_path)
        assert counted(tmp_path, "temperance_waiting_requests", model="a") == 6
        first.kill()
        first.wait(timeout=30)
        forget_ended_workers(tmp_path)
        assert counted(tmp_path, "temperance_waiting_requests", model="a") == 3
        assert counted(tmp_path, "temperance_run_seconds_count", model="a") == 2
        assert counted(tmp_path, "temperance_refusals_total", code="overloaded") == 2
        second.communicate(b"\n", timeout=30)


def test_times_of_stages_differ_from_a_tenth_of_a_millisecond_on() -> None:
    telemetry = Telemetry(CollectorRegistry())
    telemetry.run.labels("a").observe(0.00009)
    telemetry.run.labels("a").observe(0.00011)
    below = telemetry.registry.get_sample_value("temperance_run_seconds_bucket", {"model": "a", "le": "0.0001"})
    assert below == 1
    assert list(STAGE_SECONDS) == sorted(STAGE_SECONDS)


@pytest.mark.parametrize(
    "metric", ["queue", "run", "postprocess", "waiting", "refusals", "batch", "seconds", "requests"]
)
def test_no_label_is_a_name_of_a_caller_or_an_id(metric: str) -> None:
    telemetry = Telemetry(CollectorRegistry())
    labels = set(vars(telemetry)[metric]._labelnames)
    assert labels <= {"method", "route", "status", "code", "model"}
