"""How models are addressed, listed and described, and what every answer carries."""

import httpx
import pytest

from service.runtime.registry import Registry

DECIDE = "/v1/models/breast-cancer:decide"
PLACES = ["", "/versions/1", "/labels/stable"]


@pytest.mark.parametrize("place", PLACES)
async def test_a_version_and_an_alias_answer_as_the_model_does(
    place: str, client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row]}
    plain = (await client.post(DECIDE, json=body)).json()
    addressed = (await client.post(f"/v1/models/breast-cancer{place}:decide", json=body)).json()
    assert addressed["digest"] == plain["digest"]
    assert [{**row, "prediction_id": ""} for row in addressed["predictions"]] == [
        {**row, "prediction_id": ""} for row in plain["predictions"]
    ]


async def test_the_models_are_listed_by_name(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models")).json() == {"models": ["breast-cancer"]}


@pytest.mark.parametrize("place", PLACES)
async def test_metadata_tell_what_a_model_takes_answers_and_costs(
    place: str, client: httpx.AsyncClient, features: list[str], shipped: Registry
) -> None:
    described = (await client.get(f"/v1/models/breast-cancer{place}")).json()
    model = shipped.model("breast-cancer")
    assert {"name", "ready", "version", "versions", "aliases", "inputs", "classes", "policies", "sites"} <= set(
        described
    )
    assert (described["name"], described["ready"], described["version"]) == ("breast-cancer", True, "1")
    assert described["aliases"] == {"stable": "1"}
    assert described["classes"] == ["benign", "malignant"]
    assert [feature["name"] for entry in described["inputs"] for feature in entry["features"]] == features
    assert described["policies"]["biopsy"]["costs"]["dismiss"] == {"benign": 0.0, "malignant": 50.0}
    assert described["sites"]["screening"]["prevalence"] == {"benign": 0.98, "malignant": 0.02}
    assert model.bundle.record is not None
    assert described["calibration"]["calibrator"]["params"] == model.bundle.record.calibrator.params


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "SPY"])
@pytest.mark.parametrize("path", ["/v1/models/breast-cancer:explain", "/v1/models/a/b", "/v1/models/a/versions/1/b"])
async def test_a_path_of_no_verb_is_not_found_by_any_method(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path)).status_code == 404


@pytest.mark.parametrize("place", PLACES)
async def test_a_verb_of_no_model_lists_the_verbs(client: httpx.AsyncClient, place: str) -> None:
    for path in (f"/v1/models/breast-cancer{place}:explain", f"/v1/models/breast-cancer{place}"):
        refused = await client.post(path, json={"instances": []})
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:temperance:problem:unknown-verb")
        assert "predict" in refused.json()["detail"]


async def test_one_bad_instance_refuses_the_request_and_no_row_is_counted(
    client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row, example_row[:-1]]}
    assert (await client.post(DECIDE, json=body)).status_code == 422
    assert "temperance_rows_total{" not in (await client.get("/metrics")).text
