"""Pods of `deploy/kubernetes` as processes: their environment serves, is probed, keeps its records and ends in time."""

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest
import yaml

from tests.deploy.manifests import needs_kubectl, pod
from tests.deploy.pods import Node, node, store
from tests.deploy.test_kubernetes import ADAPTER
from tests.runtime.test_proofs_of_a_server import wait_for
from tests.shipped_model import NAME

pytestmark = needs_kubectl
FOLDERS: Final = ("base", "overlays/kserve", "overlays/knative")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    # Not below pytest's own folder: the server runs as another user where the tests run as root.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder, store(Path(folder)) as url:
        yield url


def records(database: str) -> int:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT count(*) FROM predictions").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pod_serves_and_records_and_ends_within_its_grace(
    folder: str, database: str, tmp_path: Path, test_rows: list[list[float]]
) -> None:
    here = node(pod(folder), tmp_path, database)
    key = here.make_secrets()
    here.initialize()
    variables = {"K_SERVICE": "temperance", "K_REVISION": "temperance-00001"} if "knative" in folder else {}
    with here.running(**variables) as process:
        seen = here.start()
        assert set(seen) == {0, 200}, (tmp_path / "stderr").read_text()  # nothing listens before it is ready
        assert (here.probe("readinessProbe"), here.probe("livenessProbe")) == (200, 200)
        check_answers(here, key, database, test_rows[0])
        process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        if "knative" not in folder:  # which drains by itself
            wait_for(lambda: here.probe("readinessProbe") == 503, seconds=5.0)
            assert here.probe("livenessProbe") == 200
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - signalled < here.pod.grace
    assert '"' in (tmp_path / "stdout").read_text()  # anchors


def check_answers(here: Node, key: str, database: str, row: list[float]) -> None:
    """One answer of each protocol, each on record; none without a key."""
    before, headers = records(database), {"Authorization": f"Bearer {key}"}
    decide = f"{here.url}/v1/models/{NAME}:decide"
    assert httpx.post(decide, json={"instances": [row]}).status_code == 401
    with httpx.Client(base_url=here.url, headers=headers, timeout=30) as client:
        assert client.post(decide, json={"instances": [row]}).status_code == 200
        inputs = client.get(f"/v2/models/{NAME}").json()["inputs"]
        tensor = {**inputs[0], "shape": [1, len(row)], "data": row}
        assert client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]}).status_code == 200
        metrics = client.get("/metrics").text
    assert records(database) == before + 2
    (rule,) = yaml.safe_load(ADAPTER.read_text(encoding="utf-8"))["rules"]["custom"]
    for series in (rule["seriesQuery"].partition("{")[0], "temperance_queue_seconds_sum"):
        assert f"\n{series}{{" in metrics
        assert series in rule["metricsQuery"]


def test_a_pod_that_starts_without_models_ends_with_a_line_that_says_so(database: str, tmp_path: Path) -> None:
    here = node(pod("base"), tmp_path, database)
    here.make_secrets()
    with here.running() as process:
        assert process.wait(timeout=60) == 1
    assert "no model is published" in (tmp_path / "stderr").read_text()


def test_two_pods_share_the_store_and_its_secrets(database: str, tmp_path: Path, test_rows: list[list[float]]) -> None:
    first = node(pod("base"), tmp_path, database)
    key = first.make_secrets()
    first.initialize()
    second = Node(first.pod, first.root, database, node(pod("base"), tmp_path, database).port)
    with first.running(), second.running():
        assert first.start()[-1] == second.start()[-1] == 200
        for one in (first, second):
            check_answers(one, key, database, test_rows[0])
