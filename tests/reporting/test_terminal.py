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
from service.evaluation.horizon import look_ahead
from service.evaluation.report import evaluate
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.reporting.terminal import FIT_METRICS, MEANINGS, render_horizon, render_record, render_report
from service.runtime.model import load_model

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


def test_every_metric_has_a_meaning_a_reader_can_act_on() -> None:
    assert set(MEANINGS) == set(METRICS)


def test_a_record_s_table_says_what_was_learned_and_how_far_to_trust_it(fitted: tuple[Repository, Record]) -> None:
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
    assert any(line.split() == ["speaks", "of", "prevalence", "unknown"] for line in text.splitlines())
    assert "note: the mean calibrated probability disagrees" in text


def test_brackets_in_a_name_are_text_not_markup(toy: Toy, truth: Truth, save: Callable[..., Path]) -> None:
    repository = toy()
    path = repository.root / "toy" / "draft" / "manifest.toml"
    path.write_text(path.read_text().replace('"ann"', '"[bold]ann[/bold]"'))
    x, y = truth(400)
    record = fit(repository, "toy", FitRequest(save(X=x, y=y))).record
    assert f"{int((y == 0).sum())} [bold]ann[/bold]" in printed(render_record(record))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_report_s_tables_hold_its_numbers(
    elsewhere: bool,  # noqa: FBT001  # a case, not an interface
    fitted: tuple[Repository, Record],
    truth: Truth,
) -> None:
    model = load_model(fitted[0].bundle("toy", 1))
    x, y = truth(300, seed=5)
    posterior = posterior_of(model, x)
    report = evaluate(
        model.chain,
        posterior,
        posterior.log_probs,
        y,
        classes=model.classes,
        policies=model.policies,
        elsewhere=posterior_of(model, x * 3) if elsewhere else None,
    )
    text = printed(render_report(report))
    for name, value in report.metrics.items():
        assert f"{value:.4f}" in text
        assert f"{report.uncalibrated_metrics[name]:.4f}" in text
    policy = report.policies["p"]
    for cost in (policy.realised_cost, policy.expected_cost, policy.label_cost, policy.constant_cost):
        assert f"{cost:.4f}" in text
    assert f"always {policy.constant_action}, the best single action" in text
    assert ("300 rows of --ood-data" if elsewhere else "no --ood-data was given") in text
    if elsewhere:
        told = report.scores["mahalanobis"]
        for number in (told.auroc, told.aupr_out, told.aupr_in, told.detection_error):
            assert f"{number:.4g}" in text
    assert f"{report.code_length.bits:.1f} bits in all" in text
    for bits in report.code_length.per_label.values():
        assert f"{bits:.3f}" in text


def test_a_horizon_s_table_holds_its_numbers() -> None:
    ahead = look_ahead(np.log(np.tile([0.9, 0.1], (500, 1))), np.arange(500) // 490, steps=100, recovery=0.1)
    text = printed(render_horizon(ahead))
    assert "100 steps, recovery 0.1 per step" in text
    for number in (ahead.error, ahead.error_high, ahead.off_course, ahead.off_course_high, ahead.bound):
        assert f"{number:.4g}" in text
