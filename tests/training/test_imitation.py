from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from service.core.numerics import Flags, Indices
from service.core.trajectory import horizon_risk
from service.training.imitation import (
    UNFORCED,
    Environments,
    Pushes,
    RandomStretches,
    Rollouts,
    States,
    aggregate,
    compounded_cost,
    error_rate,
    greedy,
    growth,
    hand_overs,
    handing_over,
    recovery_rate,
    roll_out,
    stretches,
)


@dataclass
class Ledges:
    """n walkers on ledges: action 1 is a step forward, action 0 a fall, after which a walker starts anew."""

    walkers: int
    places: Any = field(default=None)
    options: Any = field(default=None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.options = options
        self.places = np.random.default_rng(seed).integers(0, 3, (self.walkers, 1)).astype(np.float32)
        return self.places, {}

    def step(self, actions: Any, /) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        failed = actions == 0
        self.places = np.where(failed[:, None], 0.0, self.places + 1.0).astype(np.float32)
        return self.places, None, failed, np.zeros(self.walkers, dtype=bool), {}


def forward(states: States) -> Indices:
    return np.ones(len(states), dtype=np.int64)


def falls_beyond(place: float) -> Any:
    return lambda states: (states[:, 0] < place).astype(np.int64)


def test_a_test_s_environment_is_one() -> None:
    environments: Environments = Ledges(1)
    assert environments is not None


def test_an_episode_runs_until_it_fails_and_no_further() -> None:
    rollouts = roll_out(falls_beyond(4.0), Ledges(50), steps=20, seed=0)
    start = rollouts.states[0, :, 0]
    assert rollouts.failed.all()
    np.testing.assert_array_equal(rollouts.running.sum(axis=0), 5 - start)  # the last step is the one that fails
    assert rollouts.visited().max() == 4.0
    assert len(rollouts.visited()) == len(rollouts.episodes()) == rollouts.running.sum()
    np.testing.assert_array_equal(np.bincount(rollouts.episodes()), 5 - start)


def test_a_fall_at_the_last_step_counts() -> None:
    rollouts = roll_out(falls_beyond(4.0), Ledges(50), steps=3, seed=0)
    starts_at_2 = rollouts.states[0, :, 0] == 2.0
    assert rollouts.running.all()
    np.testing.assert_array_equal(rollouts.failed, starts_at_2)
    assert rollouts.failures()[0] == starts_at_2.mean()


def test_a_share_of_failures_has_an_interval_around_it() -> None:
    share, (low, high) = roll_out(falls_beyond(4.0), Ledges(50), steps=3, seed=0).failures()
    assert 0.0 < low < share < high < 1.0


def test_first_states_and_pushes_are_the_same_for_every_policy() -> None:
    pushes = Pushes(rate=0.1, steps=2)
    first, second = (roll_out(policy, Ledges(50), steps=9, seed=3, pushes=pushes) for policy in (forward, forward))
    other = roll_out(falls_beyond(2.0), Ledges(50), steps=9, seed=3, pushes=pushes)
    np.testing.assert_array_equal(first.states, second.states)
    np.testing.assert_array_equal(first.states[0], other.states[0])


def test_a_push_is_done_and_not_recorded_as_the_policy_s_action() -> None:
    rollouts = roll_out(forward, Ledges(200), steps=10, seed=0, pushes=Pushes(rate=0.2, steps=1))
    assert (rollouts.actions == 1).all()
    assert 0 < rollouts.failed.sum() < 200


def test_options_reach_the_environments() -> None:
    ledges = Ledges(1)
    roll_out(forward, ledges, steps=1, seed=0, options={"low": -1.0})
    assert ledges.options == {"low": -1.0}


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_pushes_begin_at_their_rate_and_last_as_long_as_they_say(steps: int) -> None:
    forced = Pushes(rate=0.01, steps=steps).draw(2000, 50, seed=0)
    assert np.mean(forced != UNFORCED) == pytest.approx(1.0 - 0.99**steps, rel=0.05)
    lengths = stretches(forced != UNFORCED)
    assert steps <= lengths <= 1.1 * steps
    assert np.mean(forced[forced != UNFORCED]) == pytest.approx(0.5, abs=0.05)


def test_no_push_lasts_beyond_the_episode_and_none_comes_at_rate_zero() -> None:
    assert Pushes(rate=1.0, steps=9).draw(3, 2, seed=0).shape == (3, 2)
    assert (Pushes().draw(100, 10, seed=0) == UNFORCED).all()


def test_aggregation_adds_equal_shares_from_the_course_of_the_learner_so_far() -> None:
    seen = []

    def visit(policy: Any, number: int) -> States:
        seen.append((policy, number))
        return np.full((50, 1), number, dtype=np.float32)

    learners: list[Any] = []

    def learn(states: States, labels: Indices) -> Any:
        assert len(states) == len(labels)
        learners.append(falls_beyond(float(len(learners))))
        return learners[-1]

    gathered = aggregate(forward, visit=visit, learn=learn, labels=40, rounds=4, seed=0)
    assert [number for _, number in seen] == [0, 1, 2, 3]
    assert [policy for policy, _ in seen] == [forward, *learners]
    np.testing.assert_array_equal(np.unique(gathered, return_counts=True)[1], [10, 10, 10, 10])


def test_a_round_of_early_failures_is_made_up_for() -> None:
    def visit(_policy: Any, number: int) -> States:
        return np.full((4 if number == 1 else 50, 1), number, dtype=np.float32)

    gathered = aggregate(forward, visit=visit, learn=lambda *_: forward, labels=40, rounds=4, seed=0)
    np.testing.assert_array_equal(np.unique(gathered, return_counts=True)[1], [10, 4, 16, 10])


def test_too_few_states_for_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="too few states for 40 labels"):
        aggregate(
            forward,
            visit=lambda *_: np.zeros((5, 1), np.float32),
            learn=lambda *_: forward,
            labels=40,
            rounds=2,
            seed=0,
        )


def test_the_error_rate_counts_visited_states_alone() -> None:
    rollouts = roll_out(falls_beyond(4.0), Ledges(50), steps=20, seed=0)
    expected = np.mean(rollouts.visited()[:, 0] >= 4.0)
    assert error_rate(rollouts, forward, falls_beyond(4.0)) == expected > 0.0


def coin_rollouts(error: float, *, recovery: float, steps: int, episodes: int) -> Rollouts:
    """Episodes in which an expert, who acts as the state says, and a learner differ off course."""
    rng, off = np.random.default_rng(0), np.zeros(episodes, dtype=bool)
    rows = []
    for _ in range(steps):
        off = np.where(off, rng.random(episodes) >= recovery, rng.random(episodes) < error)
        rows.append(off)
    wrong = np.stack(rows)
    shape = (steps, episodes)
    return Rollouts(
        np.ones((*shape, 1), np.float32), (~wrong).astype(np.int64), np.ones(shape, bool), np.zeros(episodes, bool)
    )


@pytest.mark.parametrize("recovery", [0.0, 0.1, 0.5])
def test_the_compounded_cost_of_a_simulation_is_the_horizon_calculator_s(recovery: float) -> None:
    cost = compounded_cost(coin_rollouts(0.01, recovery=recovery, steps=200, episodes=16_000), forward)
    for horizon in (10, 100, 200):
        assert cost[horizon - 1] == pytest.approx(horizon_risk(0.01, horizon, recovery=recovery), rel=0.1)


@pytest.mark.parametrize("recovery", [0.0, 0.1, 0.5])
def test_the_recovery_of_a_simulation_is_measured(recovery: float) -> None:
    rollouts = coin_rollouts(0.01, recovery=recovery, steps=200, episodes=4000)
    assert recovery_rate(rollouts, forward) == pytest.approx(recovery, rel=0.05)


def test_a_failure_is_no_recovery_and_an_expert_has_nothing_to_recover_from() -> None:
    rollouts = roll_out(falls_beyond(4.0), Ledges(50), steps=20, seed=0)
    assert recovery_rate(rollouts, forward) == 1.0  # its wrong actions are each the last of an episode
    assert recovery_rate(rollouts, falls_beyond(4.0)) == 1.0


def test_steps_after_a_failure_cost_one_each() -> None:
    rollouts = roll_out(falls_beyond(4.0), Ledges(50), steps=20, seed=0)
    np.testing.assert_allclose(np.diff(compounded_cost(rollouts, forward))[6:], 1.0)


def test_errors_without_recovery_grow_like_the_square_and_with_it_like_the_horizon() -> None:
    lasting, passing = (
        compounded_cost(coin_rollouts(0.0005, recovery=r, steps=400, episodes=4000), forward) for r in (0.0, 0.5)
    )
    assert growth(lasting, first=100, last=400) == pytest.approx(2.0, abs=0.15)
    assert growth(passing, first=100, last=400) == pytest.approx(1.0, abs=0.15)


def test_no_cost_does_not_grow_and_a_late_one_grows_without_bound() -> None:
    assert growth(np.zeros(9), first=2, last=9) == 0.0
    assert growth(np.arange(9.0), first=1, last=9) == np.inf


def test_the_greedy_policy_takes_the_largest_output() -> None:
    policy = greedy(lambda states: np.stack([states[:, 0], -states[:, 0]], axis=1))
    assert policy(np.array([[2.0], [-1.0]], dtype=np.float32)).tolist() == [0, 1]


def test_the_expert_acts_where_the_monitor_flags_and_the_learner_everywhere_else() -> None:
    def high(states: States) -> Flags:
        return np.asarray(states[:, 0] > 2.0)

    policy = handing_over(falls_beyond(0.0), forward, high)
    assert policy(np.array([[1.0], [3.0]], dtype=np.float32)).tolist() == [0, 1]


@pytest.mark.parametrize(("share", "length"), [(0.3, 1.0 / 0.7), (0.3, 10.0), (0.05, 4.0)])
def test_random_stretches_have_their_share_and_their_length(share: float, length: float) -> None:
    control = RandomStretches(share, length, seed=0)
    flags = np.stack([control(np.zeros((400, 1), np.float32)) for _ in range(2000)])
    assert flags.mean() == pytest.approx(share, rel=0.05)
    assert flags[0].mean() == pytest.approx(share, abs=0.08)
    assert stretches(flags) == pytest.approx(length, rel=0.05)


def test_no_hand_over_has_no_stretch() -> None:
    assert stretches(np.zeros((5, 2), dtype=bool)) == 0.0


def test_hand_overs_are_compared_under_the_same_share_of_steps() -> None:
    def edge(states: States) -> Flags:
        return np.asarray(states[:, 0] >= 4.0)

    found = hand_overs(
        falls_beyond(4.0), forward, edge, lambda policy: roll_out(policy, Ledges(100), steps=20, seed=0), seed=0
    )
    assert found["learner"] == 1.0
    assert found["monitor"] == found["expert"] == 0.0
    assert found["random steps"] > 0.0
    assert found["random stretches"] > 0.0
    assert found["share"] == pytest.approx(17 / 20, abs=0.01)  # starts lie at 0, 1 and 2
    assert found["stretch"] == pytest.approx(17.0, abs=0.2)
