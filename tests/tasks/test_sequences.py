"""Sequences from manifest to evaluation, against a chain that is known."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.core.assessment.metrics import log_loss
from service.core.assessment.miscalibration import classwise_calibration_error
from service.core.decision import OOD, PATH
from service.core.numerics import log_softmax
from service.core.sequence import decide_positions, flat, lengths_of, smooth
from service.core.smoothing import Transitions
from service.data.dataset import read_dataset
from service.errors import BundleDamaged, DataError, NoSignal
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.evaluation.report import EvaluationReport
from service.fitting.fit import FitResult
from service.prediction.bulk import posterior_of
from service.prediction.options import Options, choose_smoother
from service.prediction.query import Query
from service.runtime.model import Model, load_model

Make = Callable[..., Any]
Draw = Callable[..., Any]


def served(workshop: Any, result: FitResult) -> Model:
    return load_model(workshop.repository.bundle(workshop.name, result.version))


@pytest.fixture
def tagger(sequence_workshop: Make, sequences_drawn: Draw) -> Model:
    """A calibrated tagger of a chain that stays with probability .95."""
    workshop = sequence_workshop()
    x, y = sequences_drawn(400, 0)
    return served(workshop, workshop.fit(workshop.rows("cal", X=x, y=y)))


def test_a_tagger_learns_its_temperature_and_how_states_follow_each_other(tagger: Model) -> None:
    record = tagger.bundle.record
    assert record is not None
    assert record.sequence is not None
    assert record.calibrator.params["temperature"] == pytest.approx(2.0, abs=0.15)
    np.testing.assert_allclose(record.sequence.transitions, [[0.95, 0.05], [0.05, 0.95]], rtol=0, atol=0.01)
    assert (record.sequence.positions, record.provenance.rows, tagger.smoother) == (400 * 25, 400, "hmm")
    low, high = record.calibrator.interval["temperature"]
    assert high is not None
    assert low < 2.0 < high


def test_smoothing_gains_what_the_chain_knows_and_keeps_calibration(tagger: Model, sequences_drawn: Draw) -> None:
    x, y = sequences_drawn(400, 1)
    posterior = posterior_of(tagger, x.astype(np.float64))
    true = y.ravel()
    alone, smoothed = (flat(tagger.smoothed(posterior, name), lengths_of(posterior)) for name in ("none", "hmm"))
    assert log_loss(alone, true) == pytest.approx(0.43, abs=0.02)
    assert log_loss(smoothed, true) < 0.16
    drawn = flat(tagger.smoothed(posterior, "jsd", strength=8.0), lengths_of(posterior))
    errors = [classwise_calibration_error(log_probs, true) for log_probs in (smoothed, drawn)]
    assert errors[0] < 0.02  # a chance bound of independent rows would be .008: neighbours are none
    assert errors[1] > 5.0 * errors[0]


def test_where_states_do_not_stay_smoothing_changes_nothing_much(
    sequence_workshop: Make, sequences_drawn: Draw
) -> None:
    workshop = sequence_workshop()
    x, y = sequences_drawn(400, 0, stay=0.5)
    model = served(workshop, workshop.fit(workshop.rows("cal", X=x, y=y)))
    posterior = posterior_of(model, sequences_drawn(50, 1, stay=0.5)[0].astype(np.float64))
    gap = np.exp(model.smoothed(posterior, "hmm")) - np.exp(posterior.log_probs)
    assert np.abs(gap).mean() < 0.02


def test_a_tagger_that_has_read_the_neighbours_is_not_smoothed_again_unless_a_request_names_it(
    sequence_workshop: Make, sequences_drawn: Draw
) -> None:
    workshop = sequence_workshop()
    x, y = sequences_drawn(400, 0)
    whole = smooth(
        "hmm",
        log_softmax(np.stack([np.zeros(x.size), 2.0 * x.ravel() / 1.44], axis=1)).reshape(*x.shape, 2),
        lengths=np.full(len(x), x.shape[1]),
        prevalence=np.full(2, 0.5),
        transitions=Transitions(np.full(2, 0.5), np.array([[0.95, 0.05], [0.05, 0.95]])),
    )
    result = workshop.fit(workshop.rows("cal", X=(whole[..., 1] - whole[..., 0]).astype(np.float32), y=y))
    model = served(workshop, result)
    assert model.smoother == "none"
    assert model.has_chain
    assert any("count them twice" in warning for warning in result.record.provenance.warnings)
    assert choose_smoother(model, Options("predict", smoother="hmm")) == "hmm"


def reported(model: Model, rows: Any, losses: tuple[str, ...] = ()) -> EvaluationReport:
    return evaluate(LabelledAnswer(answer_of(model, posterior_of(model, rows.rows)), rows.labels), losses=losses).report


def test_the_report_counts_positions_segments_and_sequences(
    tagger: Model, sequences_drawn: Draw, tmp_path: Any
) -> None:
    x, y = sequences_drawn(60, 1)
    np.savez(tmp_path / "test.npz", X=x, y=y)
    rows = read_dataset(tmp_path / "test.npz", tagger.manifest)
    report = reported(tagger, rows, losses=("sequence_cross_entropy", "focal"))
    found = report.as_json()["structure"]
    assert (report.rows, report.parts["positions"].rows, found["smoother"]) == (60, 60 * 25, "hmm")
    true, log_loss = found["true"], report.metrics["log_loss"]
    assert true["count"] == 60 + int((y[:, 1:] != y[:, :-1]).sum())
    assert sum(true["lengths"].values()) == true["count"]
    assert true["mean_length"] == pytest.approx(y.size / true["count"])
    assert found["predicted"]["count"] < 2 * true["count"]
    assert 0.0 < found["predicted"]["adjacent_jsd"] < 0.1
    assert found["unsmoothed_log_loss"] > 2 * log_loss
    assert report.losses["sequence_cross_entropy"] == pytest.approx(25 * log_loss)
    assert report.losses["focal"] < log_loss


def test_at_another_prevalence_the_uncalibrated_probabilities_move_too(tagger: Model, sequences_drawn: Draw) -> None:
    x, y = sequences_drawn(60, 1)
    posterior = posterior_of(tagger, x.astype(np.float64))
    assert tagger.source is not None
    options = Options("evaluate", smoother="none", prevalence={"rest": 0.8, "move": 0.2})
    report = evaluate(LabelledAnswer(Query.of(tagger, options).conclude(posterior), y)).report
    moved = log_softmax(posterior.logits.reshape(-1, 2) + np.log(np.array([0.8, 0.2]) / tagger.source))
    expected = -moved[np.arange(y.size), y.ravel()].mean()
    assert report.uncalibrated_metrics["log_loss"] == pytest.approx(expected, rel=1e-9)


def test_a_price_on_change_makes_paths_that_cost_less_and_change_less(
    tagger: Model, sequences_drawn: Draw, tmp_path: Any
) -> None:
    x, y = sequences_drawn(400, 1)
    np.savez(tmp_path / "test.npz", X=x, y=y)
    rows = read_dataset(tmp_path / "test.npz", tagger.manifest)
    posterior = posterior_of(tagger, rows.rows)
    found = reported(tagger, rows).as_json()["structure"]
    path = found["paths"]["path"]
    assert path["realised_cost"] < path["separate_cost"]
    assert path["realised_cost"] == pytest.approx(path["expected_cost"], abs=0.5)
    assert list(found["paths"]) == ["path"]
    log_probs = tagger.smoothed(posterior, "hmm")
    free, dear = tagger.policies["alone"], tagger.policies["path"]
    plans = [
        decide_positions(log_probs, p, lengths=lengths_of(posterior), flagged=posterior.flagged) for p in (free, dear)
    ]
    assert plans[1].switches.sum() < plans[0].switches.sum()
    assert PATH in plans[1].decisions.reason


def test_a_sequence_that_is_flagged_is_handed_over_as_a_whole(tagger: Model, sequences_drawn: Draw) -> None:
    posterior = posterior_of(tagger, sequences_drawn(3, 2)[0].astype(np.float64))
    policy = replace(tagger.policies["path"], on_ood=0)
    flagged = np.array([False, True, False])
    plan = decide_positions(posterior.log_probs, policy, lengths=lengths_of(posterior), flagged=flagged)
    assert (plan.decisions.action[25:50] == 0).all()
    assert (plan.decisions.reason[25:50] == OOD).all()
    assert OOD not in plan.decisions.reason[:25]
    assert plan.switches[1] == 0


def test_the_total_of_a_sequence_is_its_risks_and_its_changes(tagger: Model, sequences_drawn: Draw) -> None:
    posterior = posterior_of(tagger, sequences_drawn(5, 3)[0].astype(np.float64))
    policy = tagger.policies["path"]
    plan = decide_positions(posterior.log_probs, policy, lengths=lengths_of(posterior), flagged=posterior.flagged)
    action = plan.decisions.action.reshape(5, 25)
    risks = np.take_along_axis(plan.decisions.risks.reshape(5, 25, 2), action[..., None], axis=2).sum(axis=(1, 2))
    changes = (action[:, 1:] != action[:, :-1]).sum(axis=1)
    np.testing.assert_array_equal(plan.switches, changes)
    np.testing.assert_allclose(plan.total, risks + 0.7 * changes)


def test_flags_are_of_whole_sequences_and_keep_their_rate(tagger: Model, sequences_drawn: Draw) -> None:
    posterior = posterior_of(tagger, sequences_drawn(2000, 4)[0].astype(np.float64))
    assert posterior.flagged is not None
    assert posterior.flagged.shape == (2000,)
    assert float(posterior.flagged.mean()) == pytest.approx(0.05, abs=0.025)
    unsure = posterior_of(tagger, np.zeros((4, 25)))
    assert unsure.flagged is not None
    assert unsure.flagged.all()
    assert unsure.scores[:, 0] == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_calibration_sequences_keep_their_flag_and_p_value_on_every_path(
    tagger: Model, sequences_drawn: Draw, size: int
) -> None:
    x = sequences_drawn(400, 0)[0].astype(np.float64)
    raw, rng = tagger.raw(x), np.random.default_rng(2)
    whole = tagger.posterior_of(raw)
    moved = dataclasses.replace(raw, logits=raw.logits * (1.0 + 2.0**-22 * rng.uniform(-1.0, 1.0, raw.logits.shape)))
    parts = [tagger.posterior(x[i : i + size]) for i in range(0, len(x), size)]
    np.testing.assert_array_equal(np.concatenate([np.asarray(part.p_values) for part in parts]), whole.p_values)
    np.testing.assert_array_equal(np.concatenate([np.asarray(part.flagged) for part in parts]), whole.flagged)
    np.testing.assert_array_equal(tagger.posterior_of(moved).p_values, whole.p_values)


def test_a_score_with_state_learns_from_positions_of_other_sequences(
    sequence_workshop: Make, sequences_drawn: Draw
) -> None:
    workshop = sequence_workshop(more='[ood]\nscores = ["kl_matching", "energy"]\nfalse_alarm = 0.1\n')
    x, y = sequences_drawn(400, 0)
    record = workshop.fit(workshop.rows("cal", X=x, y=y)).record
    assert {name: (s.rows, s.trained_on) for name, s in record.scores.items()} == {
        "kl_matching": (200, "half_of_calibration_rows"),
        "energy": (200, "nothing"),
    }


def test_sequences_of_a_group_are_never_split(sequence_workshop: Make, sequences_drawn: Draw) -> None:
    workshop = sequence_workshop()
    x, y = sequences_drawn(200, 0)
    record = workshop.fit(workshop.rows("cal", X=x, y=y, group=np.arange(200) // 4)).record
    assert record.provenance.groups == 50
    assert record.scores["nll"].rows == 50


def test_without_a_known_source_neighbours_cannot_speak_and_fit_says_so(
    sequence_workshop: Make, sequences_drawn: Draw
) -> None:
    workshop = sequence_workshop()
    x, y = sequences_drawn(400, 0)
    record_of = workshop.fit(workshop.rows("cal", X=x + np.float32(0.8), y=y), calibrator="temperature")
    assert record_of.record.source.basis == "unknown"
    assert any("the hmm smoother is not available" in text for text in record_of.record.provenance.warnings)
    assert served(workshop, record_of).smoother == "none"


def test_names_of_states_and_their_indices_are_the_same_labels(sequence_workshop: Make, sequences_drawn: Draw) -> None:
    x, y = sequences_drawn(60, 0)
    texts = []
    for labels in (y, np.array(["rest", "move"])[y]):
        workshop = sequence_workshop()
        record = workshop.fit(workshop.rows("cal", X=x, y=labels)).record
        texts.append(record.model_copy(update={"provenance": None, "content_sha256": None}))
    assert texts[0] == texts[1]


def test_a_separable_tagger_is_mixed_by_the_share_of_its_sequences(
    sequence_workshop: Make, sequences_drawn: Draw
) -> None:
    workshop = sequence_workshop()
    x, _ = sequences_drawn(60, 0)
    model = served(workshop, workshop.fit(workshop.rows("cal", X=x, y=(x > 0.0).astype(np.intp))))
    assert model.calibration["status"] == "separable"
    assert model.calibration["support"] == 1.0 / 61.0
    far = posterior_of(model, np.full((1, 25), 40.0)).log_probs
    np.testing.assert_allclose(np.exp(far).min(axis=2), 0.5 / 61.0, rtol=1e-9)


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "states in another order": (lambda y: 1 - y, NoSignal, "no larger than chance"),
    "one column": (lambda y: y[:, 0], DataError, "a sequence has a label for every position"),
    "a state that is none": (lambda y: y + 1, DataError, "the sequence of row 0 .* has a label that"),
    "padding where there is none": (
        lambda y: np.where(np.arange(25) < 20, y, -1),
        DataError,
        "sequence 0 has 20 labels and 25 positions",
    ),
    "a hole": (lambda y: np.where(np.arange(25) == 3, -1, y), DataError, "has a label behind its padding"),
    "nothing": (lambda y: np.full_like(y, -1), DataError, r"the sequence of row 0 \(rows count from 0\) has no label"),
}


@pytest.mark.parametrize(("spoil", "error", "fragment"), REFUSED.values(), ids=REFUSED.keys())
def test_labels_that_do_not_fit_are_refused_in_one_sentence_and_nothing_is_published(
    spoil: Callable[[Any], Any],
    error: type[Exception],
    fragment: str,
    sequence_workshop: Make,
    sequences_drawn: Draw,
) -> None:
    workshop = sequence_workshop()
    x, y = sequences_drawn(40, 0)
    with pytest.raises(error, match=fragment) as refused:
        workshop.fit(workshop.rows("cal", X=x, y=spoil(y)))
    assert "\n" not in str(refused.value)
    assert workshop.repository.versions("motion") == []


def test_a_record_of_another_task_is_refused(tagger: Model) -> None:
    record = tagger.bundle.record
    assert record is not None
    with pytest.raises(BundleDamaged, match="is of another task"):
        load_model(replace(tagger.bundle, record=record.model_copy(update={"sequence": None})))


def test_an_uncalibrated_tagger_answers_positions_one_by_one(sequence_workshop: Make) -> None:
    model = load_model(sequence_workshop().repository.draft("motion"))
    posterior = posterior_of(model, np.zeros((2, 25)))
    assert model.smoother == "none"
    np.testing.assert_array_equal(np.exp(model.smoothed(posterior, "none")), np.full((2, 25, 2), 0.5))
