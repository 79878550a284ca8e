import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.evaluation.number_format import decimal, percent, rounded
from service.evaluation.report import EvaluationReport, PartReport
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.reporting import page
from service.runtime.model import Model, load_model
from tests.evaluation.conftest import evaluated

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
NAMES = ("ann", "bob", "cyd", "dee", "eve", "fay")
TAIL = """\
[ood]
scores = ["nll", "mahalanobis"]
gate = ["mahalanobis", "range"]
[policies.triage]
default = true
on_ood = "ask"
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
costs.ask = { ann = 3, bob = 3 }
"""
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps the text and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "srcset", "data", "action"}]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def fitted(toy: Toy, truth: Truth, save: Save, k: int = 2, tail: str = TAIL) -> Model:
    x, y = truth(600, k)
    repository = toy(k, tail)
    return load_model(repository.bundle("toy", fit(repository, "toy", FitRequest(save(X=x, y=y))).version))


def built(model: Model, x: Array, y: Indices, ood: Array | None = None) -> tuple[str, EvaluationReport]:
    found = evaluated(model, x, y, ood=ood)
    return page.build(found), found.report


def rows(report: EvaluationReport) -> PartReport:
    return report.parts["rows"]


@pytest.fixture
def model(toy: Toy, truth: Truth, save: Save) -> Model:
    return fitted(toy, truth, save)


def test_a_page_is_one_file_that_loads_nothing_and_runs_nothing(model: Model, truth: Truth) -> None:
    text, _ = built(model, *truth(300, seed=5), truth(100, seed=6)[0] + 6.0)
    reader = Reader(text)
    assert reader.open == []
    assert reader.links
    assert all(link.startswith("#") and link[1:] in reader.ids for link in reader.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(reader.tags)
    assert "@import" not in text
    assert len(reader.ids) == len(set(reader.ids))


def test_the_same_evaluation_gives_the_same_bytes(model: Model, truth: Truth) -> None:
    rows, far = truth(300, seed=5), truth(100, seed=6)[0]
    assert built(model, *rows, far)[0] == built(model, *rows, far)[0]


def test_a_page_names_what_it_is_about(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=5)
    text = Reader(built(model, x, y)[0]).text
    for fact in ("toy, version 1", model.bundle.digest, "temperance", "temperature (ok)", "none given"):
        assert str(fact) in text
    assert f"300 rows: {(y == 0).sum()} ann, {(y == 1).sum()} bob" in text


def number(value: float | None) -> str:
    return f"{value:.4g}"


def test_numbers_on_a_page_are_the_report_s(model: Model, truth: Truth) -> None:
    text, report = built(model, *truth(300, seed=5), truth(100, seed=6)[0] + 6.0)
    text = Reader(text).text
    for name, value in report.metrics.items():
        assert f"{name} {decimal(report.uncalibrated_metrics[name])} {decimal(value)}" in text
    for name, score in report.ood.scores.items():
        rates = f"{percent(score.flag_rate)} {percent(score.ood_flag_rate)}"
        assert f"{name} {number(score.threshold)} {rates}" in text
        positive = f"{percent(score.fpr95_ood_positive)} {percent(score.fpr95_id_positive)} {number(score.aupr_out)}"
        assert (
            f"{name} {number(score.auroc)} {positive} {number(score.aupr_in)} {percent(score.detection_error)}" in text
        )
    assert f"the gate {percent(report.ood.flag_rate)} {percent(report.ood.ood_flag_rate)}" in text
    policy = rows(report).policies["triage"]
    assert f"as decided {decimal(policy.expected_cost)} {decimal(policy.realised_cost)}" in text
    assert f"most probable class {decimal(policy.label_cost)}" in text
    assert f"always {policy.constant_action}, the best single action {decimal(policy.constant_cost)}" in text
    for action, own in policy.actions.items():
        assert f"{action} {own.taken} " in text


def test_verdicts_and_tables_of_a_page_are_the_report_s(model: Model, truth: Truth) -> None:
    text, report = built(model, *truth(300, seed=5))
    text = Reader(text).text
    check, policy = rows(report).probabilities.calibration, rows(report).policies["triage"]
    assert check.line.slope is not None
    assert f"differs from the observed frequency by {rounded(check.error)}" in text
    assert f"stay below {rounded(check.chance)} in 19 of 20 samples of 300 rows (p = {rounded(check.p_value)})" in text
    assert f"Slope {rounded(check.line.slope)} " in text
    for part in ("miscalibration", "discrimination", "uncertainty"):
        assert re.search(rf"{part} [\d.]+ {decimal(getattr(check.parts, part))} ", text)
    assert f"{policy.saved.mean:+.4f} {policy.saved.low:+.4f} to {policy.saved.high:+.4f}" in text
    for action, held in policy.actions.items():
        assert f"{action} {held.taken} {decimal(held.expected_cost)} {decimal(held.realised_cost)} " in text


def test_every_figure_says_what_it_shows_how_to_read_it_and_what_it_looks_like(model: Model, truth: Truth) -> None:
    text, _ = built(model, *truth(300, seed=5))
    figures = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) == 1 + 3 + 2 + 2  # discrimination, probabilities, scores, decisions
    for figure in figures:
        assert re.search(r"<h3>[^<]{15,}</h3>", figure)
        assert re.search(r'role="img" aria-label="[^"]{30,}"', figure)
        assert re.search(r"<figcaption>[^<]{40,}</figcaption>", figure)


def test_names_are_text_whatever_they_hold(toy: Toy, truth: Truth, save: Save) -> None:
    repository = toy(2, TAIL)
    path = repository.root / "toy" / "draft" / "manifest.toml"
    path.write_text(path.read_text().replace('"bob"', '"<b>恶性$x$</b>"').replace("bob =", '"<b>恶性$x$</b>" ='))
    x, y = truth(600)
    fit(repository, "toy", FitRequest(save(X=x, y=y)))
    text, _ = built(load_model(repository.bundle("toy", 1)), x, y)
    assert "<b>" not in text
    assert "the probability of “<b>恶性$x$</b>”" in Reader(text).text


def test_many_classes_are_checked_by_the_predicted_one(toy: Toy, truth: Truth, save: Save) -> None:
    text, report = built(fitted(toy, truth, save, 4, ""), *truth(300, 4, seed=5))
    text = Reader(text).text
    error = rounded(report.metrics["calibration_error"])
    assert f"the probability of the predicted class differs from the observed frequency by {error}" in text
    assert all(f"At which thresholds is acting on “{name}” worth it?" in text for name in ("ann", "bob", "cyd", "dee"))
    assert "Policy" not in text


def test_of_many_classes_the_most_frequent_have_their_decision_curves_and_cost_lines(
    toy: Toy, truth: Truth, save: Save
) -> None:
    costs = "\n".join(
        f"costs.{action} = {{ {', '.join(f'{name} = {i + j}' for i, name in enumerate(NAMES[:6]))} }}"
        for j, action in enumerate(("go", "stay"))
    )
    model = fitted(toy, truth, save, 6, f"[policies.p]\n{costs}\n")
    x, y = truth(600, 6, seed=5, log_ratio=(2.0, 2.0, 0.0, 2.0, 0.0, 2.0))
    text = Reader(built(model, x, y)[0]).text
    frequent = np.argsort(-np.bincount(y, minlength=6))[:4]
    for k, name in enumerate(NAMES[:6]):
        curve, line = f"acting on “{name}” worth it?", f"cost where “{name}” is rarer or more frequent?"
        assert (curve in text, line in text) == (k in frequent, k in frequent)
    assert "The other classes keep their proportions." in text


def test_a_horizon_is_a_table_of_the_page(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=5)
    found = evaluate(LabelledAnswer(answer_of(model, posterior_of(model, x)), y), horizon=(100, 0.1))
    ahead = found.report.horizon
    assert ahead is not None
    text = Reader(page.build(found)).text
    assert "100 steps, recovery 0.1 per step" in text
    assert f"expected steps off course {rounded(ahead.off_course)} {rounded(ahead.off_course_high)}" in text


def test_a_page_of_weighted_rows_in_groups_says_so_and_claims_no_more_than_it_can(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=5)
    found = evaluated(model, x, y, groups=np.arange(300) // 3, weights=np.linspace(0.5, 2.0, 300))
    text = Reader(page.build(found)).text
    assert "Not corrected for that noise: rows are in groups." in text
    assert "No error rate is guaranteed (rows are in groups)" in text
    before, after = found.report.uncalibrated_metrics["log_loss"], found.report.metrics["log_loss"]
    assert f"log_loss {decimal(before)} {decimal(after)}" in text
    assert "aurc_loss – –" in text  # noqa: RUF001  # the empty cell


def test_an_uncalibrated_model_is_called_so(toy: Toy, truth: Truth) -> None:
    text = Reader(built(load_model(toy(2, TAIL).draft("toy")), *truth(100), truth(50)[0])[0]).text
    assert "This version is uncalibrated" in text
    assert "Calibration uncalibrated" in text
    assert "Nothing is flagged" in text
    assert "there is no threshold" in text


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("present", [0, 1])
def test_a_class_without_rows_leaves_a_page_that_stands(
    k: int, present: int, toy: Toy, truth: Truth, save: Save
) -> None:
    x, _ = truth(50, k, seed=5)
    text, _ = built(fitted(toy, truth, save, k, TAIL if k == 2 else ""), x, np.full(50, present))
    text = Reader(text).text
    assert "nan" not in text.split()
    assert ("cannot be determined" in text) == (k == 2)


def test_one_row_is_enough_for_a_page(model: Model, truth: Truth) -> None:
    x, y = truth(1, seed=5)
    assert Reader(built(model, x, y, x)[0]).open == []


def test_no_measurement_of_a_row_is_on_the_page(model: Model, truth: Truth) -> None:
    x, y = truth(60, seed=5)
    x = x + 0.123456
    text, _ = built(model, x, y)
    assert not [v for v in x.ravel() if f"{v:.4f}" in text]


def test_write_leaves_a_file_that_says_what_build_says(model: Model, truth: Truth, tmp_path: Path) -> None:
    x, y = truth(100, seed=5)
    text, _ = built(model, x, y)
    page.write(tmp_path / "report.html", evaluated(model, x, y))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def test_a_browser_shows_the_page_without_complaint_and_asks_the_network_for_nothing(
    chromium: str, model: Model, truth: Truth, tmp_path: Path
) -> None:
    text, _ = built(model, *truth(300, seed=5), truth(100, seed=6)[0])
    shown, complaints, requested = browse(chromium, text, tmp_path)
    assert shown.count("<figure>") == 8
    assert (complaints, requested) == ([], [])


def test_the_browser_would_have_noticed(chromium: str, tmp_path: Path) -> None:
    text = '<p><img src="http://example.invalid/a.png"><script>missing()</script>'
    _, complaints, requested = browse(chromium, text, tmp_path)
    assert "missing is not defined" in complaints[0]
    assert "http://example.invalid/a.png" in requested


def browse(chromium: str, text: str, folder: Path) -> tuple[str, list[str], list[str]]:
    """The document as shown, console messages, and the addresses that the page requests."""
    path, log = folder / "page.html", folder / "net.json"
    path.write_text(text, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 --dump-dom"
    places = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [chromium, *flags.split(), *places, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # the browser's own housekeeping has no origin
    urls = [p.get("url", "") for p in events if p.get("initiator", "not an origin") != "not an origin"]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, complaints, [url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))]
