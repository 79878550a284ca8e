import json
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from service.runtime.model import Model
from service.training.closed_loop import (
    Answer,
    Episode,
    Task,
    flagged,
    run_episode,
    run_episodes,
    summary,
)
from service.training.decide_client import Client, serving
from service.training.imitation import NO_PUSHES, Pushes


class Stairs:
    """Action 1 climbs a step; action 0 falls."""

    def __init__(self) -> None:
        self.height = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.height = float((seed or 0) + (options or {}).get("low", 0.0))
        return np.array([self.height]), {}

    def step(self, action: Any, /) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.height += 1.0
        return np.array([self.height]), 0.0, action == 0, False, {}


def task(steps: int = 6, pushes: Pushes = NO_PUSHES) -> Task:
    return Task(
        Stairs,
        lambda states: np.ones(len(states), dtype=np.int64),
        ("down", "up"),
        "defer",
        steps,
        {"low": 0.5},
        pushes,
    )


def deciding(action: str, *, flagged: bool = False) -> Any:
    return lambda _, session: Answer(action, flagged, session == 2, (session or 0) + 1)


def test_an_episode_ends_at_a_failure_or_after_its_steps() -> None:
    assert len(run_episode(deciding("down"), task(), seed=0).handed_over) == 1
    up = run_episode(deciding("up"), task(), seed=0)
    assert (up.failed, len(up.handed_over)) == (False, 6)


def test_each_decision_sees_the_state_and_the_session_of_the_answer_before() -> None:
    seen = []

    def decide(state: Any, session: Any) -> Answer:
        seen.append((float(state[0]), session))
        return Answer("up", False, False, f"after {len(seen)}")

    run_episode(decide, task(3), seed=1)
    assert seen == [(1.5, None), (2.5, "after 1"), (3.5, "after 2")]


def test_the_expert_acts_where_the_service_hands_over() -> None:
    handed = run_episode(deciding("defer", flagged=True), task(), seed=0)
    assert not handed.failed
    assert handed.handed_over.all()
    assert handed.flagged.all()
    assert handed.alarm.tolist() == [False, False, True, False, False, False]


def test_a_hand_over_by_cost_is_none_by_a_flag() -> None:
    handed = run_episode(deciding("defer"), task(), seed=0)
    assert handed.handed_over.all()
    assert not handed.flagged.any()


def test_a_flag_that_only_reports_is_no_hand_over() -> None:
    episode = run_episode(deciding("up", flagged=True), task(), seed=0)
    assert episode.flagged.all()
    assert not episode.handed_over.any()


def test_a_push_takes_the_place_of_every_action() -> None:
    pushed = run_episode(deciding("up"), task(50, Pushes(rate=0.5)), seed=0)
    assert pushed.failed


def test_outcomes_are_shares_of_all_steps() -> None:
    off, on = np.zeros(3, dtype=bool), np.array([True, True, False])
    outcome = summary([Episode(True, on, on, off), Episode(False, off, off, on), Episode(False, on, off, off)])
    assert outcome.failed.tolist() == [1.0, 0.0, 0.0]
    assert (outcome.steps, outcome.handed_over, outcome.flagged, outcome.alarm) == (9, 4 / 9, 2 / 9, 2 / 9)
    assert outcome.stretch == 2.0
    assert outcome.interval()[0] < 1 / 3 < outcome.interval()[1]


def test_a_hand_over_at_the_end_of_one_episode_is_apart_from_one_at_the_start_of_the_next() -> None:
    on, none = np.ones(2, dtype=bool), np.zeros(2, dtype=bool)
    assert summary([Episode(False, on, none, none)] * 3).stretch == 2.0


class Service(BaseHTTPRequestHandler):
    """Answers `up` with the session's count, and an alarm from the third step on; refuses negative states."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append((self.path, body))
        steps = (body["parameters"]["session"] or {"steps": 0})["steps"] + 1
        row = {"decision": {"action": "up"}, "ood": {"flagged": steps == 1}}
        answer = {"predictions": [row], "session": {"steps": steps, "alarm": steps > 2}}
        refused = body["instances"][0][0] < 0
        data = json.dumps({"detail": "below the stairs"} if refused else answer).encode()
        self.send_response(422 if refused else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Service.requests = []
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_client_sends_every_state_with_its_session_to_an_alias(port: int) -> None:
    outcome = run_episodes(
        partial(Client, port, "stairs", label="stable", policy="climb"), task(4), seeds=[0], clients=1
    )
    assert outcome.alarm == 0.5
    assert outcome.handed_over == 0.0
    paths, bodies = zip(*Service.requests, strict=True)
    assert set(paths) == {"/v1/models/stairs/labels/stable:decide"}
    assert [body["instances"] for body in bodies] == [[[0.5]], [[1.5]], [[2.5]], [[3.5]]]
    assert [body["parameters"]["policy"] for body in bodies] == ["climb"] * 4
    assert [body["parameters"]["session"] and body["parameters"]["session"]["steps"] for body in bodies] == [
        None,
        1,
        2,
        3,
    ]


def test_a_caller_s_own_rule_hands_over_while_the_alarm_stands(port: int) -> None:
    client = partial(Client, port, "stairs", label="stable", policy="climb", alarm="defer")
    outcome = run_episodes(client, task(4), seeds=[0], clients=1)
    assert outcome.handed_over == outcome.alarm == 0.5
    assert outcome.flagged == 0.25


def test_a_refusal_is_an_error_that_says_why(port: int) -> None:
    client = Client(port, "stairs", label="stable", policy="climb")
    with pytest.raises(RuntimeError, match="answered 422: below the stairs"):
        client.decide(np.array([-1.0]), None)
    client.close()


def test_a_server_that_cannot_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not become ready"), serving(tmp_path):
        pytest.fail("an empty repository was served")


def test_an_uncalibrated_version_flags_nothing_and_says_so(uncalibrated: Model) -> None:
    with pytest.raises(ValueError, match="uncalibrated"):
        flagged(uncalibrated, np.zeros((1, 2), dtype=np.float32))
