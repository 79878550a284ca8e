import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS, WEIGHTED
from service.core.numerics import Array, Indices
from service.data.column_roles import Columns
from service.errors import DataError, InvalidParameters
from service.evaluation.measure import EvaluateRequest, Measured, measure
from service.fitting.fit import FitRequest, fit
from service.reporting.terminal import render_measured
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


def said(found: Measured) -> list[str]:
    """Notes, without the one that says what indices stand for."""
    return [note for note in found.notes if not note.startswith("labels are indices of classes: 0 → ")]


def plain(found: Measured) -> dict[str, object]:
    return {key: value for key, value in found.as_json().items() if key not in {"data", "notes"}}


def test_without_groups_and_weights_there_is_nothing_to_note(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(300, seed=1)
    found = measure(model, EvaluateRequest(save("test", X=x, y=y)))
    assert said(found) == []
    assert found.horizon is None
    json.dumps(found.as_json(), allow_nan=False)


def test_rows_of_their_own_groups_and_of_equal_weights_are_rows(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(300, seed=1)
    alone = measure(model, EvaluateRequest(save("plain", X=x, y=y))).report
    same = measure(model, EvaluateRequest(save("other", X=x, y=y, weight=np.full(300, 3.0)))).report
    assert same.metrics == alone.metrics
    assert same.policies["triage"].realised_cost == pytest.approx(alone.policies["triage"].realised_cost)


def test_a_weight_of_two_is_the_row_twice(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(200, seed=2)
    copies = np.random.default_rng(2).integers(0, 4, size=200)
    rows = np.repeat(np.arange(200), copies)
    weighted = measure(model, EvaluateRequest(save("w", X=x, y=y, weight=copies), losses=("focal",)))
    repeated = measure(model, EvaluateRequest(save("r", X=x[rows], y=y[rows]), losses=("focal",)))
    assert weighted.report.metrics == pytest.approx({n: repeated.report.metrics[n] for n in WEIGHTED}, rel=1e-9)
    assert weighted.losses == pytest.approx(repeated.losses, rel=1e-9)
    one, two = (m.report.policies["triage"] for m in (weighted, repeated))
    for cost in ("expected_cost", "realised_cost", "label_cost", "constant_cost"):
        assert getattr(one, cost) == pytest.approx(getattr(two, cost), rel=1e-9)
    check, again = (m.diagnostics.calibration for m in (weighted, repeated))
    for number in ("error", "smooth_error", "slope", "intercept", "miscalibration", "discrimination", "uncertainty"):
        assert getattr(check, number) == pytest.approx(getattr(again, number), rel=1e-6)
    assert check.mean_said == pytest.approx(again.mean_said)
    for action, held in weighted.diagnostics.policies["triage"].actions.items():
        assert held.paid == pytest.approx(repeated.diagnostics.policies["triage"].actions[action].paid)
    assert f"rows of weight 0 are left out: {(copies == 0).sum()}" in weighted.notes
    assert weighted.report.rows == (copies > 0).sum()


def test_metrics_without_a_meaning_for_weights_are_left_out_and_named(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(100, seed=3)
    found = measure(model, EvaluateRequest(save("w", X=x, y=y, weight=np.linspace(1.0, 2.0, 100))))
    note, reserved = said(found)
    assert reserved == "column 'weight' is read as row weights, because of its name"
    for name in METRICS:
        assert (name in found.report.metrics) == (name in WEIGHTED)
        assert (f" {name}," in note) == (name not in WEIGHTED)


def shares(found: object) -> object:
    """Without the ends of intervals."""
    if isinstance(found, dict):
        return {key: shares(value) for key, value in found.items() if key not in {"low", "high"}}
    return found


def test_rows_of_a_patient_widen_every_interval_and_move_no_number(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(60, seed=4)
    x, y, who = np.repeat(x, 8, axis=0), np.repeat(y, 8), np.repeat(np.arange(60), 8)
    rows, patients = (
        measure(model, EvaluateRequest(save(name, X=x, y=y, **more)))
        for name, more in (("rows", {}), ("patients", {"visit": who, "group": who}))
    )
    assert shares(asdict(rows.report)) == shares(asdict(patients.report))
    for name in ("ann", "bob"):
        one_class, two_class = (m.report.classes[name] for m in (rows, patients))
        for of in (lambda c: c.auroc, lambda c: c.label.sensitivity, lambda c: c.label.positive_predictive_value):
            assert of(two_class).high - of(two_class).low > 2.0 * (of(one_class).high - of(one_class).low)
    (one, two) = (m.diagnostics.policies["triage"] for m in (rows, patients))
    assert one.saved == two.saved
    widths = [check.saved_high - check.saved_low for check in (one, two) if check.saved_low and check.saved_high]
    assert widths[1] > 2.0 * widths[0]
    assert patients.diagnostics.calibration.chance > 1.5 * rows.diagnostics.calibration.chance
    assert "the rows come in 60 groups" in patients.notes[0]


def test_rows_of_one_patient_have_no_interval_and_the_table_says_so(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(40, seed=4)
    found = measure(model, EvaluateRequest(save("one", X=x, y=y, group=np.zeros(40, dtype=int))))
    check = found.diagnostics.policies["triage"]
    assert (check.saved_low, check.saved_high, check.excess_low, check.excess_high) == (None,) * 4
    console = Console(record=True, width=200)
    console.print(render_measured(found))
    assert "(no interval: one group)" in console.export_text()
    assert found.notes[0].startswith("the rows come in 1 group:")


def test_a_named_group_column_is_used(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(60, seed=4)
    path = save("named", X=x, y=y, patient=np.arange(60) // 2, load=np.ones(60))
    found = measure(model, EvaluateRequest(path, columns=Columns(group="patient", weight="load")))
    assert len(said(found)) == 2
    with pytest.raises(DataError, match="no column 'nurse' for --group"):
        measure(model, EvaluateRequest(path, columns=Columns(group="nurse")))


def test_the_code_length_is_told_in_the_order_of_the_rows_and_shows_drift(
    model: Model, truth: Truth, save: Save
) -> None:
    x, y = truth(1000, seed=5)
    y[900:] = 1 - y[900:]
    found = measure(model, EvaluateRequest(save("drift", X=x, y=y))).report
    parts = list(found.code_length.per_label.values())
    assert found.code_length.bits == pytest.approx(1000 * found.metrics["bits_per_label"])
    assert found.code_length.bits == pytest.approx(100 * sum(p or 0.0 for p in parts))
    assert (parts[-1] or 0.0) > 2.0 * max(p or 0.0 for p in parts[:-1])
    mixed = np.random.default_rng(0).permutation(1000)
    again = measure(model, EvaluateRequest(save("mixed", X=x[mixed], y=y[mixed]))).report
    assert max(p or 0.0 for p in again.code_length.per_label.values()) < 0.5 * (parts[-1] or 0.0)


def test_a_horizon_is_looked_at_when_asked_for(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(400, seed=6)
    found = measure(model, EvaluateRequest(save("h", X=x, y=y), horizon=50, recovery=0.2))
    assert found.horizon is not None
    assert found.horizon.error == pytest.approx(1.0 - found.report.metrics["accuracy_score"])
    assert (found.horizon.steps, found.horizon.recovery) == (50, 0.2)


def test_a_loss_that_cannot_be_reported_is_refused_before_a_row_is_read(model: Model) -> None:
    with pytest.raises(InvalidParameters, match="number 1"):
        measure(model, EvaluateRequest(Path("nowhere.npz"), losses=("hinge",)))
