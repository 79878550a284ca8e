from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.calibration.temperature import Temperature
from service.core.costs import class_ranges, one_apart, priced
from service.core.decision import (
    LOWEST_RISK,
    OOD,
    OOD_UNAVAILABLE,
    REASONS,
    TIE,
    TIE_TOLERANCE,
    Decisions,
    apart_cost,
    best_action,
    decide,
    deferral_value,
    expected_cost,
    margin_of,
    regret,
)
from service.core.numerics import Array, log_softmax

posteriors = arrays(np.float64, (5, 3), elements=st.floats(-8.0, 8.0)).map(log_softmax)
costs = arrays(np.float64, (4, 3), elements=st.floats(-100.0, 100.0))

BIOPSY = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])  # dismiss, biopsy, defer


def binary(p: float) -> Array:
    return np.log([[1.0 - p, p]])


def three_ways(n: int, *, seed: int) -> Array:
    return log_softmax(2.0 * np.random.default_rng(seed).normal(size=(n, 3)))


# ------------------------------------------------------------------------------------------------ risks and goldens


@given(posteriors, costs)
def test_risk_is_the_mean_cost_under_the_posterior(log_p: Array, cost: Array) -> None:
    by_hand = [[sum(cost[a, k] * np.exp(row[k]) for k in range(3)) for a in range(4)] for row in log_p]
    np.testing.assert_allclose(expected_cost(log_p, cost), by_hand, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("cost", "threshold"),
    [
        ([[0.0, 10.0], [1.0, 0.0]], 1 / 11),
        ([[0.0, 5.0], [1.0, 0.0]], 1 / 6),
        ([[-1.0, 20.0], [4.0, 2.0]], 0.21739130434782608),
    ],
)
def test_the_binary_threshold_is_elkans(cost: list[list[float]], threshold: float) -> None:
    for p, action in [(threshold - 1e-5, 0), (threshold + 1e-5, 1)]:
        decision = decide(binary(p), np.array(cost))
        assert decision.action[0] == action
        assert REASONS[decision.reason[0]] == "lowest_risk"
    at = decide(binary(threshold), np.array(cost))
    assert (at.action[0], at.reason[0]) == (0, TIE)
    assert at.margin[0] == pytest.approx(0.0, abs=1e-12)


def test_a_calibrated_favourite_is_not_enough_for_the_right_action() -> None:
    cost = np.array([[0.0, 1.0, 10.0], [2.0, 0.0, 2.0], [9.0, 9.0, 0.0]])
    biased, true = decide(np.log([[0.6, 0.3, 0.1]]), cost), decide(np.log([[0.6, 0.1, 0.3]]), cost)
    np.testing.assert_allclose(biased.risks, [[1.3, 1.4, 8.1]], rtol=1e-13)
    np.testing.assert_allclose(true.risks, [[3.1, 1.8, 6.3]], rtol=1e-13)
    assert (biased.action[0], true.action[0]) == (0, 1)
    assert true.risks[0, biased.action[0]] - true.risks[0, true.action[0]] == pytest.approx(1.3)


def test_the_risks_of_a_miss_worth_ten_false_alarms() -> None:
    decision = decide(np.log([[0.95, 0.05]]), np.array([[0.0, 10.0], [1.0, 0.0]]))
    np.testing.assert_allclose(decision.risks, [[0.5, 0.95]], rtol=1e-13)
    assert decision.margin[0] == pytest.approx(0.45)


@pytest.mark.parametrize("price", [0.05, 0.2, 0.45])
def test_deferring_at_a_price_is_chows_rule(price: float) -> None:
    log_p = three_ways(300, seed=0)
    cost = np.concatenate([1.0 - np.eye(3), np.full((1, 3), price)])
    np.testing.assert_array_equal(decide(log_p, cost).action == 3, 1.0 - np.exp(log_p).max(axis=1) > price)


def test_zero_one_costs_take_the_most_probable_class() -> None:
    log_p = three_ways(300, seed=1)
    np.testing.assert_array_equal(decide(log_p, 1.0 - np.eye(3)).action, log_p.argmax(axis=1))


def test_a_dominated_action_is_never_taken() -> None:
    cost = np.array([[2.0, 2.0, 3.0], [0.0, 1.0, 3.0], [5.0, 0.0, 0.0]])
    assert (decide(three_ways(300, seed=2), cost).action != 0).all()


# ----------------------------------------------------------------------------------------------------- invariances


@given(posteriors, costs, st.floats(0.01, 100.0), arrays(np.float64, 3, elements=st.floats(-100.0, 100.0)))
def test_neither_the_currency_nor_a_cost_that_every_action_shares_changes_a_decision(
    log_p: Array, cost: Array, currency: float, shared: Array
) -> None:
    assume(class_ranges(cost).max(axis=-1) > 0.1)
    before, after = decide(log_p, cost), decide(log_p, currency * cost + shared)
    clear = before.margin > 10 * TIE_TOLERANCE * class_ranges(cost).max(axis=-1)
    np.testing.assert_array_equal(after.action[clear], before.action[clear])
    np.testing.assert_allclose(after.margin, currency * before.margin, rtol=0, atol=1e-9 * (1 + currency))


@given(posteriors, costs, st.permutations(range(3)))
def test_renaming_the_classes_changes_no_risk(log_p: Array, cost: Array, order: list[int]) -> None:
    np.testing.assert_allclose(
        expected_cost(log_p[:, order], cost[:, order]), expected_cost(log_p, cost), rtol=0, atol=1e-11
    )


def test_a_row_gets_the_same_action_alone_and_in_a_batch() -> None:
    rng = np.random.default_rng(3)
    log_p, cost = log_softmax(3.0 * rng.normal(size=(500, 17))), rng.normal(size=(9, 17))
    batch = decide(log_p, cost)
    alone = [decide(row[None], cost) for row in log_p]
    np.testing.assert_array_equal(batch.action, [d.action[0] for d in alone])
    np.testing.assert_array_equal(batch.reason, [d.reason[0] for d in alone])
    np.testing.assert_allclose(batch.risks, np.concatenate([d.risks for d in alone]), rtol=0, atol=1e-13)


def test_float32_logits_change_no_decision_outside_the_band() -> None:
    rng = np.random.default_rng(4)
    logits, cost = 3.0 * rng.normal(size=(2000, 5)), rng.normal(size=(4, 5))
    exact = decide(log_softmax(logits), cost)
    single = decide(log_softmax(logits.astype(np.float32).astype(np.float64)), cost)
    clear = exact.margin > 4.0 * TIE_TOLERANCE * class_ranges(cost).max(axis=-1)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(single.action[clear], exact.action[clear])
    assert np.abs(single.risks - exact.risks).max() <= TIE_TOLERANCE * class_ranges(cost).max(axis=-1)


def test_zero_one_decisions_are_those_of_any_temperature() -> None:
    logits = 3.0 * np.random.default_rng(5).normal(size=(200, 4))
    for t in (0.3, 1.0, 7.0):
        np.testing.assert_array_equal(
            decide(Temperature(t).apply(logits), 1.0 - np.eye(4)).action, logits.argmax(axis=1)
        )


# ------------------------------------------------------------------------------------------------------------ ties


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_within_a_millionth_of_the_scale_the_lowest_index_wins(scale: float) -> None:
    risks = scale * np.array([[1.0 + 0.9e-6, 1.0, 5.0], [1.0 + 1.1e-6, 1.0, 5.0], [5.0, 1.0, 1.0]])
    action, tie = best_action(risks, scale=scale)
    np.testing.assert_array_equal(action, [0, 1, 1])
    np.testing.assert_array_equal(tie, [True, False, True])


def test_the_scale_is_the_widest_choice_within_one_class() -> None:
    assert class_ranges(np.array([[0.0, 100.0], [1.0, 101.0]])).max(axis=-1) == 1.0
    assert class_ranges(BIOPSY).max(axis=-1) == 49.0
    assert class_ranges(np.array([[-5.0, 3.0], [5.0, 3.0], [0.0, 4.0]])).max(axis=-1) == 10.0


def test_a_tie_is_a_reason_and_a_clear_case_is_none() -> None:
    decision = decide(np.log([[0.5, 0.5], [0.4, 0.6]]), 1.0 - np.eye(2))
    np.testing.assert_array_equal(decision.action, [0, 1])
    np.testing.assert_array_equal(decision.reason, [TIE, LOWEST_RISK])


def test_two_losing_actions_that_tie_are_no_tie() -> None:
    decision = decide(np.log([[0.5, 0.5]]), np.array([[3.0, 3.0], [1.0, 1.0], [3.0, 3.0]]))
    assert (decision.action[0], decision.reason[0], decision.margin[0]) == (1, LOWEST_RISK, 2.0)


@given(posteriors, costs)
def test_the_margin_is_the_runner_ups_risk_minus_the_bests(log_p: Array, cost: Array) -> None:
    decision = decide(log_p, cost)
    ordered = np.sort(decision.risks, axis=1)
    np.testing.assert_array_equal(decision.margin, ordered[:, 1] - ordered[:, 0])
    taken = decision.risks[np.arange(5), decision.action]
    assert (taken <= ordered[:, 0] + TIE_TOLERANCE * class_ranges(cost).max(axis=-1)).all()


# ------------------------------------------------------------------------------------------------------------- OOD


def reasons(decision: Decisions) -> list[str]:
    return [REASONS[r] for r in decision.reason]


TWO_ROWS = np.log([[0.99, 0.01], [0.9, 0.1]])


def test_without_an_ood_action_a_flag_changes_no_decision() -> None:
    for flagged in (None, np.array([True, True])):
        decision = decide(TWO_ROWS, BIOPSY, flagged=flagged)
        np.testing.assert_array_equal(decision.action, [0, 1])
        np.testing.assert_array_equal(decision.least_cost, decision.action)
        assert reasons(decision) == ["lowest_risk", "lowest_risk"]


def test_a_flagged_row_gets_the_ood_action_and_keeps_what_costs_would_take() -> None:
    decision = decide(TWO_ROWS, BIOPSY, on_ood=2, flagged=np.array([True, False]))
    np.testing.assert_array_equal(decision.action, [2, 1])
    np.testing.assert_array_equal(decision.least_cost, [0, 1])
    assert reasons(decision) == ["ood", "lowest_risk"]
    np.testing.assert_array_equal(decision.risks, decide(TWO_ROWS, BIOPSY).risks)


@given(posteriors, costs, st.sampled_from(["flags", "unavailable"]))
def test_the_margin_is_that_of_the_action_taken(log_p: Array, cost: Array, kind: str) -> None:
    flagged = np.array([True, False, True, False, True]) if kind == "flags" else None
    many = decide(log_p, cost, on_ood=1, flagged=flagged)
    settled = many.reason != TIE
    np.testing.assert_array_equal(many.margin[settled], margin_of(many.risks, many.action)[settled])
    for i in range(len(log_p)):
        one = decide(log_p[i : i + 1], cost, on_ood=1, flagged=None if flagged is None else flagged[i : i + 1])
        assert one.margin[0] == pytest.approx(many.margin[i], abs=1e-9 * (1.0 + np.abs(cost).max()))


def test_with_unknown_flags_every_row_is_handed_over() -> None:
    decision = decide(TWO_ROWS, BIOPSY, on_ood=2, flagged=None)
    np.testing.assert_array_equal(decision.action, [2, 2])
    assert reasons(decision) == ["ood_unavailable", "ood_unavailable"]
    np.testing.assert_array_equal(decision.least_cost, [0, 1])


def test_the_first_action_can_be_the_ood_action() -> None:
    decision = decide(TWO_ROWS, BIOPSY, on_ood=0, flagged=np.array([False, True]))
    np.testing.assert_array_equal(decision.action, [0, 0])
    assert reasons(decision) == ["lowest_risk", "ood"]


def test_an_unflagged_tie_stays_a_tie_and_a_flagged_one_is_ood() -> None:
    even = np.log([[0.5, 0.5], [0.5, 0.5]])
    decision = decide(even, 1.0 - np.eye(2), on_ood=1, flagged=np.array([False, True]))
    np.testing.assert_array_equal(decision.action, [0, 1])
    assert reasons(decision) == ["tie", "ood"]


def test_reasons_and_their_indices_belong_together() -> None:
    assert [REASONS[i] for i in (LOWEST_RISK, TIE, OOD, OOD_UNAVAILABLE)] == [
        "lowest_risk",
        "tie",
        "ood",
        "ood_unavailable",
    ]


# ----------------------------------------------------------------------------------------------- value of knowing


def test_the_golden_value_of_perfect_information() -> None:
    decision = decide(np.log([[0.95, 0.05]]), np.array([[0.0, 10.0], [1.0, 0.0]]))
    np.testing.assert_allclose(decision.information, [0.5])
    assert decision.deferral is None


@given(posteriors, costs, arrays(np.float64, 3, elements=st.floats(-100.0, 100.0)))
def test_information_is_worth_its_formula_never_less_than_nothing_and_not_what_all_actions_share(
    log_p: Array, cost: Array, shared: Array
) -> None:
    by_hand = expected_cost(log_p, cost - cost.min(axis=0)).min(axis=1)
    for same in (cost, cost + shared):
        information = decide(log_p, same).information
        np.testing.assert_allclose(information, by_hand, rtol=0, atol=1e-10)
        assert information.min() >= 0.0


def test_certainty_leaves_nothing_to_know() -> None:
    assert decide(np.array([[0.0, -np.inf]]), BIOPSY).information.tolist() == [0.0]


def test_deferring_is_worth_what_the_best_other_action_costs_more() -> None:
    price = 0.3
    cost = np.concatenate([1.0 - np.eye(3), np.full((1, 3), price)])
    log_p = three_ways(300, seed=7)
    decision = decide(log_p, cost, on_ood=3, flagged=np.arange(300) % 2 == 0)
    doubt = 1.0 - np.exp(log_p.max(axis=1))
    assert decision.deferral is not None
    np.testing.assert_allclose(decision.deferral, doubt - price, atol=1e-12)
    np.testing.assert_array_equal(decision.deferral > 0.0, decision.least_cost == 3)
    np.testing.assert_array_equal(decision.deferral, deferral_value(decision.risks, defer=3))


# -------------------------------------------------------------------------------------------------- costs row by row


def test_costs_that_vary_by_row_decide_every_row_by_its_own() -> None:
    rng = np.random.default_rng(8)
    log_p, tables = three_ways(60, seed=8), rng.normal(size=(60, 4, 3)) * rng.lognormal(sigma=4.0, size=(60, 1, 1))
    flagged = rng.random(60) < 0.3
    batch = decide(log_p, tables, on_ood=2, flagged=flagged)
    alone = [decide(log_p[i : i + 1], tables[i], on_ood=2, flagged=flagged[i : i + 1]) for i in range(60)]
    for name in ("action", "reason", "least_cost"):
        np.testing.assert_array_equal(getattr(batch, name), [getattr(one, name)[0] for one in alone])
    for name in ("risks", "margin", "information", "deferral"):
        apart = np.array([getattr(one, name)[0] for one in alone])
        np.testing.assert_allclose(getattr(batch, name), apart, rtol=1e-9, atol=1e-12 * np.abs(tables).max())


def test_a_tie_is_as_wide_as_the_rows_own_costs() -> None:
    log_p = np.log([[0.5, 0.5], [0.5, 0.5]])
    tables = np.array([[[0.0, 1e9], [1e9, 1.0]], [[0.0, 1.0], [1.0, 1.0]]])
    assert class_ranges(tables).max(axis=-1).tolist() == [1e9, 1.0]
    assert reasons(decide(log_p, tables)) == ["tie", "lowest_risk"]


# ------------------------------------------------------------------------------------------------------- structure


@st.composite
def apart_costs(draw: st.DrawFn) -> Array:
    """Costs of two to nine actions over three to seven classes, each with at most one class apart."""
    classes, actions = draw(st.integers(3, 7)), draw(st.integers(2, 9))
    usual = draw(arrays(np.float64, actions, elements=st.floats(-100.0, 100.0)))
    there = draw(arrays(np.float64, actions, elements=st.floats(-100.0, 100.0)))
    place = draw(arrays(np.intp, actions, elements=st.integers(0, classes - 1)))
    cost = np.tile(usual[:, None], (1, classes))
    cost[np.arange(actions), place] = there
    return cost


@given(apart_costs(), st.integers(0, 1 << 32), st.floats(0.1, 30.0))
def test_risks_without_the_product_are_those_of_the_product(cost: Array, seed: int, spread: float) -> None:
    log_p = log_softmax(spread * np.random.default_rng(seed).normal(size=(6, cost.shape[1])))
    apart = one_apart(cost)
    assert apart is not None
    size = np.exp(log_p) @ np.abs(cost).T
    assert (np.abs(apart_cost(log_p, apart) - expected_cost(log_p, cost)) <= 1e-12 * size).all()


def test_a_sure_answers_risk_keeps_its_digits() -> None:
    log_p = log_softmax(np.array([[40.0, 0.0, 1.0]]))
    cost = 1.0 - np.eye(3)
    apart = one_apart(cost)
    assert apart is not None
    np.testing.assert_allclose(apart_cost(log_p, apart), expected_cost(log_p, cost), rtol=1e-12)


@pytest.mark.parametrize("kind", ["zero-one", "discounts", "with a reject"])
def test_many_classes_decide_alike_with_and_without_the_product(kind: str) -> None:
    rng = np.random.default_rng(9)
    cost = {
        "zero-one": 1.0 - np.eye(150),
        "discounts": rng.random((150, 1)) - np.diag(rng.random(150)),
        "with a reject": np.concatenate([1.0 - np.eye(150), np.full((1, 150), 0.4)]),
    }[kind]
    log_p = log_softmax(3.0 * rng.normal(size=(50, 150)))
    quick, whole = decide(log_p, priced(cost)), expected_cost(log_p, cost)
    assert priced(cost).apart is not None
    np.testing.assert_allclose(quick.risks, whole, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(quick.action, best_action(whole, scale=class_ranges(cost).max(axis=-1))[0])


def test_structure_is_looked_for_where_it_pays_and_found_only_where_it_is() -> None:
    rng = np.random.default_rng(10)
    assert priced(1.0 - np.eye(100)).apart is None
    assert priced(rng.normal(size=(3, 150))).apart is None
    assert priced(np.tile(1.0 - np.eye(150), (2, 1, 1))).apart is None
    two_apart = 1.0 - np.eye(150)
    two_apart[0, 1] = 0.5
    assert priced(two_apart).apart is None


# ------------------------------------------------------------------------------------- rounding, and what is at stake

BILLION = np.array([[0.0, 50.0, 1e9], [1.0, 1.0, 1.0]])  # dismiss, biopsy
NEARLY_IMPOSSIBLE = np.array([0.045, 0.955, 3e-15])


def spread_over(p: Array, cost: Array, classes: int) -> tuple[Array, Array]:
    """The same decision among more classes, none of the new ones likely."""
    p, more = np.append(p, np.full(classes - len(p), 1e-300)), np.zeros((len(cost), classes - cost.shape[1]))
    return p, np.hstack([cost, more + cost[:, -1:]])


@pytest.mark.parametrize("rows", [1, 2, 300])
@pytest.mark.parametrize("classes", [3, 20, 150])
@pytest.mark.parametrize("by_row", [False, True])
def test_a_cost_of_a_class_that_is_as_good_as_impossible_does_not_widen_the_band(
    rows: int, classes: int, *, by_row: bool
) -> None:
    p, cost = spread_over(NEARLY_IMPOSSIBLE, BILLION, classes)
    log_p = np.tile(np.log(p), (rows, 1))
    for given_as in [log_p, log_p.astype(np.float32)] if classes > 100 else [log_p]:
        taken = decide(given_as, np.tile(cost, (rows, 1, 1)) if by_row else cost)
        assert set(taken.action.tolist()) == {1}
        assert {REASONS[r] for r in taken.reason} == {"lowest_risk"}
        np.testing.assert_allclose(taken.margin, 46.75, rtol=1e-5)
        assert set(taken.risks[:, 1].tolist()) == {1.0}


def test_where_the_same_class_is_possible_its_cost_decides() -> None:
    taken = decide(np.log([[0.045, 0.955 - 1e-6, 1e-6], [1.0 - 1e-12, 5e-13, 5e-13]]), BILLION)
    assert taken.action.tolist() == [1, 0]


def of_any_size(rng: np.random.Generator, shape: tuple[int, int], low: int, high: int) -> Array:
    return rng.normal(size=shape) * 10.0 ** rng.uniform(low, high, shape)


costs_of_any_size = st.builds(
    lambda seed, a, k, low, high: of_any_size(np.random.default_rng(seed), (a, k), low, high),
    st.integers(0, 10_000),
    st.integers(2, 6),
    st.sampled_from([2, 3, 10, 120]),
    st.integers(-6, 0),
    st.integers(0, 9),
)


def draws(k: int, n: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return log_softmax(rng.normal(size=(n, k)) * rng.choice([0.1, 3.0, 30.0], size=(n, 1)))


@given(costs_of_any_size, st.floats(-1e6, 1e6), st.integers(0, 10_000))
def test_a_cost_that_is_the_same_in_every_class_is_the_risk_to_the_last_digit(
    cost: Array, price: float, seed: int
) -> None:
    cost[1] = price
    log_p = draws(cost.shape[1], 7, seed)
    whole = decide(log_p, cost)
    assert set(whole.risks[:, 1].tolist()) == {price}
    assert set(decide(log_p.astype(np.float32), cost).risks[:, 1].tolist()) == {price}
    assert set(decide(log_p, np.tile(cost, (7, 1, 1))).risks[:, 1].tolist()) == {price}
    assert {decide(log_p[i : i + 1], cost).risks[0, 1] for i in range(7)} == {price}
    assert set(expected_cost(log_p, cost)[:, 1].tolist()) == {price}


def test_costs_without_a_product_are_constant_exactly_too() -> None:
    cost = np.vstack([1.0 - np.eye(150), np.full(150, 0.3)])
    assert priced(cost).apart is not None
    assert set(decide(draws(150, 40, 3), cost).risks[:, -1].tolist()) == {0.3}


@given(costs_of_any_size, st.integers(0, 10_000))
def test_risks_are_as_exact_as_their_products(cost: Array, seed: int) -> None:
    log_p = draws(cost.shape[1], 3, seed)
    p = np.exp(log_p)
    found = decide(log_p, cost).risks
    for i, row in enumerate(p):
        total = sum(map(Fraction, row))
        for a, costs in enumerate(cost):
            exact = sum(Fraction(q) * Fraction(c) for q, c in zip(row, costs, strict=True)) / total
            size = float(np.abs(costs) @ row + np.abs(cost).min(axis=0) @ row)
            assert abs(float(Fraction(found[i, a]) - exact)) <= 1e-14 * size * len(row)


@given(costs_of_any_size, st.sampled_from([0.0, 1e6, -1e12]), st.integers(0, 10_000))
def test_costs_that_all_actions_share_change_no_action(cost: Array, shared: float, seed: int) -> None:
    cost = np.round(cost * 2**10) / 2**10 if shared else cost  # so that adding loses nothing of them
    assume(np.abs(cost).max() < 1e3 or not shared)
    log_p = draws(cost.shape[1], 50, seed)
    alone, together = decide(log_p, cost), decide(log_p, cost + shared)
    np.testing.assert_array_equal(together.action, alone.action)
    np.testing.assert_array_equal(together.reason, alone.reason)


@given(costs_of_any_size, st.integers(0, 10_000))
def test_no_last_digit_of_a_probability_moves_an_action(cost: Array, seed: int) -> None:
    log_p = draws(cost.shape[1], 60, seed)
    log_p[1::2] = log_p[::2] + 1e-13 * np.random.default_rng(seed).uniform(-1.0, 1.0, size=log_p[::2].shape)
    taken, prices = decide(log_p, cost), priced(cost)
    np.testing.assert_array_equal(taken.action[1::2], taken.action[::2])
    alone = [decide(log_p[i : i + 1], prices) for i in range(60)]
    assert [int(one.action[0]) for one in alone] == taken.action.tolist()
    assert [int(one.reason[0]) for one in alone] == taken.reason.tolist()


@given(costs_of_any_size, st.integers(0, 10_000))
def test_the_band_is_a_millionth_of_what_is_at_stake_for_the_row(cost: Array, seed: int) -> None:
    assume(cost.shape[1] <= 10)
    log_p = draws(cost.shape[1], 20, seed)
    regrets, stakes = regret(log_p, priced(cost))
    p = np.exp(log_p)
    np.testing.assert_allclose(stakes, p @ class_ranges(cost), rtol=1e-12)
    np.testing.assert_allclose(regrets, p @ (cost - cost.min(axis=0)).T, rtol=1e-12, atol=1e-300)
    expected, tie = best_action(regrets, scale=stakes)
    taken = decide(log_p, cost)
    np.testing.assert_array_equal(taken.action, expected)
    np.testing.assert_array_equal(taken.reason == REASONS.index("tie"), tie)
    np.testing.assert_array_equal(taken.information, regrets.min(axis=1))


def test_the_cheapest_action_of_a_known_class_is_found_beside_dear_classes() -> None:
    cheapest, _ = best_action(BILLION.T, scale=class_ranges(BILLION))
    assert cheapest.tolist() == [0, 1, 1]
