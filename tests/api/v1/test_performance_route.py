"""GET /v1/models/{name}/performance over HTTP, from a real store."""

import httpx
import pytest

from service.access.caller import ANONYMOUS, Caller
from service.api.authentication import Needs
from tests.api.v1.test_outcome_routes import access, client, client_with, store  # noqa: F401  # fixtures
from tests.monitoring.test_observed import BEGUN, DECIDED, HOUR, known, recorded

PATH = "/v1/models/breast-cancer/performance"


async def test_a_model_without_answers_has_a_report_of_nothing(client: httpx.AsyncClient) -> None:  # noqa: F811
    answer = await client.get(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["answered"]["rows"], body["alarms"]) == ("breast-cancer", 0, [])
    assert answer.headers["cache-control"] == "no-store"


async def test_answers_of_another_model_do_not_count(client, store, every_task) -> None:  # noqa: F811
    request_id, query, _ = recorded(store, DECIDED["letters-decide"], every_task)
    known(store, request_id, 0, query.model.classes[0], at=BEGUN + HOUR)
    assert (await client.get(PATH)).json()["answered"]["rows"] == 0


async def test_the_window_is_in_the_answer(client) -> None:  # noqa: F811
    window = {"from": "2026-01-01", "to": "2026-02-01T00:00:00+01:00", "version": "1", "site": "a", "caller": "key:b"}
    body = (await client.get(PATH, params={**window, "group_by": "site"})).json()
    assert body["window"] == {
        "since": window["from"],
        "until": window["to"],
        "version": 1,
        "site": "a",
        "caller": "key:b",
    }
    assert body["groups"] == {"by": "site", "shown": {}, "withheld": {}}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("form=2026-01-01", ""),
        ("from=yesterday", "/from"),
        ("from=2026-01-01&from=2026-01-02", "/from"),
        ("from=2026-13-01", "/from"),
        ("to=1969-12-31", "/to"),
        ("from=0001-01-01T00:00:00%2B23:59", "/from"),
        ("from=2026-01-02&to=2026-01-01", "/to"),
        ("version=0", "/version"),
        ("version=1.5", "/version"),
        ("version=99999999999999999999", "/version"),
        ("site=", "/site"),
        ("caller=%00", "/caller"),
        ("group_by=age", "/group_by"),
    ],
)
async def test_a_parameter_that_is_not_as_documented_is_refused_without_its_value(
    client: httpx.AsyncClient,  # noqa: F811
    query: str,
    pointer: str,
) -> None:
    answer = await client.get(f"{PATH}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:invalid-parameters")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not any(value in answer.text for value in ("form", "yesterday", "2026-13", "9999", "age"))


async def test_an_unknown_model_is_not_found(client) -> None:  # noqa: F811
    assert (await client.get("/v1/models/none/performance")).status_code == 404


async def test_without_a_record_the_answer_is_503(client_with) -> None:  # noqa: F811
    async with client_with(None) as running:
        assert (await running.get(PATH)).status_code == 503


def test_it_needs_the_scope_evaluate_and_the_model() -> None:
    need = Needs(metrics_open=False, docs_open=False).of(PATH, "")
    assert (need.scope, need.model) == ("evaluate", "breast-cancer")
    assert not Caller("key:a", ANONYMOUS.scopes, frozenset(["another"])).may_use("breast-cancer")
