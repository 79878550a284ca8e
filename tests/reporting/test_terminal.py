import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from service.bundle.record import Record
from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS
from service.core.numerics import Array, Indices
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.evaluation.horizon import look_ahead
from service.evaluation.number_format import percent, rounded
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.reporting.policy_tables import horizon_table
from service.reporting.prequential_tables import prequential_tables
from service.reporting.record_tables import FIT_METRICS
from service.reporting.terminal import render_record, render_report, render_table
from service.runtime.model import load_model
from tests.evaluation.conftest import evaluated
from tests.tasks.conftest import draw_labels, label_draft

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
TAIL = """\
[ood]
scores = ["nll", "mahalanobis"]
[policies.p]
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
"""


def printed(renderable: RenderableType) -> str:
    stream = io.StringIO()
    Console(file=stream, width=132).print(renderable, highlight=False)
    return stream.getvalue()


@pytest.fixture
def fitted(toy: Toy, truth: Truth, save: Callable[..., Path]) -> tuple[Repository, Record]:
    x, y = truth(400)
    repository = toy(2, TAIL)
    return repository, fit(repository, "toy", FitRequest(save(X=x, y=y))).record


def test_a_record_s_table_says_what_was_learned_and_what_it_rests_on(fitted: tuple[Repository, Record]) -> None:
    _, record = fitted
    text = printed(render_record(record))
    low, high = record.calibrator.interval["temperature"]
    assert "temperature, ok" in text
    assert f"{record.calibrator.params['temperature']:.4f}  (95 % interval {low:.3f} to {high:.3f})" in text
    assert "(calibration rows)" in text
    assert "fitted on" in text
    assert "400 rows" in text
    assert "half of calibration rows" in text
    for name in FIT_METRICS:
        assert f"{record.provenance.before[name]:.4f}" in text
        assert f"{record.provenance.after_out_of_fold[name]:.4f}" in text
    for score in record.scores.values():
        assert f"{score.threshold:.4g}" in text


def test_a_record_s_warnings_are_printed_and_an_unknown_prevalence_is_called_so(
    toy: Toy, truth: Truth, save: Callable[..., Path]
) -> None:
    x, y = truth(400, log_ratio=(0.0, 3.0))
    text = printed(render_record(fit(toy(), "toy", FitRequest(save(X=x, y=y), calibrator="temperature")).record))
    assert any(line.split() == ["source", "prevalence", "unknown"] for line in text.splitlines())
    assert "note: the mean calibrated probability disagrees" in text


def test_brackets_in_a_name_are_text_not_markup(toy: Toy, truth: Truth, save: Callable[..., Path]) -> None:
    repository = toy()
    path = repository.root / "toy" / "draft" / "manifest.toml"
    path.write_text(path.read_text().replace('"ann"', '"[bold]ann[/bold]"'))
    x, y = truth(400)
    record = fit(repository, "toy", FitRequest(save(X=x, y=y))).record
    assert f"{int((y == 0).sum())} [bold]ann[/bold]" in printed(render_record(record))


@pytest.mark.parametrize("ood", [False, True])
def test_a_report_s_tables_hold_its_numbers(
    ood: bool,  # noqa: FBT001  # a case, not an interface
    fitted: tuple[Repository, Record],
    truth: Truth,
) -> None:
    model = load_model(fitted[0].bundle("toy", 1))
    x, y = truth(300, seed=5)
    report = evaluated(model, x, y, ood=x * 3 if ood else None).report
    text = printed(render_report(report))
    for name, value in report.metrics.items():
        assert f"{value:.4f}" in text
        assert f"{report.uncalibrated_metrics[name]:.4f}" in text
        assert METRICS[name].meaning.split()[0] in text
    policy = report.parts["rows"].policies["p"]
    for cost in (policy.realised_cost, policy.expected_cost, policy.label_cost, policy.constant_cost):
        assert f"{cost:.4f}" in text
    assert f"always {policy.constant_action}, the best single action" in text
    assert ("300 rows of --ood-data" if ood else "no --ood-data was given") in text
    if ood:
        own = report.ood.scores["mahalanobis"]
        assert all(f"{number:.4g}" in text for number in (own.auroc, own.aupr_out, own.aupr_in))
        assert percent(own.detection_error) in text
    found = report.parts["rows"].probabilities.code_length
    assert f"{found.bits:.1f} bits in all" in text
    assert all(f"{bits:.4f}" in text for bits in found.per_label.values())


def test_prequential_lengths_are_a_table_that_says_what_they_compare(
    fitted: tuple[Repository, Record], truth: Truth
) -> None:
    model = load_model(fitted[0].bundle("toy", 1))
    x, y = truth(300, seed=5)
    answer = LabelledAnswer(answer_of(model, posterior_of(model, x)), y)
    report = evaluate(answer, prequential=True).report
    assert report.prequential is not None
    text = printed(render_report(report))
    assert "prequential code length, bits per row" in text
    assert "the classifier is fixed, and its own description is not counted" in " ".join(text.split())
    assert "the version's own, fixed" in text
    assert all(f"{own.bits_per_label:.4f}" in text for own in report.prequential.calibrators.values())
    assert "prequential" not in printed(render_report(evaluate(answer).report))


def test_prequential_lengths_of_labels_are_a_table_of_their_own(tmp_path: Path) -> None:
    model = load_model(label_draft(tmp_path).repository.draft("complaints"))
    x, y, _ = draw_labels(200, 1)
    report = evaluate(LabelledAnswer(answer_of(model, posterior_of(model, x)), y), prequential=True).report
    whole, single = prequential_tables(report)
    assert whole.title == "prequential code length, bits per label"
    assert [row[0] for row in single.written()] == list(model.classes)
    assert not any("fixed" in column.header for column in single.columns)


def test_a_horizon_s_table_holds_its_numbers() -> None:
    ahead = look_ahead(np.log(np.tile([0.9, 0.1], (500, 1))), np.arange(500) // 490, steps=100, recovery=0.1)
    text = printed(render_table(horizon_table(ahead)))
    assert "100 steps, recovery 0.1 per step" in text
    assert all(percent(share) in text for share in (ahead.error, ahead.error_high, ahead.error_room))
    assert all(rounded(number) in text for number in (ahead.off_course, ahead.off_course_high, ahead.bound))
