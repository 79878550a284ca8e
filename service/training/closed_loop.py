"""Episodes whose every action a served model chooses, with its session monitor and a hand-over to an expert."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from service.core.assessment.confusion import wilson
from service.core.numerics import Array, Flags
from service.core.trajectory import Monitor, State, observe_all
from service.prediction.bulk import posterior_of
from service.prediction.sessions import Session, monitor_of
from service.runtime.model import Model
from service.training.imitation import NO_PUSHES, UNFORCED, Policy, Pushes, Rollouts, States, stretches

CLIENTS = 4  # episodes at a time: the service joins their requests


class Environment(Protocol):
    """One environment, as `gymnasium.make` makes it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """First state, of shape (d,)."""

    def step(self, action: Any, /) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Next state, reward, whether the episode has failed, whether it was cut off, and notes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service decides for one step.

    Attributes
    ----------
    action : str
    flagged : bool
        Whether the state by itself is out of distribution.
    alarm : bool
        Whether the session's alarm stands.
    session : object
        State of the session, for the next step.
    """

    action: str
    flagged: bool
    alarm: bool
    session: object


Decide = Callable[[States, object], Answer]
"""A state of shape (d,) and the session so far to an answer."""


class Caller(Protocol):
    """Who brings every state to the service, on a connection of its own."""

    def decide(self, state: States, session: object) -> Answer:
        """The service's decision for one step."""

    def close(self) -> None:
        """End the connection."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same in every episode.

    Attributes
    ----------
    environment : callable
        Makes an environment.
    expert : callable
        Acts where the service hands over.
    classes : sequence of str
        Names of the environment's actions 0, 1, …
    hand_over : str
        Action of the policy that hands over.
    steps : int
        Of an episode that does not fail.
    options : mapping
        Of the environment's `reset`.
    pushes : Pushes
    """

    environment: Callable[[], Environment]
    expert: Policy
    classes: Sequence[str]
    hand_over: str
    steps: int
    options: Mapping[str, Any]
    pushes: Pushes = NO_PUSHES


@dataclass(frozen=True, slots=True)
class Episode:
    """Course of one episode of up to T steps.

    Attributes
    ----------
    failed : bool
    handed_over : ndarray of shape (steps,)
        Steps at which the expert acted.
    flagged : ndarray of shape (steps,)
        Steps whose state was flagged by itself.
    alarm : ndarray of shape (steps,)
        Steps at which the session's alarm stood.
    """

    failed: bool
    handed_over: Flags
    flagged: Flags
    alarm: Flags


@dataclass(frozen=True, slots=True)
class Outcome:
    """Many episodes.

    Attributes
    ----------
    failed : ndarray of shape (n,)
        1.0 where an episode failed.
    steps : int
        Of all episodes.
    handed_over, flagged, alarm : float
        Shares of the steps.
    stretch : float
        Mean number of steps from a hand-over until the model acts again; 0 without any.
    """

    failed: Array
    steps: int
    handed_over: float
    flagged: float
    alarm: float
    stretch: float

    def interval(self) -> tuple[float, float]:
        """Of the share of failures, 95 %, by Wilson."""
        return wilson(float(self.failed.mean()), len(self.failed))


def run_episode(decide: Decide, task: Task, *, seed: int) -> Episode:
    """One episode; its first state and its pushes follow from the seed.

    Parameters
    ----------
    decide : callable
    task : Task
    seed : int
    """
    environment = task.environment()
    state, _ = environment.reset(seed=seed, options=dict(task.options))
    answers, session, failed = list[Answer](), None, False
    for forced in task.pushes.draw(task.steps, 1, seed=seed)[:, 0]:
        answers.append(decide(state, session))
        session = answers[-1].session
        action = _index(answers[-1].action, state, task) if forced == UNFORCED else int(forced)
        state, _, failed, *_ = environment.step(action)
        if failed:
            break
    return _episode(answers, failed=failed, hand_over=task.hand_over)


def _index(action: str, state: States, task: Task) -> int:
    if action == task.hand_over:
        return int(task.expert(state[None])[0])
    return task.classes.index(action)


def _episode(answers: list[Answer], *, failed: bool, hand_over: str) -> Episode:
    handed = np.array([answer.action == hand_over for answer in answers])
    flags = np.array([answer.flagged for answer in answers])
    return Episode(failed, handed, flags, np.array([answer.alarm for answer in answers]))


def run_episodes(client: Callable[[], Caller], task: Task, *, seeds: Sequence[int], clients: int = CLIENTS) -> Outcome:
    """One episode for every seed, some at a time.

    Parameters
    ----------
    client : callable
        Makes a caller; every episode has its own.
    task : Task
    seeds : sequence of int
    clients : int
    """

    def episode(seed: int) -> Episode:
        with closing(client()) as own:
            return run_episode(own.decide, task, seed=seed)

    with ThreadPoolExecutor(clients) as pool:
        return summary(list(pool.map(episode, seeds)))


def summary(episodes: Sequence[Episode]) -> Outcome:
    """Shares over all steps of all episodes.

    Parameters
    ----------
    episodes : sequence of Episode
        At least one.
    """
    handed = np.concatenate([episode.handed_over for episode in episodes])
    return Outcome(
        failed=np.array([float(episode.failed) for episode in episodes]),
        steps=len(handed),
        handed_over=float(handed.mean()),
        flagged=float(np.concatenate([episode.flagged for episode in episodes]).mean()),
        alarm=float(np.concatenate([episode.alarm for episode in episodes]).mean()),
        stretch=stretches(np.concatenate([np.append(episode.handed_over, False) for episode in episodes])),
    )


def flagged(model: Model, states: States) -> Flags:
    """What the gate of a version flags: where `:decide` hands over at single steps, without a server.

    Parameters
    ----------
    model : Model
    states : ndarray of shape (n, d)

    Raises
    ------
    ValueError
        If the version is uncalibrated, so that it flags nothing.
    """
    flags = posterior_of(model, states.astype(np.float64)).flagged
    if flags is None:
        raise ValueError(f"{model.bundle.title} is uncalibrated, so no state has a flag")
    return flags


def alarms_per_thousand(model: Model, rollouts: Rollouts) -> float:
    """Alarms that the session monitor raises in 1000 steps, every episode being a session.

    Parameters
    ----------
    model : Model
        A calibrated version.
    rollouts : Rollouts
        Of the expert for false alarms: of steps that follow one another, where the monitor's rate is about independent
        ones.
    """
    monitor, posterior = monitor_of(model, Session()), posterior_of(model, rollouts.visited().astype(np.float64))
    p_values, flags, episodes = posterior.p_value, posterior.flagged, rollouts.episodes()
    if p_values is None or flags is None:
        raise ValueError(f"{model.bundle.title} is uncalibrated, so no step has a p-value")
    sessions = [episodes == number for number in np.unique(episodes)]
    raised = [sum(state.alarm for state in _watched(p_values[own], flags[own], monitor)) for own in sessions]
    return 1000.0 * sum(raised) / len(episodes)


def _watched(p_values: Array, flags: Flags, monitor: Monitor) -> list[State]:
    return observe_all(State(), p_values, monitor=monitor, flagged=flags)
