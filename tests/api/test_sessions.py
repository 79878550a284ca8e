"""Trajectories under watch: the answer carries the state, and an alarm hands over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.numerics import Array
from service.core.trajectory import Monitor, State, alarm_threshold, horizon_risk, observe_all
from service.prediction.sessions import Session, monitor_of
from service.runtime.registry import Registry

Ask = Callable[..., Any]
Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]

CLASSES = ("0", "1")
STEER = """
[policies.steer]
on_ood = "expert"
[policies.steer.costs]
go = { "0" = 0, "1" = 1 }
expert = { "0" = 5, "1" = 5 }
"""
ODD = np.log([0.515, 0.485]).tolist()  # among the oddest 3 % of the calibration rows: no flag at 1 %
MEMBERS = {
    "model",
    "version",
    "false_alarms_per_1000_steps",
    "statistic",
    "steps",
    "steps_since_in_distribution",
    "alarm",
}


def usual(rng: np.random.Generator, n: int) -> list[list[float]]:
    """Rows as those that the model was calibrated on."""
    p = rng.random(n)
    rows: list[list[float]] = np.log(np.stack([p, 1.0 - p], axis=1)).tolist()
    return rows


async def post(client: httpx.AsyncClient, verb: str, rows: list[list[float]], session: object) -> dict[str, Any]:
    body = {"instances": rows, "parameters": {"session": session}}
    answer = await client.post(f"/v1/models/logits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def stood(answer: dict[str, Any]) -> list[bool]:
    """At which rows an alarm stood."""
    return [{"rule": "session"} in row["ood"]["evidence"] for row in answer["predictions"]]


def actions(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """What was done with every row, and why."""
    return [(row["decision"]["action"], row["decision"]["reason"]) for row in answer["predictions"]]


@pytest.mark.parametrize("verb", ["detect", "decide"])
@pytest.mark.parametrize("start", [None, {}, {"false_alarms_per_1000_steps": 5}], ids=str)
async def test_a_session_starts_at_nothing_and_counts_the_rows(
    verb: str, start: Any, ask: Ask, test_rows: list[list[float]], conforms: Callable[..., Any]
) -> None:
    answer = await ask(verb, test_rows[:7], session=start)
    session = answer["session"]
    assert set(session) == MEMBERS
    assert (session["model"], session["version"], session["steps"]) == ("breast-cancer", "1", 7)
    assert session["false_alarms_per_1000_steps"] == (start or {}).get("false_alarms_per_1000_steps", 1.0)
    assert conforms(answer, verb) == []


async def test_without_a_session_in_the_request_nothing_is_monitored(ask: Ask, test_rows: list[list[float]]) -> None:
    assert "session" not in await ask("decide", test_rows[:2])


async def test_the_state_is_the_monitors_own(ask: Ask, test_rows: list[list[float]]) -> None:
    answer = await ask("detect", test_rows, session={"false_alarms_per_1000_steps": 20})
    p_values = [row["ood"]["p_value"] for row in answer["predictions"]]
    flagged = [row["ood"]["flagged"] for row in answer["predictions"]]
    states = observe_all(State(), p_values, monitor=Monitor(alarm_threshold(20.0)), flagged=flagged)
    assert stood(answer) == [state.standing for state in states]
    assert answer["session"]["statistic"] == states[-1].statistic
    assert answer["session"]["steps_since_in_distribution"] == states[-1].since_inside


async def test_steps_may_be_sent_together_or_one_by_one(publish_logits: Publish, client_of: Connect) -> None:
    rows = usual(np.random.default_rng(0), 20) + [ODD] * 12 + usual(np.random.default_rng(1), 8)
    published = publish_logits(CLASSES, fitted=True, more=STEER, false_alarm=0.01)
    async with client_of(published) as client:
        together = await post(client, "decide", rows, None)
        session, alarms, taken = None, [], []
        for row in rows:
            answer = await post(client, "decide", [row], session)
            session = answer["session"]
            alarms += stood(answer)
            taken += actions(answer)
    assert session == together["session"]
    assert alarms == stood(together)
    assert taken == actions(together)
    assert any(alarms)


async def test_an_alarm_hands_the_row_over_and_keeps_what_costs_would_take(
    publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True, more=STEER, false_alarm=0.01)) as client:
        answer = await post(client, "decide", [ODD] * 12, None)
        unwatched = (await client.post("/v1/models/logits:decide", json={"instances": [ODD] * 12})).json()
    assert {row["decision"]["action"] for row in unwatched["predictions"]} == {"go"}
    assert not any(row["ood"]["flagged"] for row in answer["predictions"])
    for row, alarm in zip(answer["predictions"], stood(answer), strict=True):
        decision = row["decision"]
        assert (decision["action"], decision["reason"]) == (("expert", "ood") if alarm else ("go", "lowest_risk"))
        assert ("overridden" in decision) == alarm
    assert stood(answer).index(True) <= 5


async def test_an_alarm_stands_until_a_step_is_inside(ask: Ask, test_rows: list[list[float]]) -> None:
    wild = [[1000.0 * value for value in row] for row in test_rows[:12]]
    inside = [
        row
        for row, said in zip(test_rows, (await ask("detect", test_rows))["predictions"], strict=True)
        if said["ood"]["p_value"] > 0.5 and not said["ood"]["flagged"]
    ]
    answer = await ask("decide", [*wild, *inside[:2]], session=None)
    alarms = stood(answer)
    first = alarms.index(True)
    assert alarms == [i >= first for i in range(12)] + [False, False]
    assert answer["session"]["steps_since_in_distribution"] == 0
    half = await ask("decide", wild, session=None)
    assert (half["session"]["alarm"], half["session"]["steps_since_in_distribution"]) == (True, 12)


# -------------------------------------------------------------------------------------------------------- closed loop

ERROR, STEPS, RUNS = 0.05, 40, 24


def excursions(rng: np.random.Generator) -> tuple[Array, list[list[float]]]:
    """Steps off course of an imitator without help, and the rows that it would send."""
    off = np.maximum.accumulate(rng.random(STEPS) < ERROR)
    return off, [ODD if lost else row for lost, row in zip(off, usual(rng, STEPS), strict=True)]


async def test_handing_over_bounds_what_otherwise_compounds(publish_logits: Publish, client_of: Connect) -> None:
    rng = np.random.default_rng(2)
    alone = np.array([excursions(rng)[0] for _ in range(4000)], dtype=np.float64)
    for steps in (STEPS // 2, STEPS):
        lost = alone[:, :steps].sum(axis=1)
        noise = 4.0 * lost.std() / np.sqrt(len(lost))
        assert lost.mean() == pytest.approx(horizon_risk(ERROR, steps), abs=noise)
    async with client_of(publish_logits(CLASSES, fitted=True, more=STEER, false_alarm=0.01)) as client:
        helped = np.array([await helped_run(client, rng) for _ in range(RUNS)], dtype=np.float64)
    first, whole = helped[:, : STEPS // 2].sum(axis=1).mean(), helped.sum(axis=1).mean()
    assert horizon_risk(ERROR, STEPS) / horizon_risk(ERROR, STEPS // 2) > 2.5
    assert whole / first < 2.5
    assert whole < 0.5 * horizon_risk(ERROR, STEPS)


async def helped_run(client: httpx.AsyncClient, rng: np.random.Generator) -> list[bool]:
    """Steps off course of the same imitator, where the expert takes over as the policy says."""
    off, session, lost = False, None, []
    for row in usual(rng, STEPS):
        off = off or bool(rng.random() < ERROR)
        lost.append(off)
        answer = await post(client, "decide", [ODD if off else row], session)
        session = answer["session"]
        off = off and answer["predictions"][0]["decision"]["action"] != "expert"
    return lost


# ------------------------------------------------------------------------------------------------------------ refused

SENT = {
    "model": "breast-cancer",
    "version": "1",
    "false_alarms_per_1000_steps": 1.0,
    "statistic": 0.5,
    "steps": 3,
    "steps_since_in_distribution": 1,
    "alarm": False,
}
TAMPERED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"model": "zq7canary"}, "model", "another model"),
    "another version": ({"version": "2"}, "version", "another version"),
    "a member taken out": ({"statistic": None}, "statistic", "is required"),
    "more evidence than there can be": ({"statistic": 1e6}, "statistic", "at this rate"),
    "evidence below nothing": ({"statistic": -1.0}, "statistic", ""),
    "more steps outside than steps": (
        {"steps_since_in_distribution": 4},
        "steps_since_in_distribution",
        "exceed steps",
    ),
    "evidence without steps": ({"steps": 0, "steps_since_in_distribution": 0}, "steps", "evidence"),
    "an alarm without steps": (
        {"steps": 0, "steps_since_in_distribution": 0, "statistic": 0.0, "alarm": True},
        "steps",
        "evidence",
    ),
    "a rate that is too small": ({"false_alarms_per_1000_steps": 0.01}, "false_alarms_per_1000_steps", ""),
    "something added": ({"zq7canary": 1}, "?", "known are model, version"),
    "a misspelt member": ({"alarms": True}, "?", "did you mean 'alarm'?"),
}


@pytest.mark.parametrize("verb", ["detect", "decide"])
@pytest.mark.parametrize("name", TAMPERED)
async def test_a_session_that_no_answer_can_have_returned_is_refused_where_it_is_wrong(
    name: str, verb: str, client: httpx.AsyncClient, example_row: list[float]
) -> None:
    change, place, says = TAMPERED[name]
    body = {"instances": [example_row], "parameters": {"session": SENT | change}}
    answer = await client.post(f"/v1/models/breast-cancer:{verb}", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:invalid-parameters")
    assert answer.json()["errors"][0]["pointer"] == f"/parameters/session/{place}"
    assert says in answer.json()["errors"][0]["detail"]
    assert "zq7canary" not in answer.text


async def test_the_session_that_is_changed_there_is_taken_as_it_is(ask: Ask, example_row: list[float]) -> None:
    assert (await ask("decide", [example_row], session=SENT))["session"]["steps"] == 4


async def test_a_session_is_no_parameter_where_nothing_is_flagged(
    client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row], "parameters": {"session": None}}
    answer = await client.post("/v1/models/breast-cancer:predict", json=body)
    assert answer.json()["errors"][0]["pointer"] == "/parameters/?"


RULES_ALONE = """
[features.x0]
plausible = [-9.0, 9.0]
[ood]
gate = ["range"]
"""


@pytest.mark.parametrize(
    ("fitted", "more", "says"), [(False, "", "uncalibrated"), (True, RULES_ALONE, "no score in its gate")]
)
async def test_without_p_values_there_is_nothing_to_watch(
    *, fitted: bool, more: str, says: str, publish_logits: Publish, client_of: Connect
) -> None:
    body = {"instances": [[0.0, 0.0]], "parameters": {"session": None}}
    async with client_of(publish_logits(CLASSES, fitted=fitted, more=more)) as client:
        answer = await client.post("/v1/models/logits:detect", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:session-unavailable")
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("per_class", [False, True])
def test_the_alarm_knows_how_few_rows_are_behind_the_p_values(
    *, per_class: bool, publish_logits: Publish, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(90)
    np.savez(tmp_path / "few.npz", X=np.log(np.stack([p, 1.0 - p], axis=1)), y=(rng.random(90) > p).astype(int))
    published = publish_logits(CLASSES, fitted=True, data=tmp_path / "few.npz", per_class=per_class)
    rows = np.bincount((p <= 0.5).astype(int)).min() if per_class else 90
    threshold = monitor_of(published.model("logits"), Session(0.05)).threshold
    assert threshold == alarm_threshold(0.05, rows=int(rows)) > alarm_threshold(0.05)
