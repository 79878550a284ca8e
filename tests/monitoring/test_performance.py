"""The report of what came of answers, from arrays with known truth."""

import json
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest

from service.core.decision import decide
from service.core.pipeline import Policy
from service.evaluation.classification_problem import SampleDesign
from service.monitoring.observations import (
    ACTION,
    UNKNOWN,
    AnsweredRows,
    Decided,
    LabelSets,
    Observations,
    Predictions,
)
from service.monitoring.part_performance import loss_performance
from service.monitoring.performance import performance
from service.monitoring.shadow_performance import PairedPredictions, shadow_performance
from service.monitoring.window import Window

POLICY = Policy("biopsy", "manifest", ("dismiss", "biopsy"), np.array([[0.0, 20.0], [1.0, 1.0]]), None)
SECOND = 1_000_000


def window(n, ascertainment, *, shift=0.0, seed=0, keys=None, repeats=1):
    """Answers of a binary model whose log-odds lack a shift; every row's truth, known where it was ascertained."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1.0, 1.5, n // repeats).repeat(repeats)
    y = (rng.random(n // repeats).repeat(repeats) < sigmoid(x + shift)).astype(int)
    log_probs = np.log(np.stack([sigmoid(-x), sigmoid(x)], axis=1))
    action = decide(log_probs, POLICY.cost).action
    why = ascertainment(action, rng)
    rows = AnsweredRows(
        requests=n,
        created=np.arange(n) * SECOND,
        subject=np.arange(n) // repeats,
        keys=keys or {},
        flagged=(np.arange(n) % 20 == 0).astype(int),
        ascertainment=why,
        observed=np.where(why == UNKNOWN, -1, (np.arange(n) + 60) * SECOND),
        received=np.where(why == UNKNOWN, -1, (np.arange(n) + 90) * SECOND),
        contradictions=np.zeros(n, dtype=int),
    )
    labels = np.where(why == UNKNOWN, UNKNOWN, y)
    decided = Decided(POLICY, np.arange(n), action)
    part = Predictions(("benign", "malignant"), np.arange(n), log_probs, labels, (decided,))
    return Observations("m", "multiclass", (1,), {"1": "temperature, ok"}, 0.05, rows, {"rows": part}, 0, {}), y


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def reported(observations: Observations, **options: Any) -> Any:
    """A report of all of it; any of its parts may be None, which a test then finds out."""
    return performance(observations, Window(), **options)


def every(action, _):
    return np.zeros(len(action), dtype=int)


def only_acted_upon(action, _):
    return np.where(action == 1, ACTION, UNKNOWN)


def acted_upon_and_a_sample(action, rng):
    return np.where(action == 1, ACTION, np.where(rng.random(len(action)) < 0.2, 2, UNKNOWN))


def test_a_sound_model_is_within_chance_everywhere():
    found = reported(window(2000, every)[0]).parts["rows"]
    malignant = found.classes["malignant"]
    assert not found.log_loss.beyond_chance
    assert found.log_loss.excess.low <= 0.0 <= found.log_loss.excess.high
    assert malignant.observed_over_expected.low <= 1.0 <= malignant.observed_over_expected.high
    assert malignant.intercept.low <= 0.0 <= malignant.intercept.high
    assert malignant.slope.low <= 1.0 <= malignant.slope.high
    assert found.calibration.p_value > 0.05


def test_a_shift_is_found_by_every_measure():
    found = reported(window(2000, every, shift=0.8)[0]).parts["rows"]
    malignant = found.classes["malignant"]
    assert found.log_loss.beyond_chance
    assert found.log_loss.excess.low > 0.0
    assert malignant.observed_over_expected.low > 1.0
    assert malignant.intercept.low < 0.8 < malignant.intercept.high
    assert found.calibration.p_value < 0.01


def test_the_report_is_json_of_finite_numbers():
    found = reported(window(500, acted_upon_and_a_sample)[0])
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["model"] == "m"


def test_costs_are_those_of_the_answered_actions_and_compared_with_other_strategies():
    observations, y = window(1000, every)
    own = observations.parts["rows"].decided[0]
    report = reported(observations).parts["rows"].policies[0].report
    realised = POLICY.cost[own.action, y]
    assert report.realised_cost == pytest.approx(realised.mean())
    constant = POLICY.cost[:, y].mean(axis=1)
    assert report.constant_cost == pytest.approx(constant.min())
    assert report.saved_of_constant.mean == pytest.approx(constant.min() - realised.mean())
    assert sum(action.taken for action in report.actions.values()) == 1000


def test_outcomes_known_by_the_action_stand_apart():
    observations, _ = window(2000, acted_upon_and_a_sample)
    found = reported(observations)
    acted = observations.rows.ascertainment == ACTION
    assert found.known_by_action["rows"].rows == acted.sum()
    assert found.parts["rows"].rows == (observations.rows.known & ~acted).sum()
    assert "No alarm" in found.known_by_action["rows"].statements[0]


def test_without_overlap_nothing_is_weighted_and_the_report_says_why():
    found = reported(window(2000, only_acted_upon)[0])
    own = found.known_by_action["rows"]
    assert found.parts["rows"] is None
    assert own.weighted is None
    assert own.without_outcomes == ("dismiss",)
    assert "Nothing can be concluded" in own.statements[1]


def test_weighted_rows_stand_for_all_answered_rows():
    observations, y = window(4000, acted_upon_and_a_sample)
    found = reported(observations).known_by_action["rows"].weighted
    malignant = found.classes["malignant"]
    p = np.exp(observations.parts["rows"].log_probs[:, 1])
    assert found.of == 4000
    assert malignant.expected == pytest.approx(p.sum(), rel=0.05)
    assert malignant.observed_over_expected.low <= y.sum() / p.sum() <= malignant.observed_over_expected.high


def test_repeated_rows_of_a_subject_widen_intervals_and_move_nothing():
    once, thrice = (reported(window(n, every, repeats=n // 300)[0]).parts["rows"] for n in (300, 900))
    one, other = (part.classes["malignant"].observed_over_expected for part in (once, thrice))
    assert other.value == pytest.approx(one.value)
    assert (other.low, other.high) == (pytest.approx(one.low, rel=1e-6), pytest.approx(one.high, rel=1e-6))
    assert thrice.subjects == once.subjects == 300


def test_small_groups_are_withheld_with_another_one():
    sites = ["a"] * 500 + ["b"] * 480 + ["rare"] * 19
    observations, _ = window(999, every, keys={"site": sites})
    groups = reported(observations, group_by="site").groups
    assert groups.withheld == {"rare": "fewer than 20", "b": "withheld with it"}
    assert list(groups.shown) == ["a"]
    assert groups.shown["a"].with_outcome == 500


def test_a_group_counts_subjects_not_rows():
    sites = ["a"] * 460 + ["b"] * 500 + ["rare"] * 40
    observations, _ = window(1000, every, keys={"site": sites}, repeats=4)
    assert "rare" in reported(observations, group_by="site").groups.withheld


def test_time_to_outcome_is_in_seconds():
    found = reported(window(100, every)[0]).time_to_outcome
    assert found.to_observation["median"] == pytest.approx(60.0)
    assert found.to_arrival["p90"] == pytest.approx(90.0)


def test_label_sets_are_counted_by_their_coverage():
    observations, y = window(400, every)
    part = observations.parts["rows"]
    member = np.ones((400, 2), dtype=bool)
    member[:40] = np.eye(2, dtype=bool)[1 - y[:40]]
    sets = LabelSets(0.9, np.arange(400), member)
    found = reported(replace(observations, parts={"rows": replace(part, sets=(sets,))}))
    assert found.parts["rows"].sets[0].covered.value == pytest.approx(0.9)
    assert found.parts["rows"].sets[0].coverage == 0.9


def test_nothing_known_is_no_performance():
    found = reported(window(100, lambda action, _: np.full(len(action), UNKNOWN))[0])
    assert found.parts == {"rows": None}
    assert found.time_to_outcome.to_observation == {}
    assert found.answered.with_outcome == 0


def test_the_flag_rate_is_of_all_answered_rows():
    found = reported(window(1000, only_acted_upon)[0]).flags
    assert found.rate.value == pytest.approx(0.05)
    assert found.false_alarm == 0.05


def test_a_better_shadow_has_a_log_loss_and_a_cost_below_that_of_the_answers():
    observations, _ = window(3000, every, shift=1.0)
    part = observations.parts["rows"]
    x = part.log_probs[:, 1] - part.log_probs[:, 0] + 1.0
    shadow = np.log(np.stack([sigmoid(-x), sigmoid(x)], axis=1))
    found: Any = shadow_performance(PairedPredictions(2, part, shadow, observations.rows.subject))
    assert found.log_loss.high < 0.0
    assert found.costs["biopsy"].high < 0.0
    same: Any = shadow_performance(PairedPredictions(2, part, part.log_probs, observations.rows.subject))
    assert (same.log_loss.mean, same.costs["biopsy"].mean) == (0.0, 0.0)


@pytest.mark.parametrize("repeats", [1, 5])
def test_the_log_loss_beyond_expectation_of_a_sound_model_covers_zero(repeats):
    excess = []
    for seed in range(200):
        observations, y = window(200, every, seed=seed, repeats=repeats)
        sample = SampleDesign.of(None, observations.rows.subject)
        excess.append(loss_performance(observations.parts["rows"].log_probs, y, sample).excess)
    assert sum(low <= 0.0 <= high for _, low, high, _ in map(astuple, excess)) >= 186
