"""Alarms of a process: outcomes that are reported to `temperance serve` raise one, wherever they arrive."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest

from service.bundle.repository import Repository
from service.bundle.self_test import restore_self_test
from tests.shipped_model import SHIPPED

ROWS: Final = 256
SECONDS: Final = 60.0
OTHER: Final = {"benign": "malignant", "malignant": "benign"}


def instances() -> list[list[float]]:
    test = restore_self_test(Repository(SHIPPED).bundle("breast-cancer", 1).state)
    assert test is not None
    rows: list[list[float]] = test.columns.tolist()
    return (rows * ROWS)[:ROWS]


def metric(client: Any, name: str) -> list[str]:
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_outcomes_that_contradict_every_answer_raise_an_alarm_once(
    serving: Callable[..., AbstractContextManager[Any]], workers: str
) -> None:
    with serving(SHIPPED, "--workers", workers, TEMPERANCE_MONITOR_SECONDS="0.2") as server:
        answered = server.client.post("/v1/models/breast-cancer:predict", json={"instances": instances()}).json()
        outcomes = [
            {"prediction_id": row["prediction_id"], "outcome": OTHER[row["label"]], "ascertainment": "routine"}
            for row in answered["predictions"]
        ]
        reported = server.client.post("/v1/outcomes", json={"outcomes": outcomes})
        assert reported.status_code == 200, reported.text
        deadline = time.monotonic() + SECONDS
        while not metric(server.client, "temperance_alarm{") and time.monotonic() < deadline:
            time.sleep(0.1)
        found = metric(server.client, "temperance_alarm{")
        assert any(
            'model="breast-cancer"' in line and 'test="slope"' in line and line.endswith(" 1.0") for line in found
        )
        lines = [
            line for line in server.log.read_text().splitlines() if "alarm of breast-cancer version 1: slope" in line
        ]
        assert len(lines) == 1
