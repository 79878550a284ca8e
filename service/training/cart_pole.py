"""A cart that balances a pole: gymnasium's CartPole-v1, an expert for it, and conditions from quiet to rough."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv

from service.core.numerics import Indices
from service.core.trajectory import horizon_risk
from service.training.closed_loop import Task
from service.training.example_sets import Examples
from service.training.imitation import (
    NO_PUSHES,
    Policy,
    Pushes,
    Rollouts,
    States,
    compounded_cost,
    error_rate,
    growth,
    recovery_rate,
    roll_out,
)

ACTIONS: Final = ("left", "right")
FEATURES: Final = ("position", "velocity", "angle", "angular velocity")
FARTHEST, STEEPEST = 2.4, 0.2095
"""Position and angle (rad) beyond which an episode ends, as gymnasium's documentation rounds them."""

GAINS: Final = np.array([7.883, 13.580, 85.446, 23.457])
"""Linear-quadratic regulator of the pole near upright: every state costs its square, the force 0.01 of its square."""

HORIZONS: Final = (5, 10, 20, 50, 100, 200, 500, 1000)
STEPS: Final = 500
"""Of gymnasium's episodes."""

OTHERS: Final = {"reference": 1000, "calibration": 2000, "test": 3000}
"""Seeds of episodes that no learner learns from: for OOD scores, for calibration, for tests."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How an episode begins, and what disturbs it.

    Attributes
    ----------
    start : float
        Every number of the first state lies between its negative and itself.
    pushes : Pushes
    """

    start: float = 0.05  # gymnasium's own
    pushes: Pushes = NO_PUSHES

    @property
    def options(self) -> dict[str, float]:
        """Of the environment's `reset`."""
        return {"low": -self.start, "high": self.start}


CALM: Final = Condition()
ROUGH: Final = Condition(0.2, Pushes(rate=0.005, steps=3))
"""Starts four times as far out, and every 200 steps on average a push of 60 ms that nothing chose."""


def expert(states: States) -> Indices:
    """The exact action: right (1) where the regulator's force points there.

    Parameters
    ----------
    states : ndarray of shape (n, 4)

    Examples
    --------
    >>> expert(np.array([[0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]], dtype=np.float32)).tolist()
    [1, 0]
    """
    return np.asarray(states @ GAINS > 0.0, dtype=np.int64)


def course(policy: Policy, episodes: int, steps: int, *, seed: int, condition: Condition = CALM) -> Rollouts:
    """Episodes of a policy, side by side; an episode fails where the pole falls or the cart leaves the track.

    Parameters
    ----------
    policy : callable
    episodes, steps : int
    seed : int
        Of first states and pushes.
    condition : Condition
    """
    poles = CartPoleVectorEnv(episodes, max_episode_steps=steps + 1)
    return roll_out(policy, poles, steps=steps, seed=seed, options=condition.options, pushes=condition.pushes)


def served_task(steps: int, condition: Condition, *, hand_over: str) -> Task:
    """The same for a served model: one episode at a time.

    Parameters
    ----------
    steps : int
    condition : Condition
    hand_over : str
        Action with which the service hands over to the expert.
    """
    return Task(CartPoleEnv, expert, ACTIONS, hand_over, steps, condition.options, condition.pushes)


def sampled(rollouts: Rollouts, *, one_in: int = 30) -> Examples:
    """Some of the visited states with the expert's action, drawn at random; an episode is a group.

    A fixed stride could share the period in which the pole swings, and see one side of it alone.

    Parameters
    ----------
    rollouts : Rollouts
    one_in : int
    """
    states = rollouts.visited()
    chosen = np.random.default_rng(0).random(len(states)) < 1.0 / one_in
    return Examples(states[chosen], expert(states[chosen]), rollouts.episodes()[chosen])


def fifths(states: States) -> dict[str, Examples]:
    """States with the expert's actions: four fifths to train on, every fifth to stop on.

    Parameters
    ----------
    states : ndarray of shape (N, 4)
    """
    fifth, labels = np.arange(len(states)) % 5 == 4, expert(states)
    return {"train": Examples(states[~fifth], labels[~fifth]), "validation": Examples(states[fifth], labels[fifth])}


def others(policy: Policy) -> dict[str, Examples]:
    """States of 300 calm episodes of 200 steps, one in thirty, for every purpose of `OTHERS`.

    Parameters
    ----------
    policy : callable
    """
    return {name: sampled(course(policy, 300, 200, seed=seed)) for name, seed in OTHERS.items()}


def measured(policy: Policy, *, episodes: int, seed: int) -> dict[str, float]:
    """Errors, compounded cost and falls of a learner.

    Parameters
    ----------
    policy : callable
    episodes : int
    seed : int
        Of the episodes.

    Returns
    -------
    dict of str to float
        ``error`` and ``own error`` per step, on the expert's course and on the learner's; ``recovery`` per step on the
        learner's; ``cost T`` for T in `HORIZONS`, ``growth`` of the cost from T = 100 to 1000, and what the horizon
        calculator makes of error and recovery, ``predicted cost``, for T = 1000; ``falls`` within 500 steps, ``late
        falls`` within 1000 and ``rough falls`` within 500 rough ones, as shares of the episodes.
    """
    own = course(policy, episodes, HORIZONS[-1], seed=seed)
    cost, recovery = compounded_cost(own, expert), recovery_rate(own, expert)
    error = error_rate(course(expert, episodes, STEPS, seed=seed), expert, policy)
    return {f"cost {steps}": float(cost[steps - 1]) for steps in HORIZONS} | {
        "error": error,
        "own error": error_rate(own, expert, policy),
        "recovery": recovery,
        "predicted cost": horizon_risk(error, HORIZONS[-1], recovery=recovery),
        "growth": growth(cost, first=100, last=1000),
        "falls": float(1.0 - own.running[STEPS].mean()),
        "late falls": float(own.failed.mean()),
        "rough falls": float(course(policy, episodes, STEPS, seed=seed, condition=ROUGH).failed.mean()),
    }
