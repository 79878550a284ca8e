import numpy as np
import pytest

from service.core.assessment.metrics import realised_cost
from service.core.assessment.operating import (
    cost_across_prevalence,
    decision_curve,
    net_benefit,
    prevalence_line,
)
from service.core.decision import decide
from service.core.numerics import Array, Indices, log_softmax
from service.core.prior import shift

COST = np.array([[0.0, 10.0], [1.0, 0.0]])
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def drawn(n: int, *, seed: int, k: int = 2) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    log_p = log_softmax(1.5 * rng.normal(size=(n, k)))
    return log_p, (np.exp(log_p).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def test_net_benefit_is_the_prevalence_less_the_cost_of_mistakes() -> None:
    log_p, labels = drawn(750, seed=0)
    predicted: Array = np.exp(log_p[:, 1]).round(2)  # values on the thresholds too
    by_cost = []
    for t in THRESHOLDS:
        treated = predicted >= t
        misses, alarms = np.sum(~treated & (labels == 1)), np.sum(treated & (labels == 0))
        by_cost.append(labels.mean() - (misses + alarms * t / (1.0 - t)) / 750)
    np.testing.assert_allclose(net_benefit(predicted, labels, THRESHOLDS), by_cost, atol=1e-14)


def test_net_benefit_is_what_the_least_cost_decision_saves() -> None:
    log_p, labels = drawn(750, seed=1)
    for t, benefit in zip(THRESHOLDS, net_benefit(np.exp(log_p[:, 1]), labels, THRESHOLDS), strict=True):
        cost = np.array([[0.0, 1.0], [t / (1.0 - t), 0.0]])
        realised = realised_cost(decide(log_p, cost).action, cost, labels)
        assert benefit == pytest.approx(labels.mean() - realised, abs=1e-12)


def test_treating_all_crosses_nothing_at_the_prevalence() -> None:
    log_p, labels = drawn(500, seed=2)
    prevalence = labels.mean()
    curve = decision_curve(np.exp(log_p[:, 1]), labels, np.array([1e-9, prevalence]))
    np.testing.assert_allclose(curve.treat_all, [prevalence, 0.0], atol=1e-8)
    assert curve.prevalence == prevalence


def test_a_perfect_model_is_worth_the_prevalence_everywhere_and_none_is_worth_more() -> None:
    log_p, labels = drawn(500, seed=3)
    np.testing.assert_allclose(net_benefit(labels.astype(np.float64), labels, THRESHOLDS), labels.mean(), atol=1e-14)
    assert decision_curve(np.exp(log_p[:, 1]), labels, THRESHOLDS).model.max() <= labels.mean()


def test_a_calibrated_model_beats_treating_all_and_none_up_to_chance() -> None:
    log_p, labels = drawn(20_000, seed=4)
    curve = decision_curve(np.exp(log_p[:, 1]), labels, THRESHOLDS)
    assert np.all(curve.model >= np.maximum(curve.treat_all, 0.0) - 0.01)


def test_at_the_prevalence_of_the_rows_the_cost_curve_is_the_realised_cost() -> None:
    log_p, labels = drawn(400, seed=5, k=3)
    cost = np.random.default_rng(5).random((4, 3))
    actions = decide(log_p, cost).action
    observed = np.bincount(labels, minlength=3) / 400
    curve = cost_across_prevalence(actions, cost, labels, observed[None])
    assert curve[0] == pytest.approx(realised_cost(actions, cost, labels), rel=1e-12)


def test_for_two_classes_the_cost_of_fixed_actions_is_a_straight_line() -> None:
    log_p, labels = drawn(400, seed=6)
    mixes = prevalence_line(np.array([0.5, 0.5]), 1, np.linspace(0.0, 1.0, 11))
    curve = cost_across_prevalence(decide(log_p, COST).action, COST, labels, mixes)
    np.testing.assert_allclose(np.diff(curve, n=2), 0.0, atol=1e-12)


def test_a_class_without_rows_matters_only_where_it_has_a_share() -> None:
    mixes = np.array([[1.0, 0.0], [0.5, 0.5]])
    curve = cost_across_prevalence(np.array([0, 1]), COST, np.array([0, 0]), mixes)
    assert curve[0] == 0.5
    assert np.isnan(curve[1])


def test_a_line_of_prevalences_keeps_the_other_classes_in_proportion() -> None:
    source = np.array([0.2, 0.5, 0.3])
    line = prevalence_line(source, 0, np.array([0.0, 0.2, 0.6]))
    np.testing.assert_allclose(line.sum(axis=1), 1.0)
    np.testing.assert_allclose(line[1], source)
    np.testing.assert_allclose(line[:, 1] / line[:, 2], 5 / 3)


def test_the_target_prevalence_helps_where_it_differs_from_the_source_and_changes_nothing_where_not() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(2, size=20_000)
    score = rng.normal(loc=labels * 1.5)
    log_p = log_softmax(np.stack([np.zeros(20_000), 1.5 * score - 1.125], axis=1))  # the true posterior at one half
    source = np.array([0.5, 0.5])
    mixes = prevalence_line(source, 1, np.array([0.02, 0.1, 0.5, 0.9]))
    fixed = cost_across_prevalence(decide(log_p, COST).action, COST, labels, mixes)
    told = [decide(shift(log_p, source=source, target=mix), COST).action for mix in mixes]
    pairs = zip(told, mixes, strict=True)
    adapted = np.array([cost_across_prevalence(actions, COST, labels, mix[None])[0] for actions, mix in pairs])
    assert adapted[2] == fixed[2]
    assert np.all(adapted <= fixed + 0.02)
    assert adapted[0] < 0.5 * fixed[0]
    assert np.all(adapted <= (mixes @ COST.T).min(axis=1) + 0.02)


def test_a_weight_of_two_is_the_row_twice() -> None:
    log_p, labels = drawn(300, seed=30)
    copies = np.random.default_rng(30).integers(1, 4, size=300)
    rows, weights, predicted = (
        np.repeat(np.arange(300), copies),
        copies.astype(np.float64),
        np.exp(log_p[:, 1]).round(2),
    )
    one, two = (
        decision_curve(predicted, labels, THRESHOLDS, weights=weights),
        decision_curve(predicted[rows], labels[rows], THRESHOLDS),
    )
    np.testing.assert_allclose(one.model, two.model, atol=1e-14)
    np.testing.assert_allclose(one.treat_all, two.treat_all, atol=1e-14)
    actions, mixes = decide(log_p, COST).action, np.array([[0.3, 0.7]])
    np.testing.assert_allclose(
        cost_across_prevalence(actions, COST, labels, mixes, weights=weights),
        cost_across_prevalence(actions[rows], COST, labels[rows], mixes),
        rtol=1e-12,
    )
