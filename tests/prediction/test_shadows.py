"""Shadows of a real server: they see a share of the requests, are recorded, and are never returned."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uuid_utils

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.record_reader import read_records
from service.prediction.records import RecordPlan
from service.prediction.shadows import MOST_WAITING, Shadows, is_chosen
from service.prediction.timings import Timings
from service.runtime.loader import Served, Shadow
from service.runtime.model import Model, load_model
from service.runtime.registry import Registry
from service.store.engine import Store, open_store
from service.store.entries import Prediction, Selection
from service.store.keyed_tokens import Tokens
from service.store.record_writer import Writer
from service.store.submissions import Submission

NAME = "breast-cancer"
SECONDS = 20.0


@contextmanager
def reading(data: Path) -> Iterator[Store]:
    store = open_store(f"sqlite://{data}/audit.db")
    try:
        yield store
    finally:
        store.close()


def shadows(data: Path, count: int) -> list[Prediction]:
    """Records of shadows, once there are so many."""
    end = time.monotonic() + SECONDS
    with reading(data) as store:
        while len(found := list(store.predictions(Selection(shadows=True)))) < count and time.monotonic() < end:
            time.sleep(0.05)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    return place


Serving = Callable[..., AbstractContextManager[Any]]


def test_a_shadow_sees_its_share_after_the_answer_and_is_never_returned(
    serving: Serving,
    repository: Repository,
    publish_again: Callable[[], int],
    test_rows: list[list[float]],
    data: Path,
) -> None:
    set_alias(repository, NAME, "candidate", publish_again(), share=0.5)
    with serving(repository.root, TEMPERANCE_DATA=str(data)) as server:
        answers = [
            server.client.post(f"/v1/models/{NAME}:decide", json={"instances": [row]}).json() for row in test_rows[:40]
        ]
        assert {answer["version"] for answer in answers} == {"1"}
        chosen = {answer["id"] for answer in answers if is_chosen(answer["id"], 0.5)}
        found = shadows(data, len(chosen))
        for path in (f"/v1/models/{NAME}/labels/candidate:decide", f"/v1/models/{NAME}/versions/2:decide"):
            refused = server.client.post(path, json={"instances": test_rows[:1]})
            assert refused.json()["type"].endswith("version-not-served")
        counted = server.client.get("/metrics").text
    assert {record.shadow_of for record in found} == chosen
    assert 0 < len(chosen) < 40
    assert (
        f'temperance_shadow_requests_total{{model="{NAME}",result="recorded",version="2"}} {len(chosen)}.0' in counted
    )
    _check_same_rows(data, found)


def _check_same_rows(data: Path, found: list[Prediction]) -> None:
    with reading(data) as store:
        for record in found:
            context, answered = store.context(record.context), store.prediction(record.shadow_of or "")
            assert context is not None
            assert answered is not None
            assert (context.version, context.shadow_of, context.verb) == (2, 1, "decide")
            assert record.request_id != record.shadow_of
            assert store.shadows_of(answered.request_id) == [record]
            assert record.row_digests == answered.row_digests
            schema = store.document(context.schema or b"")
            assert schema is not None
            beside, returned = (read_records([one], schema).values("logits") for one in (record, answered))
            np.testing.assert_allclose(beside, returned, rtol=1e-5)


def test_without_a_shadow_nothing_runs_beside(
    serving: Serving, repository: Repository, test_rows: list[list[float]], data: Path
) -> None:
    with serving(repository.root, TEMPERANCE_DATA=str(data)) as server:
        server.client.post(f"/v1/models/{NAME}:decide", json={"instances": test_rows})
    assert shadows(data, 0) == []


def test_the_same_requests_are_chosen_for_a_larger_share() -> None:
    ids = [f"0192f0c1-0000-7000-8000-{n:012x}" for n in range(0, 1 << 32, 1 << 22)]
    small, large = ({one for one in ids if is_chosen(one, share)} for share in (0.25, 0.5))
    assert small < large
    assert len(small) == len(ids) // 4
    assert all(is_chosen(one, 1.0) for one in ids)


class Bench:
    """Shadows whose thread can be held, and what they counted."""

    def __init__(self, registry: Registry, *, is_free: bool) -> None:
        self.counted: Counter[str] = Counter()
        self.free = threading.Event()
        if is_free:
            self.free.set()
        self.shadows = Shadows(
            registry,
            Writer(lambda: open_store("sqlite:///absent/audit.db"), Unobserved()),
            Tokens("key-1", bytes(32)),
            clock=self._now,
            new_id=lambda: str(uuid_utils.uuid7()),
            count=lambda _model, _version, result: self.counted.update([result]),
        )

    def _now(self) -> datetime:
        assert self.free.wait(SECONDS)
        return datetime(2026, 1, 1, tzinfo=UTC)

    def finished(self, count: int) -> bool:
        end = time.monotonic() + SECONDS
        while sum(self.counted.values()) < count and time.monotonic() < end:
            time.sleep(0.01)
        return sum(self.counted.values()) == count


class Unobserved:
    """Ignores what a writer does."""

    def committed(self, submissions: Sequence[Submission], seconds: float) -> None:
        """A group is durable."""

    def fault(self, *, is_up: bool) -> None:
        """The store failed, or can be written again."""


def beside(model: Model, shadow: Model) -> Registry:
    return Registry({model.name: Served((1,), {"stable": 1}, {1: model}, shadows=(Shadow("candidate", 1.0, shadow),))})


def request(model: Model, rows: Any) -> tuple[JointAnswer, RecordPlan]:
    query = Query.of(model, Options("decide", decide=True))
    part = Part(str(uuid_utils.uuid7()), len(rows))
    joint = JointAnswer(query, query.conclude(model.posterior(rows)), [part], [0.0], Timings(0.0, 0.0, 0.0), [rows])
    return joint, RecordPlan(query, verb="decide", topics=("identity", "label"), software="{}")


@pytest.fixture
def pair(repository: Repository, publish_again: Callable[[], int]) -> tuple[Model, Model]:
    publish_again()
    first, second = (load_model(repository.bundle(NAME, version)) for version in (1, 2))
    return first, second


async def test_a_full_line_drops_requests_and_counts_them(
    pair: tuple[Model, Model], test_rows: list[list[float]]
) -> None:
    model, shadow = pair
    bench = Bench(beside(model, shadow), is_free=False)
    joint, plan = request(model, np.array(test_rows[:1]))
    for _ in range(MOST_WAITING + 10):
        bench.shadows.offer(joint, 0, plan)
    assert 9 <= bench.counted["dropped"] <= 10  # one may be on the thread already
    bench.free.set()
    async with bench.shadows.running():
        pass
    assert bench.counted["dropped"] >= MOST_WAITING


async def test_a_shadow_with_other_inputs_fails_and_the_next_request_is_tried(
    pair: tuple[Model, Model], test_rows: list[list[float]]
) -> None:
    model, shadow = pair
    reversed_inputs = tuple(
        one.model_copy(update={"features": tuple(reversed(one.columns))}) for one in shadow.manifest.inputs
    )
    manifest = shadow.manifest.model_copy(update={"inputs": reversed_inputs})
    bench = Bench(beside(model, replace(shadow, bundle=replace(shadow.bundle, manifest=manifest))), is_free=True)
    joint, plan = request(model, np.array(test_rows[:1]))
    async with bench.shadows.running():
        for _ in range(2):
            bench.shadows.offer(joint, 0, plan)
        assert bench.finished(2)
    assert bench.counted == {"failed": 2}


async def test_a_version_is_no_shadow_of_another_than_stable(
    pair: tuple[Model, Model], test_rows: list[list[float]]
) -> None:
    model, shadow = pair
    bench = Bench(beside(model, shadow), is_free=True)
    joint, plan = request(shadow, np.array(test_rows[:1]))
    bench.shadows.offer(joint, 0, plan)
    async with bench.shadows.running():
        pass
    assert not bench.counted
