"""What a terminal shows of labels and sequences is what their JSON holds."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest

from service.evaluation.by_task import measure_task
from service.evaluation.measure import EvaluateRequest
from service.reporting.terminal import MEANINGS
from service.runtime.model import load_model
from tests.reporting.test_agreement import strangers, terminal_text
from tests.tasks.conftest import draw_labels, draw_sequences

AT = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize("task", ["multilabel", "sequence"])
@pytest.mark.parametrize("n", [8, 400])
def test_the_terminal_says_what_the_json_says(
    task: str,
    n: int,
    label_workshop: Callable[..., Any],
    sequence_workshop: Callable[..., Any],
) -> None:
    workshop = {"multilabel": label_workshop, "sequence": sequence_workshop}[task]()
    drawn: Any = {"multilabel": draw_labels, "sequence": draw_sequences}[task]
    x, y = drawn(800, 0)[:2]
    version = workshop.fit(workshop.rows("cal", X=x, y=y)).version
    model = load_model(workshop.repository.bundle(workshop.name, version))
    x, y = drawn(n, 1)[:2]
    found = measure_task(model, EvaluateRequest(workshop.rows("test", X=x, y=y), at=AT))
    said: Any = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["report"]["file"] == "test.npz"
    assert said["report"]["created"] == "2026-11-26T00:00:00Z"
    text = terminal_text(*found.tables)
    assert strangers(text, {**said, "own": " ".join(MEANINGS.values())}) == []
    verdicts = list(chain(*said["verdicts"].values())) if task == "multilabel" else said["verdicts"]
    shown = [v for v in verdicts if v["mood"] == "caution" or task == "sequence"]
    assert all(f"{v['title']}. {v['text']}" in text for v in shown)
    assert len(verdicts) >= 4
