import math

import numpy as np
import pytest

from service.core.numerics import Array
from service.core.trajectory import (
    ALLOWANCE,
    Monitor,
    State,
    alarm_threshold,
    error_bound,
    horizon_risk,
    observe,
    observe_all,
    off_course,
    quadratic_bound,
    run_length,
)

# ------------------------------------------------------------------------------------------------------------ horizon


@pytest.mark.parametrize(("error", "horizon"), [(0.01, 10), (0.01, 100), (0.01, 1000), (0.001, 100), (0.3, 7)])
def test_without_recovery_the_risk_is_the_closed_form(error: float, horizon: int) -> None:
    exact = horizon - (1.0 - error) * (1.0 - (1.0 - error) ** horizon) / error
    assert horizon_risk(error, horizon) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("error", "horizon", "recovery", "risk"),
    [
        (0.01, 10, 0.0, 0.5338),
        (0.01, 100, 0.0, 37.2372),
        (0.01, 1000, 0.0, 901.0),
        (0.001, 100, 0.0, 4.8874),
        (0.01, 100, 0.5, 1.94),
        (0.01, 100, 0.1, 8.36),
    ],
)
def test_the_golden_risks(error: float, horizon: int, recovery: float, risk: float) -> None:
    digits = len(str(risk).split(".")[1])
    assert round(horizon_risk(error, horizon, recovery=recovery), digits) == risk


@pytest.mark.parametrize("recovery", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_the_risk_is_that_of_the_two_state_chain(recovery: float) -> None:
    off, total = 0.0, []
    for _ in range(50):
        off = off * (1.0 - recovery) + (1.0 - off) * 0.2
        total.append(off)
    np.testing.assert_allclose(off_course(0.2, 50, recovery=recovery), total, rtol=1e-12)
    assert horizon_risk(0.2, 50, recovery=recovery) == pytest.approx(math.fsum(total), rel=1e-12)


@pytest.mark.parametrize(("recovery", "seed"), [(0.0, 0), (0.1, 1), (0.5, 2)])
def test_a_simulated_imitator_is_off_course_as_often_as_by_the_formula(recovery: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    off, steps_off = np.zeros(20_000, dtype=np.bool_), np.zeros(20_000)
    for _ in range(100):
        chance = rng.random(20_000)
        off = np.where(off, chance >= recovery, chance < 0.01)
        steps_off += off
    standard_error = steps_off.std() / np.sqrt(20_000)
    assert horizon_risk(0.01, 100, recovery=recovery) == pytest.approx(steps_off.mean(), abs=4 * standard_error)


def test_errors_compound_quadratically_without_recovery_and_linearly_with_it() -> None:
    def ratio(recovery: float) -> float:
        return horizon_risk(0.01, 200, recovery=recovery) / horizon_risk(0.01, 100, recovery=recovery)

    assert ratio(0.0) > 2.5
    assert ratio(0.5) < 2.2
    assert horizon_risk(1e-9, 200) / horizon_risk(1e-9, 100) == pytest.approx(201 / 101 * 2, rel=1e-6)


def test_rare_errors_lose_no_digits() -> None:
    assert horizon_risk(1e-15, 100) == pytest.approx(5050e-15, rel=1e-12)


def test_the_bounds_hold_and_their_ends_are_exact() -> None:
    for error in (0.0, 1e-6, 0.01, 0.5, 1.0):
        for horizon in (0, 1, 10, 1000):
            assert 0.0 <= horizon_risk(error, horizon) <= quadratic_bound(error, horizon) + 1e-12
    assert horizon_risk(0.0, 100) == 0.0
    assert horizon_risk(1.0, 100) == 100.0


def test_log_loss_bounds_both_kinds_of_error() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), size=4000)
    expert = rng.integers(5, size=4000)
    own = p[np.arange(4000), expert]
    log_loss = float(-np.log(own).mean())
    assert np.mean(p.argmax(axis=1) != expert) <= error_bound(log_loss)
    assert 1.0 - own.mean() <= error_bound(log_loss, sampled=True)
    assert error_bound(0.0) == error_bound(0.0, sampled=True) == 0.0


# -------------------------------------------------------------------------------------------------------------- alarm


@pytest.mark.parametrize("per_thousand", [5.0, 20.0])
def test_known_ground_raises_false_alarms_at_the_stated_rate(per_thousand: float) -> None:
    monitor = Monitor(alarm_threshold(per_thousand))
    steps = 60_000
    states = observe_all(State(), np.random.default_rng(4).random(steps), monitor=monitor)
    alarms = sum(state.alarm for state in states)
    assert alarms == pytest.approx(per_thousand * steps / 1000.0, abs=4 * np.sqrt(per_thousand * steps / 1000.0))


@pytest.mark.parametrize("threshold", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("allowance", [1.1, ALLOWANCE, 2.5])
def test_mean_run_lengths_agree_with_simulation(threshold: float, allowance: float) -> None:
    rng = np.random.default_rng(5)
    statistic, runs = np.zeros(4000), np.zeros(4000)
    alive = np.ones(4000, dtype=np.bool_)
    while alive.any():
        runs += alive
        statistic = np.maximum(0.0, statistic + rng.exponential(size=4000) - allowance)
        alive &= statistic <= threshold
    exact = run_length(threshold, allowance=allowance)
    assert exact == pytest.approx(runs.mean(), abs=4 * runs.std() / np.sqrt(4000))


def test_the_grid_is_fine_enough() -> None:
    for threshold in (1.0, 8.0, 14.0):
        assert run_length(threshold) == pytest.approx(run_length(threshold, cells=400), rel=0.005)


def test_without_a_threshold_the_first_small_p_value_alarms() -> None:
    assert run_length(0.0) == pytest.approx(math.exp(ALLOWANCE), rel=1e-12)


def test_fewer_false_alarms_need_a_higher_threshold() -> None:
    thresholds = [alarm_threshold(rate) for rate in (50.0, 5.0, 0.5)]
    assert thresholds == sorted(thresholds)


@pytest.mark.parametrize(("per_thousand", "allowance"), [(0.0, ALLOWANCE), (-1.0, ALLOWANCE), (999.0, 2.0), (1.0, 0.9)])
def test_a_rate_that_no_threshold_gives_is_refused(per_thousand: float, allowance: float) -> None:
    with pytest.raises(ValueError, match="false alarms per 1000 steps"):
        alarm_threshold(per_thousand, allowance=allowance)


def finite_alarms(rows: int, thresholds: Array, *, sets: int, seed: int, scores: int = 1, steps: int = 1000) -> Array:
    """False alarms in 1000 steps, of shape (sets, thresholds), each session with a calibration set of its own.

    New rows fall into the gaps between calibration rows, whose sizes are exponential variables over their sum.
    """
    rng = np.random.default_rng(seed)
    gaps = np.cumsum(rng.exponential(size=(scores, sets, rows + 1)), axis=2)
    edges = (gaps / gaps[:, :, -1:] + np.arange(sets)[None, :, None]).reshape(scores, -1)
    statistic, alarms, offset = np.zeros((sets, len(thresholds))), np.zeros((sets, len(thresholds))), np.arange(sets)
    for _ in range(steps):
        ranks = [np.searchsorted(edges[i], rng.random(sets) + offset) - offset * (rows + 1) for i in range(scores)]
        p = np.minimum(1.0, scores * (np.minimum.reduce(ranks) + 1) / (rows + 1))
        statistic = np.maximum(0.0, statistic - np.log(p)[:, None] - ALLOWANCE)
        raised = statistic > thresholds
        alarms += raised
        statistic[raised] = 0.0
    return alarms


RATES = (0.05, 0.1, 0.2, 1.0)


@pytest.mark.parametrize("rows", [19, 25, 50, 100, 500, 5000])
def test_a_finite_calibration_set_keeps_the_rate_on_average(rows: int) -> None:
    thresholds = np.array([alarm_threshold(rate, rows=rows) for rate in RATES])
    alarms = finite_alarms(rows, thresholds, sets=3000 if rows <= 100 else 400, seed=rows)
    error = alarms.std(axis=0) / np.sqrt(len(alarms))
    assert (alarms.mean(axis=0) <= np.array(RATES) + 2.0 * error).all()
    assert ((alarms > 0).mean(axis=0) <= RATES).all()


def test_the_rate_is_kept_where_the_gate_joins_scores() -> None:
    thresholds = np.array([alarm_threshold(rate, rows=25) for rate in RATES])
    alarms = finite_alarms(25, thresholds, sets=2000, seed=1, scores=2)
    assert (alarms.mean(axis=0) <= RATES).all()


def test_few_calibration_rows_raise_the_threshold_of_low_rates_alone() -> None:
    for rows in (2, 5, 19, 25, 50, 99):
        assert alarm_threshold(0.05, rows=rows) >= alarm_threshold(0.05)
        assert alarm_threshold(1.0, rows=rows) == alarm_threshold(1.0)
    assert alarm_threshold(0.05, rows=19) > alarm_threshold(0.05) + 4.0
    assert alarm_threshold(0.01, rows=101) == alarm_threshold(0.01)


def test_a_rate_that_few_calibration_rows_cannot_keep_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"needs more than 100, and with fewer the lowest rate is 0\.05"):
        alarm_threshold(0.01, rows=30)


def test_larger_p_values_than_uniform_ones_alarm_less() -> None:
    monitor = Monitor(alarm_threshold(20.0))
    uniform = np.random.default_rng(6).random(20_000)
    conformal = np.ceil(uniform * 100) / 100
    plain, coarse = (sum(s.alarm for s in observe_all(State(), p, monitor=monitor)) for p in (uniform, conformal))
    assert coarse <= plain


def test_leaving_known_ground_is_noticed_within_a_few_steps() -> None:
    monitor = Monitor(alarm_threshold(1.0))
    rng = np.random.default_rng(7)
    delays = []
    for _ in range(300):
        states = observe_all(State(), rng.random(200) ** 10, monitor=monitor)  # p-values near zero
        delays.append(1 + next(i for i, state in enumerate(states) if state.alarm))
    assert np.mean(delays) < 3.0


def test_a_session_may_be_cut_anywhere() -> None:
    monitor = Monitor(threshold=3.0)
    p_values = np.random.default_rng(8).random(60) ** 2
    whole = observe_all(State(), p_values, monitor=monitor)
    first = observe_all(State(), p_values[:23], monitor=monitor)
    assert first + observe_all(first[-1], p_values[23:], monitor=monitor) == whole
    assert observe_all(State(), [], monitor=monitor) == []


def test_after_an_alarm_evidence_starts_again() -> None:
    state = observe(State(), 1e-9, monitor=Monitor(threshold=5.0))
    assert state.alarm
    assert state.statistic == 0.0
    assert not observe(state, 0.9, monitor=Monitor(threshold=5.0)).alarm


def test_a_p_value_of_zero_alarms_rather_than_fails() -> None:
    assert observe(State(), 0.0, monitor=Monitor(threshold=100.0)).alarm


def test_steps_since_the_last_one_inside_are_counted_across_alarms() -> None:
    states = observe_all(State(), [0.01, 1e-9, 0.05, 0.051, 0.02], monitor=Monitor(threshold=5.0, alpha=0.05))
    assert [state.since_inside for state in states] == [1, 2, 3, 0, 1]
    assert [state.steps for state in states] == [1, 2, 3, 4, 5]


def test_an_alarm_stands_until_a_step_is_inside() -> None:
    p_values = [0.5, 1e-9, 0.01, 0.04, 0.06, 0.01]
    states = observe_all(State(), p_values, monitor=Monitor(threshold=15.0, alpha=0.05))
    assert [state.alarm for state in states] == [False, True, False, False, False, False]
    assert [state.standing for state in states] == [False, True, True, True, False, False]


def test_a_step_that_a_rule_flags_is_not_inside_and_adds_no_evidence_of_its_own() -> None:
    monitor = Monitor(threshold=15.0, alpha=0.05)
    states = observe_all(State(), [1e-9, 0.9, 0.9], monitor=monitor, flagged=[True, True, False])
    assert [(state.since_inside, state.standing) for state in states] == [(1, True), (2, True), (0, False)]
    assert observe(State(), 0.9, monitor=monitor, flagged=True).statistic == 0.0


# -------------------------------------------------------------------------------------------------------- closed loop


def drive(horizon: int, *, hand_over: bool, sessions: int = 300) -> float:
    """Mean steps off course of an imitator that never recovers alone, with or without calling the expert."""
    rng = np.random.default_rng(horizon)
    monitor = Monitor(alarm_threshold(5.0))
    total = 0
    for _ in range(sessions):
        off, state = False, State()
        for chance, uniform in rng.random((horizon, 2)):
            off = off or chance < 0.01
            state = observe(state, uniform**10 if off else uniform, monitor=monitor)
            total += off
            off = off and not (hand_over and state.alarm)
    return total / sessions


def test_handing_over_on_an_alarm_bounds_what_otherwise_compounds() -> None:
    alone, helped = drive(100, hand_over=False), drive(100, hand_over=True)
    assert alone == pytest.approx(horizon_risk(0.01, 100), rel=0.15)
    assert helped < 0.1 * alone
    assert drive(200, hand_over=True) / helped < 2.5
    assert drive(200, hand_over=False) / alone > 2.5
