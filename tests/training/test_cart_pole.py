import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
linalg = pytest.importorskip("scipy.linalg")

from gymnasium.envs.classic_control.cartpole import CartPoleEnv  # after the skip

from service.training.cart_pole import (
    ACTIONS,
    FARTHEST,
    GAINS,
    HORIZONS,
    OTHERS,
    ROUGH,
    STEEPEST,
    course,
    expert,
    fifths,
    measured,
    others,
    sampled,
    served_task,
)


def test_the_expert_s_gains_are_those_of_the_linear_quadratic_regulator() -> None:
    pole = CartPoleEnv()
    mass, lever = pole.total_mass, pole.length * (4.0 / 3.0 - pole.masspole / pole.total_mass)
    pull, push = pole.gravity / lever, -1.0 / (mass * lever)  # on the angle
    coupling = pole.polemass_length / mass
    drift = np.array([[0, 1, 0, 0], [0, 0, -coupling * pull, 0], [0, 0, 0, 1], [0, 0, pull, 0]])
    a, b = np.eye(4) + pole.tau * drift, pole.tau * np.array([[0.0], [1.0 / mass - coupling * push], [0.0], [push]])
    cost = linalg.solve_discrete_are(a, b, np.eye(4), np.array([[0.01]]))
    gains = np.linalg.solve(0.01 + b.T @ cost @ b, b.T @ cost @ a)[0]
    np.testing.assert_allclose(GAINS, -gains, rtol=1e-4)


def test_the_linear_model_is_gymnasium_s_near_upright() -> None:
    pole = CartPoleEnv()
    state, _ = pole.reset(seed=0, options={"low": -0.001, "high": 0.001})
    lever = pole.length * (4.0 / 3.0 - pole.masspole / pole.total_mass)
    following, *_ = pole.step(1)
    turn = (pole.gravity * state[2] - pole.force_mag / pole.total_mass) / lever
    assert following[3] - state[3] == pytest.approx(pole.tau * turn, rel=1e-4)


def test_the_limits_are_gymnasium_s() -> None:
    pole = CartPoleEnv()
    assert pole.x_threshold == FARTHEST
    assert pytest.approx(pole.theta_threshold_radians, abs=1e-4) == STEEPEST
    assert (CartPoleEnv().reset(seed=0)[0].shape, ACTIONS) == ((4,), ("left", "right"))


def test_the_expert_never_falls_in_calm_and_seldom_in_rough_episodes() -> None:
    assert not course(expert, 100, 1000, seed=0).failed.any()
    assert course(expert, 100, 500, seed=0, condition=ROUGH).failed.mean() < 0.1


def test_a_policy_that_always_pushes_right_falls_within_a_second() -> None:
    rollouts = course(lambda states: np.ones(len(states), dtype=np.int64), 20, 50, seed=0)
    assert rollouts.failed.all()


def test_the_side_by_side_poles_move_like_the_single_one() -> None:
    rollouts = course(expert, 3, 60, seed=4)
    pole = CartPoleEnv()
    pole.reset(seed=0)
    pole.state = rollouts.states[0, 1].astype(np.float64)
    for step in range(59):
        state, *_ = pole.step(int(rollouts.actions[step, 1]))
        np.testing.assert_allclose(state, rollouts.states[step + 1, 1], atol=1e-4)


def test_a_served_episode_begins_and_is_pushed_as_its_condition_says() -> None:
    task = served_task(7, ROUGH, hand_over="defer")
    state, _ = task.environment().reset(seed=0, options=dict(task.options))
    assert (task.steps, task.pushes, task.hand_over, tuple(task.classes)) == (7, ROUGH.pushes, "defer", ACTIONS)
    assert 0.05 < np.abs(state).max() <= ROUGH.start


def test_sampled_states_have_the_expert_s_action_and_their_episode() -> None:
    rollouts = course(expert, 40, 90, seed=1)
    rows = sampled(rollouts, one_in=10)
    assert rows.groups is not None
    assert len(rows) == pytest.approx(360, rel=0.2)
    np.testing.assert_array_equal(rows.labels, expert(rows.inputs))
    for state, episode in zip(rows.inputs[:20], rows.groups[:20], strict=True):
        assert (rollouts.states[:, episode] == state).all(axis=1).any()


def test_sampled_states_show_both_sides_of_the_swing() -> None:
    """Every tenth step of the expert's course lies at one side of its swing: a stride of ten would see no other."""
    rollouts = course(expert, 100, 200, seed=1)
    drawn, every, strided = sampled(rollouts), rollouts.visited(), rollouts.states[100::10].reshape(-1, 4)
    deviations = [rows[:, 3].std() for rows in (drawn.inputs, every, strided)]
    assert deviations[0] == pytest.approx(deviations[1], rel=0.1)
    assert abs(deviations[2] / deviations[1] - 1.0) > 0.1


def test_a_fifth_of_the_states_is_kept_to_stop_on() -> None:
    states = course(expert, 2, 50, seed=0).visited()
    rows = fifths(states)
    assert (len(rows["train"]), len(rows["validation"])) == (80, 20)
    assert sorted(map(tuple, np.concatenate([part.inputs for part in rows.values()]))) == sorted(map(tuple, states))
    assert all((part.labels == expert(part.inputs)).all() for part in rows.values())


def test_other_episodes_serve_one_purpose_each() -> None:
    rows = others(expert)
    assert set(rows) == set(OTHERS)
    states = {name: set(map(tuple, part.inputs)) for name, part in rows.items()}
    assert not states["reference"] & states["calibration"] | states["calibration"] & states["test"]


def test_the_expert_measured_as_a_learner_makes_no_error() -> None:
    found = measured(expert, episodes=5, seed=0)
    assert found["error"] == found["own error"] == found["late falls"] == 0.0
    assert {f"cost {steps}" for steps in HORIZONS} <= set(found)


def test_a_learner_that_falls_costs_a_step_for_each_that_is_left() -> None:
    found = measured(lambda states: np.ones(len(states), dtype=np.int64), episodes=5, seed=0)
    assert found["falls"] == found["late falls"] == found["rough falls"] == 1.0
    assert 950 < found["cost 1000"] < 1000
