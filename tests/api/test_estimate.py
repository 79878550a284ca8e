"""Prevalence of unlabelled rows: what is estimated, when it is an alarm, and when it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.numerics import Array
from service.runtime.registry import Registry

Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]

PATH = "/v1/models/logits:estimate"
CLASSES = ("0", "1")
PRIOR = '\n[training]\nprevalence = { "0" = 0.5, "1" = 0.5 }\n'


def rows_of(n: int, prevalence: tuple[float, ...], *, seed: int = 1) -> list[list[float]]:
    """Log-probabilities as the fitted model's rows have them, mixed at another prevalence: classes keep their looks."""
    k = len(prevalence)
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=20 * n)
    labels = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    counts = rng.multinomial(n, prevalence)
    chosen = np.concatenate([np.flatnonzero(labels == c)[:count] for c, count in enumerate(counts)])
    rows: list[list[float]] = np.log(p[chosen]).tolist()
    return rows


async def estimated(client: httpx.AsyncClient, rows: list[list[float]]) -> dict[str, Any]:
    answer = await client.post(PATH, json={"instances": rows})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["estimate"]
    return found


async def refused(client: httpx.AsyncClient, rows: list[list[float]], *, path: str = PATH) -> str:
    answer = await client.post(path, json={"instances": rows})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:estimate-unavailable")
    detail: str = answer.json()["detail"]
    return detail


METHODS = pytest.mark.parametrize("method", ["em", "bbse"])
SUBSETS = pytest.mark.parametrize("subset", ["all_rows", "unflagged_rows"])


@METHODS
@SUBSETS
@pytest.mark.parametrize("prevalence", [(0.9, 0.1), (0.2, 0.8)], ids=str)
async def test_another_prevalence_is_estimated_within_its_interval_and_raises_the_alarm(
    method: str, subset: str, prevalence: tuple[float, float], publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        found = await estimated(client, rows_of(1000, prevalence))
    estimate = found[subset][method]
    assert found["alarm"] is estimate["differs"] is estimate["settled"] is True
    for name, share in zip(CLASSES, prevalence, strict=True):
        entry = estimate["prevalence"][name]
        assert entry["low"] <= share <= entry["high"]
        assert 0.0 <= entry["low"] <= entry["share"] <= entry["high"] <= 1.0
        assert entry["high"] - entry["low"] < 0.4


async def test_the_prevalence_of_three_classes_is_estimated(publish_logits: Publish, client_of: Connect) -> None:
    prevalence = (0.6, 0.3, 0.1)
    async with client_of(publish_logits(("0", "1", "2"), fitted=True)) as client:
        found = await estimated(client, rows_of(2000, prevalence))
    for method in ("em", "bbse"):
        shares = [entry["share"] for entry in found["all_rows"][method]["prevalence"].values()]
        assert sum(shares) == pytest.approx(1.0)
        assert shares == pytest.approx(prevalence, abs=0.15)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100, 1000])
async def test_rows_of_the_calibrated_population_raise_no_alarm(
    n: int, publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        found = [await estimated(client, rows_of(n, (0.5, 0.5), seed=seed)) for seed in range(20)]
    assert not any(one["alarm"] for one in found)
    assert {one["all_rows"]["rows"] for one in found} == {n}


async def test_the_interval_narrows_with_rows_and_never_below_the_calibrations_own_noise(
    publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        found = [await estimated(client, rows_of(n, (0.5, 0.5))) for n in (10, 100, 4000)]
    few, some, many = (
        one["all_rows"]["em"]["prevalence"]["1"]["high"] - one["all_rows"]["em"]["prevalence"]["1"]["low"]
        for one in found
    )
    assert few > some > many > 1.96 / np.sqrt(300)


async def test_flagged_rows_are_counted_and_left_out_of_the_second_estimate(
    publish_logits: Publish, client_of: Connect
) -> None:
    rows = rows_of(200, (0.5, 0.5))
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        flags = (await client.post("/v1/models/logits:detect", json={"instances": rows})).json()["predictions"]
        found = await estimated(client, rows)
    flagged = sum(row["ood"]["flagged"] for row in flags)
    assert 0 < flagged == found["flagged"]
    assert (found["all_rows"]["rows"], found["unflagged_rows"]["rows"]) == (200, 200 - flagged)


async def test_the_alarm_changes_no_answer(publish_logits: Publish, client_of: Connect) -> None:
    rows = rows_of(500, (0.95, 0.05))
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        before = (await client.post("/v1/models/logits:predict", json={"instances": rows})).json()["predictions"]
        assert (await estimated(client, rows))["alarm"]
        after = (await client.post("/v1/models/logits:predict", json={"instances": rows})).json()["predictions"]
    assert [row["probabilities"] for row in before] == [row["probabilities"] for row in after]


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/stable"])
async def test_an_estimate_is_answered_at_every_place_in_its_documented_shape(
    place: str, publish_logits: Publish, client_of: Connect, conforms: Callable[..., list[str]]
) -> None:
    body = {"instances": rows_of(50, (0.5, 0.5))}
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        answer = (await client.post(f"/v1/models/logits{place}:estimate", json=body)).json()
        metrics = (await client.get("/metrics")).text
    assert conforms(answer, "estimate") == []
    assert answer["estimate"]["condition"] > 1.0
    assert 'verb="estimate",version="1"} 50.0' in metrics


async def test_a_declared_source_is_what_estimates_are_compared_with(
    publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True, more=PRIOR)) as client:
        same = await client.post(PATH, json={"instances": rows_of(300, (0.5, 0.5))})
        other = await client.post(PATH, json={"instances": rows_of(300, (0.95, 0.05))})
    assert same.json()["prevalence"]["source"] == {"0": 0.5, "1": 0.5}
    assert (same.json()["estimate"]["alarm"], other.json()["estimate"]["alarm"]) == (False, True)


# ---------------------------------------------------------------------------------------------------------- refusals


async def test_an_uncalibrated_version_estimates_nothing(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(CLASSES)) as client:
        detail = await refused(client, [[0.0, 0.0]])
    assert "uncalibrated" in detail
    assert "temperance fit" in detail


async def test_a_version_that_was_fitted_before_estimates_is_to_be_fitted_again(
    first_release: httpx.AsyncClient, example_row: list[float]
) -> None:
    assert "fit it again" in await refused(first_release, [example_row], path="/v1/models/breast-cancer:estimate")


async def test_rows_that_are_strange_in_more_than_their_mix_are_refused(
    publish_logits: Publish, client_of: Connect
) -> None:
    ambiguous = np.random.default_rng(0).normal(scale=0.01, size=(200, 2)).tolist()
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        detail = await refused(client, ambiguous)
    assert "200 of 200 rows are flagged" in detail
    assert "of calibration rows 0.02 to 0.0733, depending on the class" in detail


def biased(n: int = 600) -> tuple[Array, Array]:
    """Logits that overrate the second class by a constant: no temperature undoes it."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), size=n)
    labels = (rng.random(n) > p[:, 0]).astype(int)
    return np.log(p) + np.array([0.0, 1.5]), labels


async def test_an_unknown_source_is_refused_with_its_remedy(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    x, y = biased()
    np.savez(tmp_path / "biased.npz", X=x, y=y)
    async with client_of(publish_logits(CLASSES, fitted=True, data=tmp_path / "biased.npz")) as client:
        detail = await refused(client, x[:100].tolist())
    assert "is unknown" in detail
    assert "bcts" in detail


async def test_a_model_whose_em_does_not_return_the_calibration_rows_is_refused(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    x, y = biased()
    np.savez(tmp_path / "biased.npz", X=x, y=y)
    async with client_of(publish_logits(CLASSES, fitted=True, more=PRIOR, data=tmp_path / "biased.npz")) as client:
        detail = await refused(client, x[:100].tolist())
    assert "EM on the calibration rows does not return" in detail


async def test_classes_that_look_alike_are_refused_with_their_condition_number(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), size=600)
    labels = np.where(rng.random(600) > p[:, 0], 1 + rng.integers(0, 2, 600), 0)
    x = np.log(np.stack([p[:, 0], p[:, 1] / 2, p[:, 1] / 2], axis=1))
    np.savez(tmp_path / "alike.npz", X=x, y=labels)
    published = publish_logits(("0", "1", "2"), fitted=True, data=tmp_path / "alike.npz")
    async with client_of(published) as client:
        assert "condition number" in await refused(client, x[:100].tolist())


async def test_a_class_without_calibration_rows_is_named(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), size=300)
    x = np.column_stack([np.log(p), np.full(300, -8.0)])
    np.savez(tmp_path / "missing.npz", X=x, y=(rng.random(300) > p[:, 0]).astype(int))
    more = '\n[training]\nprevalence = { "0" = 0.4, "1" = 0.4, "2" = 0.2 }\n'
    published = publish_logits(("0", "1", "2"), fitted=True, more=more, data=tmp_path / "missing.npz")
    async with client_of(published) as client:
        assert "no calibration row is of class '2'" in await refused(client, x[:50].tolist())


async def test_estimate_takes_no_parameter_and_says_so(client: httpx.AsyncClient, example_row: list[float]) -> None:
    body = {"instances": [example_row], "parameters": {"site": "screening"}}
    answer = await client.post("/v1/models/breast-cancer:estimate", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:invalid-parameters")
    assert "there are none" in answer.json()["detail"]


async def test_an_unknown_verb_is_met_with_all_verbs(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models/breast-cancer:guess", json={})
    assert "predict, detect, decide, evaluate, estimate" in answer.json()["detail"]
