"""Shadows of a real server: they see a share of the requests, are recorded, and are never returned."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.prediction.record_reader import read_records
from service.prediction.shadows import is_chosen
from service.store.engine import Store, open_store
from service.store.entries import Prediction, Selection

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
            logits = [read_records([one], schema).values("logits") for one in (record, answered)]
            np.testing.assert_allclose(*logits, rtol=1e-5)


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
