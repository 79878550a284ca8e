"""Refits from recorded answers: what is chosen, gated, published and inherited."""

from dataclasses import replace

import numpy as np
import pytest

from service.bundle.change_protocol import ChangeProtocol
from service.bundle.repository import Repository
from service.core.calibration.vector import Vector
from service.core.numerics import Array
from service.core.updating import Update
from service.errors import RefitRefused
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.ladder import Problem, check_family, climb
from service.monitoring.proposal import WHOLE, propose
from service.monitoring.refit import CANDIDATE, refit
from service.monitoring.renewed_calibration import calibrated
from service.runtime.model import Model, load_model
from service.runtime.registry import Registry

NAME = "breast-cancer"
RIGHT = Update(1.0, np.zeros(2))
OFF = Update(0.6, np.array([0.6, -0.6]))


@pytest.fixture
def model(repository: Repository) -> Model:
    return load_model(repository.bundle(NAME, 1))


def answers(
    model: Model, n: int = 1500, *, truth: Update = RIGHT, seed: int = 0, repeats: int = 1, spread: float = 2.0
) -> LabelledAnswers:
    """Answers whose outcomes are drawn from the calibrated probabilities after an update."""
    rng = np.random.default_rng(seed)
    logits = (spread * rng.normal(size=(n, 2))).astype(np.float32).astype(np.float64)
    p = np.exp(truth.apply(model.chain.calibrator.apply(logits)))
    labels = (rng.random(n) > p[:, 0]).astype(np.intp)
    scores = {
        d.name: recorded(d.score.score(logits) if d.score.needs != "features" else None, n)
        for d in model.chain.detectors
    }
    rows = np.repeat(np.arange(n), repeats)
    subjects = None if repeats == 1 else rows
    kept = {name: values[rows] for name, values in scores.items()}
    return LabelledAnswers(logits[rows], labels[rows], subjects, kept, 1, 2, "sha256:" + "0" * 64)


def recorded(values: Array | None, n: int) -> Array:
    return np.full(n, -np.inf) if values is None else values


def test_a_calibration_that_holds_is_left_alone(model: Model, repository: Repository) -> None:
    found = refit(repository, model, answers(model))
    assert found.version is None
    assert not found.proposal.changes
    assert found.proposal.steps[WHOLE].step == "none"
    assert repository.versions(NAME) == [1]


def test_a_slope_and_an_intercept_that_are_off_are_repaired_as_a_candidate(
    model: Model, repository: Repository
) -> None:
    rows = answers(model, truth=OFF)
    found = refit(repository, model, rows)
    assert found.version == 2
    assert all(gate.passed for gate in found.proposal.gates)
    assert repository.aliases(NAME) == {CANDIDATE: 2, "stable": 1}
    after = load_model(repository.bundle(NAME, 2))
    expected = OFF.apply(model.chain.calibrator.apply(rows.logits))
    np.testing.assert_allclose(np.exp(after.chain.calibrator.apply(rows.logits)), np.exp(expected), atol=0.06)


def test_a_version_that_was_refitted_says_from_what(model: Model, repository: Repository) -> None:
    rows = answers(model, truth=OFF)
    refit(repository, model, rows)
    record = repository.bundle(NAME, 2).record
    assert record is not None
    assert record.refit is not None
    assert (record.refit.version, record.refit.digest) == (1, model.bundle.digest)
    assert (record.refit.rows, record.refit.since, record.refit.until) == (1500, 1, 2)
    assert record.refit.events == np.bincount(rows.labels).min()
    assert record.provenance.rows == 1500
    assert record.provenance.data_digest == rows.digest
    assert record.provenance.after_out_of_fold["log_loss"] < record.provenance.before["log_loss"]
    shares = np.bincount(rows.labels) / 1500
    assert record.source.prevalence == pytest.approx(dict(zip(model.classes, shares.tolist(), strict=True)))


def test_feature_scores_are_inherited_and_the_threshold_of_nll_is_that_of_the_new_rows(
    model: Model, repository: Repository
) -> None:
    rows = answers(model, truth=OFF)
    refit(repository, model, rows)
    before, after = model.bundle.record, repository.bundle(NAME, 2).record
    assert before is not None
    assert after is not None
    assert after.scores.keys() == before.scores.keys()
    for name in after.scores.keys() - {"nll"}:
        assert after.scores[name] == before.scores[name]
    nll = after.scores["nll"]
    assert nll.rows == 1500
    assert np.mean(rows.scores["nll"] > nll.threshold) == pytest.approx(nll.false_alarm, abs=0.005)


def test_bounds_hold_over_all_refits_since_the_last_fit(model: Model, repository: Repository) -> None:
    once = Update(0.6, np.zeros(2))
    refit(repository, model, answers(model, truth=once, n=4000))
    second = load_model(repository.bundle(NAME, 2))
    found = refit(repository, second, answers(second, truth=once, n=4000))
    assert found.version is None
    (failed,) = (gate for gate in found.proposal.gates if not gate.passed)
    assert failed.name == "temperature"
    assert found.proposal.steps[WHOLE].total_slope == pytest.approx(0.36, abs=0.08)


def test_rows_of_a_subject_count_once(model: Model) -> None:
    one, three = (propose(model, answers(model, truth=OFF, repeats=repeats), seed=0) for repeats in (1, 3))
    first, last = one.steps[WHOLE], three.steps[WHOLE]
    assert last.step == first.step
    assert last.slope == pytest.approx(first.slope, abs=1e-6)
    assert last.p_values["none"] == pytest.approx(first.p_values["none"], rel=1e-6)


def test_too_few_events_are_refused_however_many_rows_there_are(model: Model) -> None:
    rows = answers(model, n=30)
    few = LabelledAnswers(
        np.repeat(rows.logits, 40, axis=0),
        np.repeat(rows.labels, 40),
        np.repeat(np.arange(30), 40),
        {name: np.repeat(values, 40) for name, values in rows.scores.items()},
        1,
        2,
        rows.digest,
    )
    with pytest.raises(RefitRefused, match=r"has \d+ outcomes .* least_events is 100"):
        propose(model, few, seed=0)


def test_inputs_that_the_model_does_not_know_are_no_matter_of_calibration(model: Model) -> None:
    rows = answers(model, truth=OFF)
    rows.scores["mahalanobis"][:400] = np.inf
    found = propose(model, rows, seed=0)
    assert [gate.name for gate in found.gates if not gate.passed] == ["flag_rate"]
    assert not found.passed


def test_a_protocol_may_allow_more_flags(model: Model) -> None:
    rows = answers(model, truth=OFF)
    rows.scores["mahalanobis"][:400] = np.inf
    lenient = with_protocol(model, ChangeProtocol(flag_rate=0.5))
    assert propose(lenient, rows, seed=0).passed


def with_protocol(model: Model, protocol: ChangeProtocol) -> Model:
    manifest = model.manifest.model_copy(update={"change_protocol": protocol})
    return replace(model, bundle=replace(model.bundle, manifest=manifest))


def test_a_step_that_the_protocol_does_not_allow_is_not_published(repository: Repository, model: Model) -> None:
    strict = with_protocol(model, ChangeProtocol(steps=("intercept",)))
    found = refit(repository, strict, answers(model, truth=OFF))
    assert found.version is None
    assert "step" in [gate.name for gate in found.proposal.gates if not gate.passed]


def test_a_dry_run_publishes_nothing(model: Model, repository: Repository) -> None:
    found = refit(repository, model, answers(model, truth=OFF), dry_run=True)
    assert found.proposal.passed
    assert found.version is None
    assert repository.versions(NAME) == [1]


def labelled(model: Model, n: int = 2000) -> LabelledAnswers:
    """Answers of a multilabel model of which the first label is off."""
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=(n, len(model.classes)))
    log_probs = model.chain.calibrator.apply(logits)
    moved = [(OFF if m == 0 else RIGHT).apply(log_probs[:, m]) for m in range(len(model.classes))]
    present = np.exp(np.stack(moved, axis=1)[:, :, 1])
    labels = (rng.random(present.shape) < present).astype(np.intp)
    scores = {d.name: np.full(n, -np.inf) for d in model.chain.detectors}
    return LabelledAnswers(logits, labels, None, scores, 1, 2, "sha256:" + "0" * 64)


def test_every_label_has_a_step_of_its_own(every_task: Registry) -> None:
    model = next(m for m in every_task.all_models() if m.task == "multilabel" and m.bundle.record is not None)
    found = propose(model, labelled(model), seed=0)
    first, *others = found.steps.values()
    assert first.step == "slope"
    assert {one.step for one in others} <= {"none"}
    assert found.passed


def test_a_label_without_a_step_keeps_its_calibration(every_task: Registry) -> None:
    model = next(m for m in every_task.all_models() if m.task == "multilabel" and m.bundle.record is not None)
    rows = labelled(model)
    record, _ = calibrated(model, rows, propose(model, rows, seed=0), seed=0)
    old = model.bundle.record
    assert old is not None
    first, *others = model.classes
    assert record.labels[first].calibrator != old.labels[first].calibrator
    assert record.labels[first].source.prevalence == pytest.approx(
        {"absent": 1 - rows.labels[:, 0].mean(), "present": rows.labels[:, 0].mean()}
    )
    for label in others:
        assert record.labels[label].calibrator == old.labels[label].calibrator
        assert record.labels[label].source == old.labels[label].source


def test_a_calibrator_of_more_parameters_is_fitted_anew_where_a_slope_is_not_enough() -> None:
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(6000, 3))
    inside = Vector(np.ones(3), np.zeros(3))
    p = np.exp(Vector(np.array([0.4, 1.0, 1.6]), np.array([0.5, 0.0, -0.5])).apply(logits))
    labels = (p.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1)
    data = LabelledAnswers(logits, labels, None, {}, 1, 2, "").data()
    found = climb(Problem("vector", inside, logits, data), level=0.05, seed=0)
    assert found.chosen.step == "calibrator"
    assert isinstance(found.calibrator, Vector)
    np.testing.assert_allclose(found.calibrator.slope, [0.4, 1.0, 1.6], atol=0.15)


def test_a_step_function_has_no_intercept_and_slope() -> None:
    with pytest.raises(RefitRefused, match="isotonic"):
        check_family("isotonic")


@pytest.mark.parametrize("task", ["sequence"])
def test_a_sequence_model_is_not_refitted(every_task: Registry, task: str) -> None:
    model = next(m for m in every_task.all_models() if m.task == task)
    rows = LabelledAnswers(np.zeros((4, 2)), np.array([0, 1, 0, 1]), None, {}, 1, 2, "")
    with pytest.raises(RefitRefused, match="depend on each other"):
        propose(model, rows, seed=0)


def test_an_uncalibrated_version_is_not_refitted(every_task: Registry) -> None:
    model = next(m for m in every_task.all_models() if m.bundle.record is None)
    rows = LabelledAnswers(np.zeros((4, 2)), np.array([0, 1, 0, 1]), None, {}, 1, 2, "")
    with pytest.raises(RefitRefused, match="uncalibrated"):
        propose(model, rows, seed=0)


@pytest.mark.simulation
def test_where_nothing_is_wrong_something_is_proposed_at_most_as_often_as_the_level(model: Model) -> None:
    passed = [propose(model, answers(model, n=600, seed=seed), seed=0).passed for seed in range(500)]
    assert np.mean(passed) <= 0.05
