import numpy as np
import pytest

from service.core.assessment.utility import (
    cost_calibration,
    difference_bounds,
    dominated_actions,
    oracle_regret,
    paired_difference,
    savings_score,
)
from service.core.costs import class_ranges
from service.core.decision import best_action, expected_cost
from service.core.numerics import Array, Indices, log_softmax

GOLDEN = np.array([[0.0, 1.0, 10.0], [2.0, 0.0, 2.0], [9.0, 9.0, 0.0]])
SAID, TRUE = np.log([[0.6, 0.3, 0.1]]), np.log([[0.6, 0.1, 0.3]])


def drawn(n: int, k: int, *, seed: int) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    log_p = log_softmax(1.5 * rng.normal(size=(n, k)))
    return log_p, (np.exp(log_p).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def taken(log_p: Array, cost: Array) -> tuple[Array, Indices]:
    risks = expected_cost(log_p, cost)
    return risks, best_action(risks, scale=class_ranges(cost).max(axis=-1))[0]


# ------------------------------------------------------------------------------------------ expected and realised cost


def test_under_the_true_posterior_the_realised_cost_of_every_action_is_the_expected_one() -> None:
    scores = []
    for seed in range(100):
        log_p, labels = drawn(500, 3, seed=seed)
        found = cost_calibration(*taken(log_p, GOLDEN), GOLDEN, labels)
        scores.append((found.realised - found.expected) / found.standard_error)
    np.testing.assert_allclose(np.nanmean(scores, axis=0), 0.0, atol=0.5)
    np.testing.assert_allclose(np.nanstd(scores, axis=0), 1.0, atol=0.3)


def excess_risk(risks: Array, actions: Indices) -> float:
    return float(np.mean(risks[np.arange(len(actions)), actions] - risks.min(axis=1)))


def test_a_calibrated_top_class_may_still_have_another_realised_cost_than_expected() -> None:
    n = 1000
    predicted = np.tile(SAID, (n, 1))
    labels = np.repeat([0, 1, 2], [600, 100, 300])
    risks, actions = taken(predicted, GOLDEN)
    found = cost_calibration(risks, actions, GOLDEN, labels)
    assert found.count.tolist() == [n, 0, 0]
    assert found.expected[0] == pytest.approx(1.3, rel=1e-12)
    assert found.realised[0] == pytest.approx(3.1, rel=1e-12)
    assert excess_risk(expected_cost(np.tile(TRUE, (n, 1)), GOLDEN), actions) == pytest.approx(1.3, rel=1e-12)


def test_the_golden_risks_pick_the_golden_actions() -> None:
    (predicted, chosen), (true, best) = taken(SAID, GOLDEN), taken(TRUE, GOLDEN)
    np.testing.assert_allclose(predicted, [[1.3, 1.4, 8.1]])
    np.testing.assert_allclose(true, [[3.1, 1.8, 6.3]])
    assert (chosen[0], best[0]) == (0, 1)
    assert excess_risk(true, best) == 0.0


def test_an_action_never_taken_has_no_expected_cost() -> None:
    found = cost_calibration(np.array([[1.0, 2.0]]), np.array([0]), np.array([[0.0, 2.0], [2.0, 2.0]]), np.array([1]))
    assert found.count.tolist() == [1, 0]
    assert np.isnan([found.expected[1], found.realised[1], found.standard_error[1]]).all()
    assert np.isnan(found.standard_error[0])  # one row shows no spread


# ------------------------------------------------------------------------------------------------- against others


def test_the_interval_of_a_difference_holds_the_truth_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        base = rng.exponential(5.0, size=120)
        found = paired_difference(base + rng.normal(0.3, 1.0, size=120), base)
        held.append(found.low <= 0.3 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("rate", [0.0005, 0.002, 0.01, 0.05])
def test_the_interval_of_a_skewed_cost_holds_the_truth_though_the_dear_case_may_not_occur(n: int, rate: float) -> None:
    cost, rng, held = np.array([[0.0, 50.0], [1.0, 1.0]]), np.random.default_rng(int(1e5 * rate) + n), []
    actions, others = np.zeros(n, dtype=np.intp), np.ones(n, dtype=np.intp)
    least, most = difference_bounds(actions, others, cost)
    for _ in range(200):
        labels = (rng.random(n) < rate).astype(np.intp)
        found = paired_difference(cost[actions, labels], cost[others, labels], least=least, most=most)
        held.append(found.low <= 50.0 * rate - 1.0 <= found.high)
    assert np.mean(held) >= 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 200)


def test_pairing_cancels_what_both_strategies_suffer() -> None:
    rng = np.random.default_rng(1)
    base = rng.exponential(50.0, size=300)
    found = paired_difference(base + 1.0 + 0.1 * rng.normal(size=300), base)
    assert 0.9 < found.low < found.mean < found.high < 1.1


def test_a_strategy_differs_from_itself_by_nothing_and_the_sign_is_who_costs_more() -> None:
    costs = np.random.default_rng(2).random(50)
    same = paired_difference(costs, costs)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert paired_difference(costs + 1.0, costs).low > 0.0
    assert paired_difference(costs, costs + 1.0) == paired_difference(costs, costs + 1.0)


def test_the_oracle_regrets_nothing_and_everyone_else_at_least_that() -> None:
    log_p, labels = drawn(300, 3, seed=3)
    oracle = GOLDEN.argmin(axis=0)[labels]
    assert oracle_regret(oracle, GOLDEN, labels) == 0.0
    assert oracle_regret(taken(log_p, GOLDEN)[1], GOLDEN, labels) > 0.0


def test_a_price_per_true_class_changes_no_regret() -> None:
    log_p, labels = drawn(300, 3, seed=4)
    risks, actions = taken(log_p, GOLDEN)
    priced = GOLDEN + np.array([5.0, -2.0, 7.0])
    assert oracle_regret(actions, priced, labels) == pytest.approx(oracle_regret(actions, GOLDEN, labels), rel=1e-12)
    assert excess_risk(expected_cost(log_p, priced), actions) == pytest.approx(excess_risk(risks, actions), abs=1e-12)


def test_savings_are_none_for_the_best_constant_action_and_all_for_a_costless_oracle() -> None:
    _, labels = drawn(300, 3, seed=5)
    constant = int(GOLDEN[:, labels].mean(axis=1).argmin())
    assert savings_score(np.full(300, constant), GOLDEN, labels) == pytest.approx(0.0, abs=1e-12)
    assert savings_score(GOLDEN.argmin(axis=0)[labels], GOLDEN, labels) == 1.0


def test_no_share_is_saved_of_costs_that_are_gains() -> None:
    assert np.isnan(savings_score(np.array([0]), np.array([[-1.0, 1.0], [0.0, 0.0]]), np.array([0])))


# ------------------------------------------------------------------------------------------------------- dominated


def test_a_dominated_action_is_never_the_cheapest() -> None:
    rng = np.random.default_rng(8)
    log_p, _ = drawn(500, 3, seed=8)
    for _ in range(50):
        cost = rng.integers(0, 4, size=(5, 3)).astype(np.float64)
        worse = {a for a, _ in dominated_actions(cost)}
        chosen = set(expected_cost(log_p, cost).argmin(axis=1).tolist())
        assert not worse & chosen


def test_equal_actions_do_not_dominate_each_other() -> None:
    assert dominated_actions(np.array([[1.0, 2.0], [1.0, 2.0]])) == []
    assert dominated_actions(np.array([[1.0, 2.0], [1.0, 3.0]])) == [(1, 0)]


def test_dominated_actions_are_those_of_the_definition_pair_by_pair() -> None:
    cost = np.random.default_rng(9).integers(0, 3, size=(40, 3)).astype(np.float64)
    pairs = [(a, b) for a in range(40) for b in range(40) if (cost[a] >= cost[b]).all() and (cost[a] > cost[b]).any()]
    assert dominated_actions(cost) == pairs


# ---------------------------------------------------------------------------------------------- weights and groups


def test_a_weight_of_two_is_the_row_twice_for_costs() -> None:
    log_p, labels = drawn(300, 3, seed=20)
    copies = np.random.default_rng(20).integers(1, 4, size=300)
    rows, weights = np.repeat(np.arange(300), copies), copies.astype(np.float64)
    risks, actions = taken(log_p, GOLDEN)
    weighted = cost_calibration(risks, actions, GOLDEN, labels, weights=weights)
    repeated = cost_calibration(risks[rows], actions[rows], GOLDEN, labels[rows])
    np.testing.assert_allclose(weighted.expected, repeated.expected, rtol=1e-12)
    np.testing.assert_allclose(weighted.realised, repeated.realised, rtol=1e-12)
    costs = GOLDEN[actions, labels]
    mean = paired_difference(costs, costs * 0.5, weights=weights).mean
    assert mean == pytest.approx(paired_difference(costs[rows], costs[rows] * 0.5).mean, rel=1e-12)


def test_the_interval_of_grouped_rows_is_that_of_their_patients() -> None:
    rng = np.random.default_rng(21)
    patients = rng.normal(0.3, 1.0, size=80)
    groups = np.repeat(np.arange(80), 10)
    rows, nothing = patients[groups], np.zeros(800)
    grouped, plain = paired_difference(rows, nothing, groups=groups), paired_difference(patients, np.zeros(80))
    assert (grouped.low, grouped.high) == pytest.approx((plain.low, plain.high), rel=1e-12)
    naive = paired_difference(rows, nothing)
    assert naive.high - naive.low < 0.4 * (grouped.high - grouped.low)


@pytest.mark.parametrize("groups", [None, np.zeros(1, dtype=np.intp)])
def test_one_unit_bounds_nothing(groups: Indices | None) -> None:
    found = paired_difference(np.array([3.0]), np.array([1.0]), groups=groups)
    assert (found.mean, found.low, found.high) == (2.0, -np.inf, np.inf)


def test_many_rows_of_one_group_are_one_unit() -> None:
    found = paired_difference(np.arange(9.0), np.zeros(9), groups=np.full(9, 4))
    assert (found.low, found.high) == (-np.inf, np.inf)
