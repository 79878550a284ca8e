"""Episodes whose every action a served model chooses over HTTP, with its session monitor and a hand-over to an expert.

Tested in tests/models/test_cartpole_imitation.py.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from service.core.assessment.confusion import wilson
from service.core.numerics import Array, Flags
from service.prediction.bulk import posterior_of
from service.runtime.model import Model
from service.training.imitation import NO_PUSHES, UNFORCED, Policy, Pushes, States, stretches

READY_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0
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
    reason : str
        Of the decision: `lowest_risk`, `ood`, …
    session : object
        State of the session, for the next step.
    alarm : bool
        Whether the session's alarm stands.
    """

    action: str
    reason: str
    session: object
    alarm: bool


Decide = Callable[[States, object], Answer]
"""A state of shape (d,) and the session so far to an answer."""


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
        Those of them that were out of distribution: a flag, or the session's alarm.
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
    flagged = np.array([answer.reason == "ood" for answer in answers])
    return Episode(failed, handed, flagged & handed, np.array([answer.alarm for answer in answers]))


def run_episodes(
    client: Callable[[], "Client"], task: Task, *, seeds: Sequence[int], clients: int = CLIENTS
) -> Outcome:
    """One episode for every seed, some at a time.

    Parameters
    ----------
    client : callable
        Makes a client; every episode has its own.
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


class Client:
    """A caller of `:decide` with sessions, on one connection that stays open.

    Parameters
    ----------
    port : int
        Of a server on this machine.
    model : str
    label : str
        Alias of the version.
    policy : str
    alarm : str, optional
        The caller's own rule: its action while the session's alarm stands, in place of the policy's.
    """

    def __init__(self, port: int, model: str, *, label: str, policy: str, alarm: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._path = f"/v1/models/{model}/labels/{label}:decide"
        self._policy, self._alarm_action = policy, alarm

    def decide(self, state: States, session: object) -> Answer:
        """The service's decision for one step.

        Raises
        ------
        RuntimeError
            If the service refuses the request.
        """
        parameters = {"policy": self._policy, "session": session}
        body = json.dumps({"instances": [np.asarray(state).tolist()], "parameters": parameters})
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        document: dict[str, Any] = json.loads(response.read())
        if response.status != http.client.OK:
            raise RuntimeError(f"the service answered {response.status}: {document.get('detail', document)}")
        decision, watched = document["predictions"][0]["decision"], document["session"]
        action, alarm = decision["action"], bool(watched["alarm"])
        if alarm and self._alarm_action is not None:
            action = self._alarm_action
        return Answer(action, decision["reason"], watched, alarm)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


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


@contextmanager
def serving(models: Path) -> Iterator[int]:
    """A `temperance serve` of its own over a repository, ready to answer; its port.

    It keeps no audit record: that of every step would cost more than the step itself.

    Parameters
    ----------
    models : Path

    Raises
    ------
    RuntimeError
        If it ends, or is not ready within a minute.
    """
    port = _free_port()
    command = [str(Path(sys.executable).with_name("temperance")), "serve", "--models", str(models), "--port", str(port)]
    others = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    others["TEMPERANCE_AUDIT"] = "off"
    with (
        tempfile.TemporaryDirectory() as data,
        subprocess.Popen(command, env=others | {"TEMPERANCE_DATA": data}, stderr=subprocess.DEVNULL) as process,  # noqa: S603  # our own command
    ):
        try:
            _wait_until_ready(port, process)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if _ready(port):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not become ready; `temperance serve --models DIR` shows why")


def _ready(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
