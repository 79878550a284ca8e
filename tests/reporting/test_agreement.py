"""Terminal and page show what the JSON holds: every verdict, and every number."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS, Metric
from service.core.numerics import Array, Indices
from service.data.column_roles import Columns
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.evaluation.reasons import REASONS
from service.fitting.fit import FitRequest, fit
from service.reporting import page
from service.reporting.terminal import render_report
from service.runtime.model import load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
AT = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?![\w])")
TAIL = """\
[policies.triage]
default = true
on_ood = "ask"
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
costs.ask = { ann = 3, bob = 3 }
"""
OWN = {"0", "1", "2", "5", "15", "19", "20", "30", "95", "99", "10", "100", "97"}
"""Numbers of our own sentences: levels of intervals, bins, examples."""


class Words(HTMLParser):
    """Text of a page, and what its charts are called; no style, no drawing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.skipped = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.skipped += tag in {"style", "svg"}
        self.words += [value or "" for name, value in attrs if name == "aria-label"]

    def handle_endtag(self, tag: str) -> None:
        self.skipped -= tag in {"style", "svg"}
        self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.words.append(data)


def page_text(found: Evaluation) -> str:
    return " ".join(" ".join(Words(page.build(found)).words).split())


def terminal_text(*parts: RenderableType) -> str:
    console = Console(width=5000)
    with console.capture() as captured:
        for part in parts:
            console.print(part, highlight=False)
    return captured.get()


def leaves(found: Any) -> Iterator[float]:
    if isinstance(found, dict):
        for value in found.values():
            yield from leaves(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from leaves(value)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield float(found)


def unknown_numbers(text: str, found: Any) -> list[str]:
    """Numbers of a text that are none of the JSON's, rounded as they are written, or a percentage of one."""
    known = np.array(sorted({*leaves(found)} | {-v for v in leaves(found)}))
    known = np.concatenate([known, 100.0 * known])
    words = json.dumps(found, ensure_ascii=False)
    odd = []
    for token in NUMBER.findall(text):
        plain = token.replace(",", "")
        mantissa, _, power = plain.partition("e")
        digits = len(mantissa.partition(".")[2])
        slack = 0.5 * 10.0 ** (int(power or 0) - digits) * 1.0001 + 1e-9 * abs(float(plain))
        if plain.lstrip("+-") not in OWN and token not in words and np.abs(known - float(plain)).min() > slack:
            odd.append(token)
    return odd


CASES: dict[str, dict[str, Any]] = {
    "two classes": {"k": 2},
    "four classes": {"k": 4},
    "few rows": {"k": 2, "n": 3},
    "one row": {"k": 2, "n": 1},
    "one class alone": {"k": 2, "label": 1},
    "one class of three alone": {"k": 3, "label": 2},
    "one group": {"k": 2, "group": np.zeros(300, dtype=int)},
    "groups and weights": {"k": 2, "group": np.arange(300) // 3, "weight": np.linspace(0.5, 2.0, 300)},
    "groups of three classes": {"k": 3, "group": np.arange(300) // 4},
    "separable": {"k": 2, "separable": True},
    "too sure": {"k": 3, "scale": 3.0},
    "another population": {"k": 2, "far": True},
    "another mix": {"k": 3, "log_ratio": (0.0, 0.0, 1.5)},
    "a bias of its own": {"k": 3, "log_ratio": (0.0, 0.0, 1.5), "calibrator": "bcts"},
    "uncalibrated": {"k": 2, "calibrator": None},
    "more classes than a table holds": {"k": 25, "n": 500},
}


def evaluated(case: dict[str, Any], toy: Toy, truth: Truth, save: Save) -> Evaluation:
    k, n = case["k"], case.get("n", 300)
    tail = TAIL if k == 2 else ""
    repository = toy(k, tail)
    model = load_model(repository.draft("toy"))
    if case.get("calibrator", "temperature") is not None:
        x, y = truth(900, k)
        fitting = FitRequest(save("cal", X=x, y=y), calibrator=case.get("calibrator", "temperature"))
        model = load_model(repository.bundle("toy", fit(repository, "toy", fitting).version))
    x, y = truth(n, k, seed=5, log_ratio=case.get("log_ratio"))
    x = x * case.get("scale", 1.0)
    y = (
        x.argmax(axis=1)
        if case.get("separable")
        else np.full(n, model.classes[case["label"]])
        if "label" in case
        else y
    )
    more = {name: case[name] for name in ("group", "weight") if name in case}
    ood = save("ood", X=truth(80, k, seed=6)[0] + 6.0) if case.get("far") else None
    columns = Columns(labels_as="index0")
    evaluated = EvaluateRequest(
        save("test", X=x, y=y, **more),
        ood_data=ood,
        columns=columns,
        at=AT,
        horizon=50,
        recovery=0.1,
        prequential=k == 2,  # its matrices of more classes take seconds
    )
    return evaluate_file(model, evaluated)


@pytest.mark.parametrize("name", CASES)
def test_terminal_page_and_json_say_the_same(name: str, toy: Toy, truth: Truth, save: Save) -> None:
    found = evaluated(CASES[name], toy, truth, save)
    report = json.loads(json.dumps(found.report.as_json(), allow_nan=False))
    page_words, terminal = page_text(found), terminal_text(render_report(found.report))
    for verdict in report["verdicts"]:
        assert f"{verdict['title']} {verdict['text']}" in page_words
        assert " ".join(f"{verdict['title']}. {verdict['text']}".split()) in " ".join(terminal.split())
    facts = {**report, "version": 1, "digest": found.labelled.answer.model.bundle.digest, "from": asdict(found.origin)}
    own = " ".join(metric.meaning for metric in METRICS.values())
    assert unknown_numbers(page_words, {**facts, "own": own}) == []
    assert unknown_numbers(terminal, {**facts, "own": own}) == []


REASONS_BESIDE = {
    "low": "reason",
    "slope": "undetermined",
    "intercept": "undetermined",
    "slope_low": "reason",
    "intercept_low": "reason",
    "at_risk": "at_risk_reason",
    "threshold": "reason",
    "flag_rate_limit": "limit_reason",
    "realised_cost": "reason",
    "noise": "reason",
}
"""Keys of a report that may be null, and the key beside them with the reason."""


def absent(found: Any) -> Iterator[tuple[str, str | None]]:
    """Intervals and values of a report: the key, and the reason beside it where it is null."""
    for value in found if isinstance(found, list) else []:
        yield from absent(value)
    for key, value in found.items() if isinstance(found, dict) else []:
        reason = REASONS_BESIDE.get(key)
        if reason in found and not isinstance(value, list):
            assert (value is None) == (found[reason] is not None), (key, found)
            yield key, found[reason]
        yield from absent(value)


@pytest.mark.parametrize("name", CASES)
def test_an_interval_that_is_absent_says_why_in_json_and_in_the_same_words_on_terminal_and_page(
    name: str, toy: Toy, truth: Truth, save: Save
) -> None:
    found = evaluated(CASES[name], toy, truth, save)
    report = json.loads(json.dumps(found.report.as_json(), allow_nan=False))
    reasons = [(key, why) for key, why in absent(report) if why]
    texts = page_text(found), " ".join(terminal_text(render_report(found.report)).split())
    for key, why in reasons:
        if key not in {"slope_low", "intercept_low"} or why == "one_group":  # a line that is not determined has none
            assert all(REASONS[why] in text for text in texts) or (key, why) in SHOWN_ONCE, (key, why)
    assert name not in {"one group", "one row", "groups and weights", "uncalibrated"} or reasons


SHOWN_ONCE = {("realised_cost", "never_taken"), ("noise", "never_taken"), ("threshold", "no_threshold")} | {
    ("at_risk", why) for why in ("weights", "groups")
}
"""What stands in one table alone, or as an empty cell beside a count of 0."""


def test_the_check_itself_would_notice_a_number_of_another_place() -> None:
    assert unknown_numbers("slope 0.897", {"slope": 0.8971}) == []
    assert unknown_numbers("slope 0.897, 12.3 %", {"slope": 0.8961, "rate": 0.12}) == ["0.897", "12.3"]


def test_what_is_not_determined_is_so_everywhere(toy: Toy, truth: Truth, save: Save) -> None:
    found = evaluated(CASES["separable"], toy, truth, save)
    line = found.report.parts["rows"].probabilities.calibration.line
    assert (line.slope, line.undetermined) == (None, "separable")
    for text in (terminal_text(render_report(found.report)), page_text(found)):
        assert "not determined" in text
        assert "cannot be determined" in text
        assert "-confident, as far as" not in text


def test_a_report_says_when_from_what_and_by_which_program(toy: Toy, truth: Truth, save: Save) -> None:
    found = evaluated(CASES["two classes"], toy, truth, save)
    origin = asdict(found.origin)
    tool = origin["tool"]
    digest = origin.pop("data")
    assert digest.startswith("sha256:")
    assert origin == {"created": "2026-11-26T12:30:00Z", "file": "test.npz", "ood_file": None, "tool": tool}
    assert re.fullmatch(r"temperance \d+\.\d+.*", tool)
    text = page_text(found)
    assert all(part in text for part in ("2026-11-26T12:30:00Z", "test.npz", tool))
    assert found.origin.as_text() == f"evaluated 2026-11-26T12:30:00Z by {tool} from test.npz ({digest})"
    assert str(save("x", X=np.zeros(1))).rpartition("/")[0] not in json.dumps(origin)
    assert page.build(found) == page.build(replace(found))


def test_a_metric_is_one_entry_and_appears_in_json_terminal_and_page(
    toy: Toy, truth: Truth, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zero_one_loss(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
        return float(np.average(log_probs.argmax(axis=1) != labels, weights=weights))

    monkeypatch.setitem(METRICS, "zero_one_loss", Metric(zero_one_loss, "share of rows that are predicted wrong"))
    found = evaluated(CASES["two classes"], toy, truth, save)
    value = found.report.as_json()["metrics"]["zero_one_loss"]
    assert value == pytest.approx(1.0 - found.report.metrics["accuracy_score"])
    for text in (" ".join(terminal_text(render_report(found.report)).split()), page_text(found)):
        assert re.search(rf"zero_one_loss 0\.\d{{4}} {value:.4f} share of rows that are predicted wrong", text)
