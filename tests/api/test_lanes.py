"""Requests that come together: each gets its own answer, whatever happens to the others."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry

from service.api.lanes import Lane
from service.errors import DeadlineExceeded, Overloaded
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.prediction.query import Query
from service.runtime.batching import Tally
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.telemetry import Telemetry

DECIDE = "/v1/models/breast-cancer:decide"
WIDTH = 30


@pytest.fixture
def model(shipped: Registry) -> Model:
    return shipped.model("breast-cancer")


@pytest.fixture
def tally(model: Model, monkeypatch: pytest.MonkeyPatch) -> Tally:
    """What the model does from here on."""
    fresh = Tally()
    monkeypatch.setattr(model.batcher, "tally", fresh)
    return fresh


@pytest.fixture
def lane(model: Model) -> Lane:
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return Lane(predictor, Query.of(model, Options("decide", decide=True)), width=WIDTH, seconds=30.0)


def numbers_of(row: dict[str, Any]) -> list[float]:
    scores = [score["score"] for score in row["ood"]["scores"].values()]
    return [*row["probabilities"].values(), *scores, *row["decision"]["risks"].values(), row["decision"]["margin"]]


async def test_each_of_many_requests_at_once_gets_the_answer_it_gets_alone(
    client: httpx.AsyncClient, test_rows: list[list[float]], tally: Tally
) -> None:
    parts = [test_rows[i : i + 1 + i % 3] for i in range(40)]
    alone = [(await client.post(DECIDE, json={"instances": part})).json() for part in parts]
    before = tally.runs
    together = await asyncio.gather(*(client.post(DECIDE, json={"instances": part}) for part in parts))
    assert tally.runs - before < len(parts) / 2
    assert len({answer.headers["x-request-id"] for answer in together}) == len(parts)
    for one, answer in zip(alone, together, strict=True):
        found = answer.json()
        assert found["id"] == answer.headers["x-request-id"]
        assert [row["prediction_id"] for row in found["predictions"]] == [
            f"{found['id']}.{i}" for i in range(len(one["predictions"]))
        ]
        for mine, theirs in zip(one["predictions"], found["predictions"], strict=True):
            assert numbers_of(mine) == pytest.approx(numbers_of(theirs), rel=1e-12, abs=1e-15)
            assert mine["decision"]["action"] == theirs["decision"]["action"]


@pytest.mark.parametrize(
    "fault",
    [[[None] * WIDTH], [[1e39] * WIDTH], [[1.0, 2.0]], [[1.0] * WIDTH, [1.0]], [[[1.0]] * WIDTH], [[10**400] * WIDTH]],
)
async def test_a_request_at_fault_is_refused_alone(
    client: httpx.AsyncClient, test_rows: list[list[float]], fault: list[Any]
) -> None:
    bodies = [{"instances": [row]} for row in test_rows[:12]]
    bodies[5] = {"instances": fault}
    alone = await client.post(DECIDE, json=bodies[5])
    answers = await asyncio.gather(*(client.post(DECIDE, json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [alone.status_code if i == 5 else 200 for i in range(12)]
    assert alone.status_code == 422
    assert answers[5].json() == alone.json()


async def test_every_verb_and_choice_is_answered_for_itself(
    client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    asked = [
        (verb, site)
        for _ in range(6)
        for verb, site in [("predict", {}), ("detect", {}), ("decide", {}), ("decide", {"site": "screening"})]
    ]

    async def ask(verb: str, site: dict[str, str]) -> httpx.Response:
        body = {"instances": test_rows[:1], "parameters": site}
        return await client.post(f"/v1/models/breast-cancer:{verb}", json=body)

    for (verb, site), answer in zip(asked, await asyncio.gather(*(ask(*one) for one in asked)), strict=True):
        (row,) = answer.json()["predictions"]
        assert ("ood" in row, "decision" in row) == (verb != "predict", verb == "decide")
        assert answer.json()["prevalence"]["site"] == site.get("site")


async def test_one_run_joins_no_more_rows_than_the_manifest_allows(
    lane: Lane, test_rows: list[list[float]], tally: Tally, model: Model
) -> None:
    most = model.manifest.runtime.batch_rows
    part = [test_rows[0]] * (most // 2 - 1)
    await asyncio.gather(*(lane.answer(str(i), part) for i in range(10)))
    assert tally.rows == 10 * len(part)
    assert tally.runs >= 5


async def test_nobody_depends_on_one_who_was_cancelled(lane: Lane, test_rows: list[list[float]]) -> None:
    await asyncio.gather(
        *(lane.answer(str(i), test_rows[:1]) for i in range(3))
    )  # they know now that they have company
    waiting = [asyncio.create_task(lane.answer(str(i), test_rows[:1])) for i in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    told = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5.0)
    assert [type(one) for one in told] == [asyncio.CancelledError, bytes, bytes]
    body = await asyncio.wait_for(lane.answer("next", test_rows[:1]), 5.0)
    assert body is not None
    assert orjson.loads(body)["id"] == "next"


async def test_what_is_wrong_with_the_service_is_told_to_all_who_asked(
    lane: Lane, test_rows: list[list[float]], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise Overloaded("full")

    monkeypatch.setattr(model.batcher, "answer", full)
    told = await asyncio.gather(*(lane.answer(str(i), test_rows[:1]) for i in range(4)), return_exceptions=True)
    assert [type(one) for one in told] == [Overloaded] * 4


async def test_requests_without_end_do_not_keep_each_other_waiting(
    lane: Lane, test_rows: list[list[float]], model: Model
) -> None:
    done: list[int] = []
    most = model.manifest.runtime.batch_rows

    async def ask(number: int) -> None:
        await lane.answer(str(number), test_rows[:1])
        done.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(2 * most):
            group.create_task(ask(number))
            if number % 4 == 0:
                await asyncio.sleep(0)
        assert done  # some were answered while others still came


async def test_whoever_waits_for_a_thread_is_joined_with_all_who_came_meanwhile(
    lane: Lane, test_rows: list[list[float]], tally: Tally
) -> None:
    bodies = await asyncio.gather(*(lane.wait(str(i), test_rows[i : i + 1]) for i in range(10)))
    assert [orjson.loads(body or b"{}")["id"] for body in bodies] == [str(i) for i in range(10)]
    assert (tally.runs, tally.rows) == (1, 10)


async def test_whoever_leaves_the_queue_is_not_run(lane: Lane, test_rows: list[list[float]], tally: Tally) -> None:
    waiting = [asyncio.create_task(lane.wait(str(i), test_rows[:1])) for i in range(4)]
    await asyncio.sleep(0)
    waiting[2].cancel()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [bytes, bytes, asyncio.CancelledError, bytes]
    assert tally.rows == 3
    assert await lane.wait("next", test_rows[:1]) is not None


async def test_a_queue_that_is_full_refuses_and_has_room_again(
    publish_logits: Callable[..., Registry],
) -> None:
    model = publish_logits(("a", "b"), more="[runtime]\nqueue = 2\n").model("logits")
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    lane = Lane(predictor, Query.of(model, Options("predict")), width=2, seconds=30.0)
    for _ in range(2):
        told = await asyncio.gather(*(lane.wait(str(i), [[0.0, 1.0]]) for i in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [bytes, bytes, Overloaded]


async def test_nobody_waits_longer_than_an_answer_may_take(
    model: Model, test_rows: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(model.batcher, "answer", never)
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    lane = Lane(predictor, Query.of(model, Options("predict")), width=WIDTH, seconds=0.01)
    told = await asyncio.gather(*(lane.wait(str(i), test_rows[:1]) for i in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [DeadlineExceeded] * 3


async def test_between_the_runs_of_a_queue_the_rest_still_waits(
    publish_logits: Callable[..., Registry],
) -> None:
    more = '[runtime]\nqueue = 4\nbatch_rows = 1\nexecution = "thread"\n'
    model = publish_logits(("a", "b"), more=more).model("logits")
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    lane = Lane(predictor, Query.of(model, Options("predict")), width=2, seconds=30.0)
    waiting = [asyncio.create_task(lane.wait(str(i), [[0.0, 1.0]])) for i in range(4)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting[2:]:
        one.cancel()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told][:2] == [bytes, bytes]
    assert model.batcher.tally.runs < 4
