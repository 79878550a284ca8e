"""What terminal and page show of multilabel and sequence models is what their JSON holds."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from service.core.assessment.metrics import METRICS
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.reporting.terminal import render_report
from service.runtime.model import load_model
from tests.reporting.test_agreement import page_text, terminal_text, unknown_numbers
from tests.tasks.conftest import draw_labels, draw_sequences

AT = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize("task", ["multilabel", "sequence"])
@pytest.mark.parametrize("n", [8, 400])
def test_terminal_and_page_show_what_the_json_holds(
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
    found = evaluate_file(model, EvaluateRequest(workshop.rows("test", X=x, y=y), at=AT))
    report: Any = json.loads(json.dumps(found.report.as_json(), allow_nan=False))
    assert (found.origin.file, found.origin.created) == ("test.npz", "2026-11-26T00:00:00Z")
    text, shown = terminal_text(render_report(found.report)), page_text(found)
    known = {**report, "origin": asdict(found.origin), "own": " ".join(m.meaning for m in METRICS.values())}
    assert unknown_numbers(text, known) == []
    assert unknown_numbers(shown, {**known, "model": model.name, "version": 1, "digest": model.bundle.digest}) == []
    verdicts = report["verdicts"]
    cautions = [v for v in verdicts if v["mood"] == "caution" or task == "sequence"]
    assert all(f"{v['title']}. {v['text']}" in text for v in cautions)
    assert all(f"{v['title']} {v['text']}" in shown for v in verdicts)
    assert len(verdicts) >= 4
