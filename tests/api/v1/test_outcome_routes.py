import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uuid_utils
from prometheus_client import CollectorRegistry

from service.access.caller import ANONYMOUS, Caller
from service.api.app import AppParts, build_app
from service.api.record_access import RecordAccess
from service.api.v1.outcome_responses import RecordedPrediction, RecordedRequest
from service.api.v1.recorded_prediction import recorded_prediction
from service.credentials import keys_of
from service.main import checks_of
from service.prediction.predictor import Predictor
from service.record_errors import PredictionNotFound, StoreUnavailable
from service.runtime.registry import Registry
from service.settings import Settings
from service.store.engine import Store, open_store
from service.store.entries import Write
from service.store.reading import Readers
from service.telemetry import Telemetry
from tests.recorded_answers import recorded_answer
from tests.shipped_model import SHIPPED
from tests.store.kept import FixedSigner, kept

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with closing(open_store(f"sqlite://{tmp_path}/audit.db", signer=FixedSigner())) as opened:
        yield opened


@pytest.fixture
async def access(store: Store, tmp_path: Path) -> AsyncIterator[RecordAccess]:
    async def keep(write: Write, deadline: float) -> None:
        assert deadline > asyncio.get_running_loop().time()
        store.write([write])

    readers = Readers(lambda: open_store(f"sqlite://{tmp_path}/audit.db"))
    yield RecordAccess(readers, keep)
    readers.close()


def parts_of(registry: Registry, data: Path, access: RecordAccess | None) -> AppParts:
    settings, telemetry = Settings(data=data), Telemetry(CollectorRegistry())
    return AppParts(
        registry=registry,
        predictor=Predictor(telemetry, lambda: NOW),
        telemetry=telemetry,
        new_id=lambda: str(uuid_utils.uuid7()),
        version="0",
        max_body=1 << 26,
        max_rows=1000,
        deadline=30.0,
        body_seconds=10.0,
        docs=False,
        exposed=telemetry.registry,
        checks=checks_of(settings, keys_of(settings, telemetry)),
        record=access,
    )


@pytest.fixture
def client_with(shipped: Registry, tmp_path: Path) -> Callable[[RecordAccess | None], httpx.AsyncClient]:
    def make(access: RecordAccess | None) -> httpx.AsyncClient:
        app = build_app(parts_of(shipped, tmp_path, access))
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://temperance")

    return make


@pytest.fixture
async def client(client_with: Any, access: RecordAccess) -> AsyncIterator[httpx.AsyncClient]:
    async with client_with(access) as running:
        yield running


@pytest.fixture
def answered(store: Store) -> str:
    request_id, write = kept(["benign", "malignant"], rows=2)
    store.write([write])
    return request_id


async def test_outcomes_are_kept_and_each_has_its_status(client, store, answered):
    other = str(uuid_utils.uuid7())
    outcomes = [
        {"prediction_id": f"{answered}.0", "outcome": "malignant", "source": "pathology", "ascertainment": "action"},
        {"prediction_id": f"{answered}.0", "outcome": "malignant", "source": "pathology", "ascertainment": "action"},
        {"prediction_id": f"{answered}.1", "outcome": "benign", "observed_at": "2025-12-31"},
        {"prediction_id": f"{answered}.1", "outcome": "malignant", "observed_at": "2025-12-30T23:00:00-01:00"},
        {"prediction_id": f"{answered}.1", "outcome": "normal"},
        {"prediction_id": f"{answered}.2", "outcome": "benign"},
        {"prediction_id": f"{other}.0", "outcome": "benign"},
    ]
    answer = await client.post("/v1/outcomes", json={"outcomes": outcomes})
    assert answer.status_code == 200
    document = answer.json()
    statuses = ["accepted", "repeated", "accepted", "contradicting", "not-a-class", "unknown", "unknown"]
    ids = [one["prediction_id"] for one in outcomes]
    assert document.pop("results") == [
        {"prediction_id": name, "status": status} for name, status in zip(ids, statuses, strict=True)
    ]
    assert document == {"accepted": 2, "repeated": 1, "contradicting": 1, "unknown": 2, "not_a_class": 1}
    found = store.outcomes_of([answered])
    assert [(one.row, one.truth, one.ascertainment, one.caller) for one in found] == [
        (0, '"malignant"', "action", "anonymous"),
        (1, '"benign"', "routine", "anonymous"),
        (1, '"malignant"', "routine", "anonymous"),
    ]
    now = int(NOW.timestamp() * 1e6)
    assert [one.observed_at - now for one in found] == [0, -36 * 3_600_000_000, -36 * 3_600_000_000]


async def test_the_same_request_again_adds_nothing(client, store, answered):
    body = {"outcomes": [{"prediction_id": f"{answered}.{row}", "outcome": "benign"} for row in range(2)]}
    first, second = [(await client.post("/v1/outcomes", json=body)).json() for _ in range(2)]
    assert (first["accepted"], second["accepted"], second["repeated"]) == (2, 0, 2)
    assert len(store.outcomes_of([answered])) == 2


async def test_of_equal_requests_at_once_one_is_accepted(client, store, answered):
    body = {"outcomes": [{"prediction_id": f"{answered}.0", "outcome": "benign"}]}
    answers = await asyncio.gather(*[client.post("/v1/outcomes", json=body) for _ in range(8)])
    assert sorted(answer.json()["accepted"] for answer in answers) == [0] * 7 + [1]
    assert len(store.outcomes_of([answered])) == 1


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({}, ("/outcomes/1/prediction_id", "missing-field")),
        ({"prediction_id": "0"}, ("/outcomes/1/prediction_id", "wrong-value")),
        ({"prediction_id": 1}, ("/outcomes/1/prediction_id", "wrong-type")),
        ({"outcome": None}, ("/outcomes/1/outcome", "wrong-type")),
        ({"outcome": [["benign"]]}, ("/outcomes/1/outcome", "wrong-type")),
        ({"outcome": {"benign": "yes"}}, ("/outcomes/1/outcome", "wrong-type")),
        ({"observed_at": "2026-01-01T12:00:00"}, ("/outcomes/1/observed_at", "wrong-value")),
        ({"observed_at": "2026-02-30"}, ("/outcomes/1/observed_at", "wrong-value")),
        ({"observed_at": "1969-12-31"}, ("/outcomes/1/observed_at", "wrong-value")),
        ({"observed_at": 1767225600}, ("/outcomes/1/observed_at", "wrong-type")),
        ({"observed_at": "2026-01-01T12:06:00Z"}, ("/outcomes/1/observed_at", "in-the-future")),
        ({"source": ""}, ("/outcomes/1/source", "string-too-short")),
        ({"source": "a\nb"}, ("/outcomes/1/source", "string-pattern-mismatch")),
        ({"source": "x" * 201}, ("/outcomes/1/source", "string-too-long")),
        ({"ascertainment": "sometimes"}, ("/outcomes/1/ascertainment", "literal-error")),
        ({"patient": "Doe"}, ("/outcomes/1/?", "unknown-field")),
        ("benign", ("/outcomes/1", "wrong-type")),
    ],
)
async def test_one_malformed_outcome_refuses_the_request_and_nothing_is_kept(
    client,
    store,
    answered,
    entry,
    fault,
):
    sound = {"prediction_id": f"{answered}.0", "outcome": "benign"}
    malformed = {**sound, **entry} if isinstance(entry, dict) and entry else entry
    answer = await client.post("/v1/outcomes", json={"outcomes": [sound, malformed]})
    assert answer.status_code == 422, answer.text
    document = answer.json()
    assert document["type"] == "urn:temperance:problem:invalid-outcomes"
    assert fault in [(one["pointer"], one["code"]) for one in document["errors"]]
    assert "Doe" not in answer.text
    assert store.outcomes_of([answered]) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({}, "/outcomes"),
        ({"outcomes": []}, "/outcomes"),
        ({"outcomes": "all"}, "/outcomes"),
        ({"outcomes": [1], "mode": "fast"}, "/?"),
        ({"outcomes": [{}] * 10_001}, "/outcomes"),
    ],
)
async def test_a_body_that_is_no_list_of_outcomes_is_refused(client, body, pointer):
    answer = await client.post("/v1/outcomes", json=body)
    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]


async def test_a_body_with_a_fault_in_every_outcome_names_twenty(client):
    answer = await client.post("/v1/outcomes", json={"outcomes": [{"outcome": [[]] * 500}] * 2000})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 20)


async def test_ten_thousand_outcomes_are_one_request(client, store):
    request_id, write = kept(["benign", "malignant"], rows=10_000)
    store.write([write])
    body = {"outcomes": [{"prediction_id": f"{request_id}.{row}", "outcome": "benign"} for row in range(10_000)]}
    answer = await client.post("/v1/outcomes", json=body)
    assert answer.json()["accepted"] == 10_000
    assert len(store.outcomes_of([request_id])) == 10_000


async def test_where_outcomes_cannot_be_kept_the_answer_is_503(client_with, access, answered):
    async def failing(write: Write, deadline: float) -> None:
        del write, deadline
        raise StoreUnavailable("the disk is full")

    body = {"outcomes": [{"prediction_id": f"{answered}.0", "outcome": "benign"}]}
    for record in (replace(access, keep=failing), None):
        async with client_with(record) as client:
            answer = await client.post("/v1/outcomes", json=body)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:temperance:problem:store-unavailable")


@pytest.mark.parametrize("model", ["letters", "complaints", "motion", "raw"])
async def test_a_record_of_every_task_is_shown_as_the_document_has_it(client, store, every_task, model):
    request_id, write, answer = recorded_answer(every_task, model)
    store.write([write])
    shown = (await client.get(f"/v1/predictions/{request_id}.3")).json()
    RecordedPrediction.model_validate(shown, extra="forbid")
    common = (await client.get(f"/v1/predictions/{request_id}")).json()
    RecordedRequest.model_validate(common, extra="forbid")
    assert shown["basis"]["classes"] == list(answer.model.classes)
    assert "logits" in shown["columns"]
    assert shown["row_digest"] == write.predictions[0].row_digests[48:64].hex()
    assert shown["subject_token"] is None


async def test_a_record_is_shown_with_all_it_rested_on_and_its_outcomes(client, store, every_task):
    answered, write, _ = recorded_answer(every_task, "letters")
    store.write([write])
    body = {"outcomes": [{"prediction_id": f"{answered}.1", "outcome": one} for one in ("a", "d")]}
    await client.post("/v1/outcomes", json=body)
    answer = await client.get(f"/v1/predictions/{answered}.1")
    assert answer.status_code == 200
    document = answer.json()
    assert (document["prediction_id"], document["id"], document["row"]) == (f"{answered}.1", answered, 1)
    assert (document["created"], document["caller"]) == ("2026-01-01T00:00:00.000000Z", "key:ward-3")
    assert (document["model"], document["version"], document["verb"]) == ("letters", "1", "decide")
    assert document["place"]["sequence"] == 1
    assert document["outcome"] == "d"
    assert [(one["outcome"], one["contradicts"]) for one in document["outcomes"]] == [
        ("a", False),
        ("d", True),
    ]


async def test_a_request_id_shows_what_its_rows_have_in_common(client, answered):
    document = (await client.get(f"/v1/predictions/{answered}")).json()
    assert (document["id"], document["rows"]) == (answered, 2)
    assert "outcomes" not in document


@pytest.mark.parametrize("end", [".2", ".01", ".-1", ".x", ".0.0", "x"])
async def test_what_was_not_answered_is_not_found(client, answered, end):
    answer = await client.get(f"/v1/predictions/{answered}{end}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:temperance:problem:prediction-not-found")


async def test_a_record_of_a_model_that_the_caller_may_not_use_is_as_one_that_is_not_there(store, answered):
    other = Caller("key:other", ANONYMOUS.scopes, frozenset(["another"]))
    with pytest.raises(PredictionNotFound) as hidden:
        recorded_prediction(store, answered, other.may_use)
    with pytest.raises(PredictionNotFound) as absent:
        recorded_prediction(store, str(uuid_utils.uuid7()), other.may_use)
    assert hidden.value.detail == absent.value.detail


async def test_json_of_outcomes_is_strict(client):
    answer = await client.post(
        "/v1/outcomes", content=b'{"outcomes": [], "outcomes": []}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, orjson.loads(answer.content)["type"]) == (400, "urn:temperance:problem:duplicate-key")


def test_what_a_server_answered_is_on_record_and_its_outcome_comes_back(
    serving: Callable[..., Any], test_rows: list[list[float]], tmp_path: Path
) -> None:
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path / "data")) as server:
        answer = server.post("decide", {"instances": test_rows[:2]}).json()
        reports = [{"prediction_id": row["prediction_id"], "outcome": row["label"]} for row in answer["predictions"]]
        received = server.client.post("/v1/outcomes", json={"outcomes": reports})
        assert (received.status_code, received.json()["accepted"]) == (200, 2)
        for row in answer["predictions"]:
            shown = server.client.get(f"/v1/predictions/{row['prediction_id']}").json()
            RecordedPrediction.model_validate(shown, extra="forbid")
            assert shown["outcome"] == shown["columns"]["label"] == row["label"]
            assert shown["columns"]["decision.action"] == row["decision"]["action"]
            assert shown["columns"]["decision.risks"] == pytest.approx(row["decision"]["risks"])
            assert (shown["id"], shown["digest"]) == (answer["id"], answer["digest"])
