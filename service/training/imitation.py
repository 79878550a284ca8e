"""Imitation of an expert: roll-outs, aggregation of data, and what errors cost over a horizon.

A learner that copies an expert's actions meets, once it errs, states that the expert never showed it. `roll_out` runs
many episodes side by side, `aggregate` lets the learner meet its own states while it learns (DAgger), and
`compounded_cost` counts what the errors of one step come to over a horizon.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.core.assessment.confusion import wilson
from service.core.numerics import Array, Flags, Indices

States = npt.NDArray[np.float32]
Policy = Callable[[States], Indices]
"""States of shape (n, d) to actions of shape (n,)."""

UNFORCED = -1


class Environments(Protocol):
    """Several copies of one environment, as `gymnasium.make_vec` makes them."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """First states, of shape (n, d)."""

    def step(self, actions: Any, /) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Next states, rewards, whether each episode has failed, whether each was cut off, and notes."""


@dataclass(frozen=True, slots=True)
class Pushes:
    """Disturbance through the actuator: for some steps an action holds that nothing chose.

    Attributes
    ----------
    rate : float
        Probability per step that a push begins.
    steps : int
        Steps that it lasts.
    """

    rate: float = 0.0
    steps: int = 1

    def draw(self, steps: int, episodes: int, *, seed: int) -> Indices:
        """Forced actions, of shape (steps, episodes), `UNFORCED` where none is; the same for every policy.

        Parameters
        ----------
        steps, episodes : int
        seed : int

        Examples
        --------
        >>> Pushes(rate=0.2, steps=2).draw(8, 1, seed=0)[:, 0].tolist()
        [-1, -1, 1, 1, 1, -1, -1, -1]
        """
        rng = np.random.default_rng(seed)
        begin, action = rng.random((steps, episodes)) < self.rate, rng.integers(0, 2, (steps, episodes))
        forced = np.full((steps, episodes), UNFORCED)
        for lag in range(self.steps):
            until = max(steps - lag, 0)
            forced[lag:] = np.where(begin[:until], action[:until], forced[lag:])
        return forced


NO_PUSHES = Pushes()


@dataclass(frozen=True, slots=True)
class Rollouts:
    """n episodes of T steps each.

    Attributes
    ----------
    states : ndarray of shape (T, n, d)
        Before every step.
    actions : ndarray of shape (T, n)
        That the policy chose.
    running : ndarray of shape (T, n)
        Whether the episode had not failed before the step.
    failed : ndarray of shape (n,)
        Whether it failed within the T steps.
    """

    states: States
    actions: Indices
    running: Flags
    failed: Flags

    def visited(self) -> States:
        """States of steps before a failure, of shape (N, d), in the order of the steps."""
        return self.states[self.running]

    def episodes(self) -> Indices:
        """Number of the episode of every visited state, of shape (N,)."""
        return np.broadcast_to(np.arange(self.running.shape[1]), self.running.shape)[self.running]

    def failures(self) -> tuple[float, tuple[float, float]]:
        """Share of episodes that failed, and its 95 % Wilson interval."""
        share = float(self.failed.mean())
        return share, wilson(share, len(self.failed))


def greedy(outputs: Callable[[States], Array]) -> Policy:
    """The policy that takes the most probable action.

    Parameters
    ----------
    outputs : callable
        States to logits of shape (n, K), such as those of a trained network.
    """
    return lambda states: np.asarray(outputs(states).argmax(axis=1))


def roll_out(
    policy: Policy,
    environments: Environments,
    *,
    steps: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
    pushes: Pushes = NO_PUSHES,
) -> Rollouts:
    """Run a policy in every environment at once.

    An environment that starts anew after a failure is not looked at again. First states and pushes follow from the
    seed alone, so that two policies under one seed can be compared in pairs. The environments must not cut an episode
    off before its last step.

    Parameters
    ----------
    policy : callable
    environments : Environments
    steps : int
        T.
    seed : int
    options : mapping, optional
        Of the environments' `reset`.
    pushes : Pushes
    """
    states, _ = environments.reset(seed=seed, options=None if options is None else dict(options))
    running = np.ones(len(states), dtype=np.bool_)
    taken = []
    for forced in pushes.draw(steps, len(states), seed=seed):
        actions = policy(states)
        taken.append((states, actions, running))
        states, _, failed, *_ = environments.step(np.where(forced == UNFORCED, actions, forced))
        running = running & ~np.asarray(failed)
    before, chosen, alive = (np.stack(parts) for parts in zip(*taken, strict=True))
    return Rollouts(before, chosen, alive, ~running)


def aggregate(
    expert: Policy,
    *,
    visit: Callable[[Policy, int], States],
    learn: Callable[[States, Indices], Policy],
    labels: int,
    rounds: int,
    seed: int,
) -> States:
    r"""States to learn from, gathered along the learner's own course; the expert labels each of them.

    The first round visits the expert's states, every later one those of the learner so far (DAgger with
    :math:`\beta_i = [i = 1]`). Each round adds an equal share of them, drawn at random; what a round of early failures
    could not fill, the next one adds.

    Parameters
    ----------
    expert : callable
    visit : callable
        A policy and the number of the round to states that it visits.
    learn : callable
        States and the expert's actions to a policy.
    labels : int
        States in all.
    rounds : int
        At least 1.
    seed : int

    Raises
    ------
    ValueError
        If the last rounds visited too few states.

    References
    ----------
    Ross, Gordon & Bagnell (2011), *A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
    Learning*, AISTATS.
    """
    rng, policy, gathered = np.random.default_rng(seed), expert, None
    for number in range(rounds):
        if gathered is not None:
            policy = learn(gathered, expert(gathered))
        visited = visit(policy, number)
        due = labels * (number + 1) // rounds - (0 if gathered is None else len(gathered))
        drawn = visited[rng.choice(len(visited), min(due, len(visited)), replace=False)]
        gathered = drawn if gathered is None else np.concatenate([gathered, drawn])
    return _enough(gathered, labels)


def _enough(states: States | None, labels: int) -> States:
    if states is None or len(states) < labels:
        raise ValueError(f"the rounds visit too few states for {labels} labels: visit longer, or more of them")
    return states


def error_rate(rollouts: Rollouts, expert: Policy, learner: Policy) -> float:
    """Share of the visited states where the learner acts otherwise than the expert.

    Parameters
    ----------
    rollouts : Rollouts
        Of the expert for the error on its own course, of the learner for that on the learner's.
    expert, learner : callable
    """
    states = rollouts.visited()
    return float(np.mean(expert(states) != learner(states)))


def recovery_rate(rollouts: Rollouts, expert: Policy) -> float:
    """Share of wrong actions that are followed by a right one; 1 without a wrong one.

    Parameters
    ----------
    rollouts : Rollouts
        Of the learner.
    expert : callable
    """
    wrong = _wrong(rollouts, expert)
    erring = wrong[:-1] & rollouts.running[1:]
    return float(np.mean(~wrong[1:][erring])) if erring.any() else 1.0


def _wrong(rollouts: Rollouts, expert: Policy) -> Flags:
    states = rollouts.states
    right = expert(states.reshape(-1, states.shape[-1])).reshape(rollouts.actions.shape)
    return np.asarray(right != rollouts.actions)


def compounded_cost(rollouts: Rollouts, expert: Policy) -> Array:
    r"""Mean cost of the first t steps, for t from 1 to T: an array of shape (T,).

    .. math:: J(t) = \sum_{s \le t} P(\text{the action at } s \text{ is not the expert's, or the episode has failed})

    Parameters
    ----------
    rollouts : Rollouts
        Of the learner.
    expert : callable

    References
    ----------
    Ross & Bagnell (2010), *Efficient Reductions for Imitation Learning*, AISTATS: costs in [0, 1],
    :math:`J(T) \le J^*(T) + T^2 \varepsilon`.
    """
    cost = _wrong(rollouts, expert) | ~rollouts.running
    return np.cumsum(cost.mean(axis=1))


def growth(cost: Array, *, first: int, last: int) -> float:
    r"""Exponent g of :math:`J(T) \propto T^g` between two horizons: 1 is linear, 2 is quadratic.

    Parameters
    ----------
    cost : ndarray of shape (T,)
        Of `compounded_cost`.
    first, last : int
        Horizons in steps, from 1 to T.

    Returns
    -------
    float
        0 without any cost; infinite where none came before the first horizon.

    Examples
    --------
    >>> round(growth(np.arange(1, 101) ** 2.0, first=10, last=100), 6)
    2.0
    """
    before, after = float(cost[first - 1]), float(cost[last - 1])
    if before == 0.0:
        return math.inf if after > 0.0 else 0.0
    return math.log(after / before) / math.log(last / first)


def handing_over(learner: Policy, expert: Policy, when: Callable[[States], Flags]) -> Policy:
    """The learner, but for the states in which the expert acts.

    Parameters
    ----------
    learner, expert : callable
    when : callable
        States to flags of shape (n,): where the expert acts.
    """
    return lambda states: np.where(when(states), expert(states), learner(states))


class RandomStretches:
    """Hand-overs at random, with a share and a length: what a monitor is to be compared with.

    Parameters
    ----------
    share : float
        Of the steps, from 0 to below 1.
    length : float
        Mean steps of a stretch, at least 1.
    seed : int
    """

    def __init__(self, share: float, length: float, *, seed: int) -> None:
        self._leave = 1.0 / length
        self._enter = min(1.0, share / ((1.0 - share) * length))
        self._share, self._rng = share, np.random.default_rng(seed)
        self._now: Flags | None = None

    def __call__(self, states: States) -> Flags:
        """Whether the expert acts at the next step of every episode."""
        draws = self._rng.random(len(states))
        if self._now is None:
            self._now = draws < self._share
        else:
            self._now = np.where(self._now, draws >= self._leave, draws < self._enter)
        return self._now


def stretches(handed_over: Flags) -> float:
    """Mean number of steps from a hand-over until the learner acts again; 0 without any.

    Parameters
    ----------
    handed_over : ndarray of shape (T,) or (T, n)
        Of steps in their order.

    Examples
    --------
    >>> stretches(np.array([True, True, False, True, False]))
    1.5
    """
    begun = np.diff(handed_over.astype(np.int64), axis=0, prepend=0) == 1
    return float(handed_over.sum() / max(int(begun.sum()), 1))


def hand_overs(
    learner: Policy, expert: Policy, when: Callable[[States], Flags], run: Callable[[Policy], Rollouts], *, seed: int
) -> dict[str, float]:
    """Failures with hand-overs where a monitor flags a state, and with as many hand-overs at random.

    Parameters
    ----------
    learner, expert : callable
    when : callable
        The monitor: states to flags of shape (n,).
    run : callable
        A policy to its episodes, under the same disturbances each time.
    seed : int
        Of the random hand-overs.

    Returns
    -------
    dict of str to float
        Shares of failed episodes: ``learner``, ``monitor``, ``random steps``, ``random stretches`` (both with the
        monitor's share of steps, the second with its mean stretch too) and ``expert``; and of the monitor the ``share``
        of steps handed over and their mean ``stretch``.
    """
    watched = run(handing_over(learner, expert, when))
    flags = when(watched.states.reshape(-1, watched.states.shape[-1])).reshape(watched.running.shape) & watched.running
    share, stretch = float(flags.sum() / watched.running.sum()), stretches(flags)
    steps = RandomStretches(share, 1.0 / (1.0 - share), seed=seed)
    policies = {
        "learner": learner,
        "random steps": handing_over(learner, expert, steps),
        "random stretches": handing_over(learner, expert, RandomStretches(share, max(stretch, 1.0), seed=seed)),
        "expert": expert,
    }
    failed = {name: float(run(policy).failed.mean()) for name, policy in policies.items()}
    return failed | {"monitor": float(watched.failed.mean()), "share": share, "stretch": stretch}
