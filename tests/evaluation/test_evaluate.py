import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS
from service.core.numerics import Array, Indices
from service.data.column_roles import Columns
from service.errors import DataError, InvalidParameters
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.evaluation.report import PartReport
from service.fitting.fit import FitRequest, fit
from service.reporting.terminal import render_report
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
TAIL = """\
[policies.triage]
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
"""


@pytest.fixture
def model(toy: Toy, truth: Truth, save: Save) -> Model:
    x, y = truth(600)
    repository = toy(2, TAIL)
    return load_model(repository.bundle("toy", fit(repository, "toy", FitRequest(save(X=x, y=y))).version))


def other_notes(found: Evaluation) -> list[str]:
    """Notes, without the one on what indices stand for."""
    return [note for note in found.report.notes if not note.startswith("labels are indices of classes: 0 → ")]


def rows(found: Evaluation) -> PartReport:
    return found.report.parts["rows"]


def test_without_groups_and_weights_there_is_nothing_to_note(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(300, seed=1)
    found = evaluate_file(model, EvaluateRequest(save("test", X=x, y=y)))
    assert other_notes(found) == []
    assert found.report.horizon is None
    json.dumps(found.report.as_json(), allow_nan=False)


def test_rows_of_their_own_groups_and_of_equal_weights_are_rows(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(300, seed=1)
    alone = evaluate_file(model, EvaluateRequest(save("plain", X=x, y=y)))
    same = evaluate_file(model, EvaluateRequest(save("other", X=x, y=y, weight=np.full(300, 3.0))))
    assert same.report.metrics == alone.report.metrics
    one, two = (rows(found).policies["triage"].realised_cost for found in (same, alone))
    assert one == pytest.approx(two)


def test_a_weight_of_two_is_the_row_twice(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(200, seed=2)
    copies = np.random.default_rng(2).integers(0, 4, size=200)
    repeats = np.repeat(np.arange(200), copies)
    weighted = evaluate_file(model, EvaluateRequest(save("w", X=x, y=y, weight=copies), losses=("focal",)))
    repeated = evaluate_file(model, EvaluateRequest(save("r", X=x[repeats], y=y[repeats]), losses=("focal",)))
    assert weighted.report.metrics == pytest.approx(
        {n: repeated.report.metrics[n] for n, metric in METRICS.items() if metric.weighted}, rel=1e-9
    )
    assert weighted.report.losses == pytest.approx(repeated.report.losses, rel=1e-9)
    one, two = (rows(m).policies["triage"] for m in (weighted, repeated))
    for cost in ("expected_cost", "realised_cost", "label_cost", "constant_cost"):
        assert getattr(one, cost) == pytest.approx(getattr(two, cost), rel=1e-9)
    check, again = (rows(m).probabilities.calibration for m in (weighted, repeated))
    for number in ("error", "smooth_error"):
        assert getattr(check, number) == pytest.approx(getattr(again, number), rel=1e-6)
    for number in ("slope", "intercept"):
        assert getattr(check.line, number) == pytest.approx(getattr(again.line, number), rel=1e-6)
    assert asdict(check.parts) == pytest.approx(asdict(again.parts), rel=1e-6)
    for name, own in check.classes.items():
        assert own.mean_predicted_probability == pytest.approx(again.classes[name].mean_predicted_probability)
    for action, held in one.actions.items():
        assert held.realised_cost == pytest.approx(two.actions[action].realised_cost)
    assert f"rows of weight 0 are left out: {(copies == 0).sum()}" in weighted.report.notes
    assert weighted.report.rows == (copies > 0).sum()


def test_metrics_without_a_meaning_for_weights_are_left_out_and_named(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(100, seed=3)
    found = evaluate_file(model, EvaluateRequest(save("w", X=x, y=y, weight=np.linspace(1.0, 2.0, 100))))
    note, reserved = other_notes(found)
    assert reserved == "column 'weight' is read as row weights, because of its name"
    for name in METRICS:
        assert (name in found.report.metrics) == METRICS[name].weighted
        assert (f" {name}," in note) != METRICS[name].weighted


BOUNDS = {"low", "high", "slope_low", "slope_high", "intercept_low", "intercept_high"}
CHANCE = {"chance", "p_value", "noise", "diagram", "rms_gap", "at_risk", "at_risk_reason", "flag_rate_limit", "shifted"}


def shares(found: object) -> object:
    """Without the ends of intervals, and without what chance does."""
    if isinstance(found, dict):
        return {key: shares(value) for key, value in found.items() if key not in BOUNDS | CHANCE}
    return found


def test_rows_of_a_patient_widen_every_interval_and_move_no_number(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(60, seed=4)
    x, y, who = np.repeat(x, 8, axis=0), np.repeat(y, 8), np.repeat(np.arange(60), 8)
    alone, patients = (
        evaluate_file(model, EvaluateRequest(save(name, X=x, y=y, **more)))
        for name, more in (("alone", {}), ("patients", {"visit": who, "group": who}))
    )
    one, two = (shares(asdict(replace(m.report, verdicts=(), notes=()))) for m in (alone, patients))
    assert one == two
    for name in ("ann", "bob"):
        one_class, two_class = (rows(m).probabilities.classes[name] for m in (alone, patients))
        for of in (lambda c: c.auroc, lambda c: c.label.sensitivity, lambda c: c.label.positive_predictive_value):
            assert of(two_class).high - of(two_class).low > 2.0 * (of(one_class).high - of(one_class).low)
    saved = [rows(m).policies["triage"].saved for m in (alone, patients)]
    widths = [own.high - own.low for own in saved if own.low and own.high]
    assert widths[1] > 2.0 * widths[0]
    chance = [rows(m).probabilities.calibration.chance for m in (alone, patients)]
    assert chance[1] > 1.5 * chance[0]
    assert "the rows come in 60 groups" in patients.report.notes[0]


def test_rows_of_one_patient_have_no_interval_and_the_table_says_so(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(40, seed=4)
    found = evaluate_file(model, EvaluateRequest(save("one", X=x, y=y, group=np.zeros(40, dtype=int))))
    check = rows(found).policies["triage"]
    assert (check.saved.low, check.saved.high, check.excess.low, check.excess.high) == (None,) * 4
    console = Console(record=True, width=200)
    console.print(render_report(found.report))
    assert "(no interval: one group)" in console.export_text()
    assert found.report.notes[0].startswith("the rows come in 1 group:")


def test_a_named_group_column_is_used(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(60, seed=4)
    path = save("named", X=x, y=y, patient=np.arange(60) // 2, load=np.ones(60))
    found = evaluate_file(model, EvaluateRequest(path, columns=Columns(group="patient", weight="load")))
    assert len(other_notes(found)) == 2
    with pytest.raises(DataError, match="no column 'nurse' for --group"):
        evaluate_file(model, EvaluateRequest(path, columns=Columns(group="nurse")))


def test_the_code_length_is_in_the_order_of_the_rows_and_shows_drift(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(1000, seed=5)
    y[900:] = 1 - y[900:]
    found = rows(evaluate_file(model, EvaluateRequest(save("drift", X=x, y=y)))).probabilities
    parts = list(found.code_length.per_label.values())
    assert found.code_length.bits == pytest.approx(1000 * found.metrics["bits_per_label"])
    assert found.code_length.bits == pytest.approx(100 * sum(p or 0.0 for p in parts))
    assert (parts[-1] or 0.0) > 2.0 * max(p or 0.0 for p in parts[:-1])
    mixed = np.random.default_rng(0).permutation(1000)
    again = rows(evaluate_file(model, EvaluateRequest(save("mixed", X=x[mixed], y=y[mixed])))).probabilities
    assert max(p or 0.0 for p in again.code_length.per_label.values()) < 0.5 * (parts[-1] or 0.0)


def test_a_horizon_is_computed_on_request(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(400, seed=6)
    found = evaluate_file(model, EvaluateRequest(save("h", X=x, y=y), horizon=50, recovery=0.2)).report
    assert found.horizon is not None
    assert found.horizon.error == pytest.approx(1.0 - found.metrics["accuracy_score"])
    assert (found.horizon.steps, found.horizon.recovery) == (50, 0.2)


def test_a_loss_that_cannot_be_reported_is_refused_before_a_row_is_read(model: Model) -> None:
    with pytest.raises(InvalidParameters, match="number 1"):
        evaluate_file(model, EvaluateRequest(Path("nowhere.npz"), losses=("hinge",)))


@pytest.mark.parametrize("ood", [False, True])
def test_a_report_is_strict_json(ood: bool, model: Model, truth: Truth, save: Save) -> None:  # noqa: FBT001  # a case
    x, y = truth(100, seed=7)
    far = save("far", X=x + 1e30) if ood else None
    found = evaluate_file(model, EvaluateRequest(save("some", X=x, y=y), ood_data=far)).report
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["parts"]["rows"]["policies"]["triage"]["actions"].keys() == {"go", "stay"}
