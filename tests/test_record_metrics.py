"""The disk of the record is measured, and a warning is logged once when 80 % of it are used."""

import logging
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.record_metrics import MEASURE_SECONDS, MeasuredStore
from service.store.engine import open_store
from service.telemetry import Telemetry
from tests.store.kept import FixedSigner


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_disk_that_is_nearly_full_is_a_warning_once(
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("service.record_metrics.time.monotonic", lambda: now[0])
    folder = tmp_path_factory.mktemp("store")
    store = open_store(f"sqlite://{folder}/audit.db", signer=FixedSigner())
    registry = CollectorRegistry()
    measured = MeasuredStore(Telemetry(registry), disk, lambda: 3)
    with caplog.at_level(logging.WARNING, "temperance"):
        measured.run(store, is_last=False)
        assert caplog.messages == []
        (disk / "filling").write_bytes(bytes(1_800_000))
        for _ in range(3):
            now[0] += MEASURE_SECONDS
            measured.run(store, is_last=False)
    assert caplog.messages == ["the disk of the record is nearly full: 0 MiB are left"]
    assert registry.get_sample_value("temperance_record_waiting_writes") == 3
    store.close()


def test_the_disk_of_a_server_that_keeps_the_store_has_no_number(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/audit.db", signer=FixedSigner())
    registry = CollectorRegistry()
    MeasuredStore(Telemetry(registry), None, lambda: 3).run(store, is_last=False)
    free = registry.get_sample_value("temperance_store_free_bytes")
    assert free is not None
    assert math.isnan(free)  # 0 would be a full disk to the alert
    store.close()
