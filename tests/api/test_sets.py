"""Label sets: their coverage, and when `valid` is false."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.numerics import Array, Indices
from service.runtime.registry import Registry

Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]

CLASSES = ("0", "1")
RARE = """
[training.prevalence]
"0" = 0.8
"1" = 0.2
"""


def drawn(
    n: int, k: int, *, seed: int = 7, weights: tuple[float, ...] | None = None
) -> tuple[list[list[float]], Indices]:
    """Rows and labels as those the model was fitted on; ``weights`` make some classes likelier than others."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(weights or np.ones(k), size=n)
    labels: Indices = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    rows: list[list[float]] = np.log(p).tolist()
    return rows, labels


async def sets_of(
    client: httpx.AsyncClient, rows: list[list[float]], *, verb: str = "predict", **parameters: Any
) -> list[dict[str, Any]]:
    body = {"instances": rows, "parameters": parameters}
    answer = await client.post(f"/v1/models/logits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return [row["set"] for row in answer.json()["predictions"]]


async def refused(client: httpx.AsyncClient, *, model: str = "logits", row: list[float], **parameters: Any) -> str:
    body = {"instances": [row], "parameters": parameters}
    answer = await client.post(f"/v1/models/{model}:predict", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:coverage-unavailable")
    detail: str = answer.json()["detail"]
    return detail


def held(sets: list[dict[str, Any]], labels: Indices) -> Array:
    return np.array([str(label) in one["labels"] for one, label in zip(sets, labels.tolist(), strict=True)])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("k", [2, 3])
async def test_sets_hold_the_true_label_within_every_class(
    k: int, coverage: float, publish_logits: Publish, client_of: Connect
) -> None:
    rows, labels = drawn(4000, k)
    async with client_of(publish_logits(tuple(map(str, range(k))), fitted=True)) as client:
        sets = await sets_of(client, rows, coverage=coverage)
    inside = held(sets, labels)
    noise = 4 * np.sqrt(coverage * (1 - coverage) * k * (1 / 300 + 1 / 4000))
    for c in range(k):
        assert inside[labels == c].mean() >= coverage - noise
    assert {one["method"] for one in sets} == {"lac_class_conditional"}
    assert {one["coverage"] for one in sets} == {coverage}
    assert all(one["labels"] for one in sets)


async def test_sets_grow_with_the_coverage(publish_logits: Publish, client_of: Connect) -> None:
    rows, _ = drawn(200, 3)
    async with client_of(publish_logits(("0", "1", "2"), fitted=True)) as client:
        small, large = [await sets_of(client, rows, coverage=coverage) for coverage in (0.6, 0.95)]
    assert all(set(a["labels"]) <= set(b["labels"]) for a, b in zip(small, large, strict=True))
    assert sum(len(one["labels"]) for one in small) < sum(len(one["labels"]) for one in large)


async def test_sets_within_classes_are_the_same_at_every_prevalence(
    publish_logits: Publish, client_of: Connect
) -> None:
    rows, _ = drawn(100, 2)
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        here = await sets_of(client, rows, coverage=0.9)
        there = await sets_of(client, rows, coverage=0.9, prevalence={"0": 0.99, "1": 0.01})
        decided = await sets_of(
            client, rows, verb="decide", coverage=0.9, costs={"a": {"0": 0, "1": 1}, "b": {"0": 1, "1": 0}}
        )
    assert here == there == decided


async def test_a_flagged_row_has_a_set_that_is_not_valid(publish_logits: Publish, client_of: Connect) -> None:
    rows, _ = drawn(300, 2)
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        body = {"instances": rows, "parameters": {"coverage": 0.9}}
        costs = {"a": {"0": 0, "1": 1}, "b": {"0": 1, "1": 0}}
        body["parameters"] |= {"costs": costs}  # type: ignore[operator]  # a dict of its own
        answer = (await client.post("/v1/models/logits:decide", json=body)).json()
    flagged = [row["ood"]["flagged"] for row in answer["predictions"]]
    assert any(flagged)
    assert [row["set"]["valid"] for row in answer["predictions"]] == [not flag for flag in flagged]


async def test_a_coverage_beyond_the_calibration_rows_gives_full_sets_that_are_not_valid(
    publish_logits: Publish, client_of: Connect
) -> None:
    rows, _ = drawn(20, 2)
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        sets = await sets_of(client, rows, coverage=0.9999)
    assert all(one["labels"] == ["0", "1"] for one in sets)
    assert {(one["valid"], one["method"]) for one in sets} == {(False, "lac_marginal")}


async def test_few_rows_of_a_class_give_sets_on_average_and_none_at_another_prevalence(
    publish_logits: Publish, client_of: Connect
) -> None:
    rows, _ = drawn(20, 2)  # some 150 calibration rows of each class: enough for 0.99 in all, not within each
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        source = (await client.get("/v1/models/logits")).json()["calibration"]["source"]["prevalence"]
        sets = await sets_of(client, rows, coverage=0.995)
        same = await sets_of(client, rows, coverage=0.995, prevalence=source)
        detail = await refused(client, row=rows[0], coverage=0.995, prevalence={"0": 0.9, "1": 0.1})
    assert {one["method"] for one in sets} == {"lac_marginal"}
    assert any(one["valid"] for one in sets)
    assert same == sets
    assert "too few for a coverage of 0.995" in detail
    assert "leave out site and prevalence" in detail


async def test_few_rows_of_a_rare_class_give_sets_that_hold_at_the_requested_prevalence(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    rows, labels = drawn(2000, 2, weights=(4.0, 1.0))  # the second class is the rare and the hard one
    kept = (labels == 0) | (np.cumsum(labels == 1) <= 8)  # too few for 0.9 within the class
    np.savez(tmp_path / "rare.npz", X=np.array(rows)[kept], y=labels[kept])
    requested = {"0": 0.4, "1": 0.6}
    new, truth = drawn(4000, 2, seed=8, weights=(4.0, 1.0))
    fitted = publish_logits(CLASSES, fitted=True, data=tmp_path / "rare.npz", more=RARE)
    async with client_of(fitted) as client:
        here = await sets_of(client, new, coverage=0.9)
        there = await sets_of(client, new, coverage=0.9, prevalence=requested)
        detail = await refused(client, row=new[0], coverage=0.97, prevalence=requested)
        each = await refused(client, row=new[0], coverage=0.9, prevalence=[requested])
    shares = np.where(truth == 1, 0.6 / (truth == 1).mean(), 0.4 / (truth == 0).mean())
    assert {one["method"] for one in here} == {"lac_marginal"}
    assert {one["method"] for one in there} == {"lac_weighted"}
    assert np.average(held(here, truth), weights=shares) < 0.8
    assert np.average(held(there, truth), weights=shares) >= 0.9
    assert "too few for a coverage of 0.97" in detail
    assert "a prevalence each" in each


async def test_many_classes_get_sets_on_average(publish_logits: Publish, client_of: Connect) -> None:
    rows, labels = drawn(2000, 21)
    uniform = dict.fromkeys(map(str, range(21)), 1 / 21)
    async with client_of(publish_logits(tuple(map(str, range(21))), fitted=True)) as client:
        sets = await sets_of(client, rows, coverage=0.8)
        assert "too many classes" in await refused(client, row=rows[0], coverage=0.8, prevalence=uniform)
    assert {one["method"] for one in sets} == {"lac_marginal"}
    assert held(sets, labels).mean() == pytest.approx(0.8, abs=0.12)


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
async def test_every_method_holds_its_coverage_and_is_named(
    method: str, publish_logits: Publish, client_of: Connect
) -> None:
    rows, labels = drawn(3000, 3)
    async with client_of(publish_logits(("0", "1", "2"), fitted=True, label_sets=method)) as client:
        sets = await sets_of(client, rows, coverage=0.8)
    assert {one["method"] for one in sets} == {f"{method}_class_conditional"}
    assert held(sets, labels).mean() >= 0.8 - 0.1


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("calibrator", ["temperature", "isotonic", "histogram"])
async def test_a_certain_label_is_in_its_set(
    calibrator: str, method: str, publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, size=400)
    gap = np.where(labels == 0, 6.0, -6.0) + 4.0 * rng.standard_normal(400)
    np.savez(tmp_path / "sure.npz", X=np.stack([gap, np.zeros(400)], axis=1), y=labels)
    fitted = publish_logits(
        ("a", "b"), fitted=True, data=tmp_path / "sure.npz", calibrator=calibrator, label_sets=method
    )
    async with client_of(fitted) as client:
        sets = [(await sets_of(client, [[8.0, 0.0], [0.0, 30.0]], coverage=c)) for c in (0.5, 0.9, 0.95)]
    assert all("a" in one["labels"] and "b" in other["labels"] for one, other in sets)


async def test_adaptive_sets_hold_the_most_probable_label_that_is_answered(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    rows, labels = drawn(600, 3)
    biased = np.array(rows) + np.array([2.0, 0.0, -1.0])  # bcts takes this back, and so changes the order
    np.savez(tmp_path / "biased.npz", X=biased, y=labels)
    fitted = publish_logits(
        ("0", "1", "2"), fitted=True, data=tmp_path / "biased.npz", calibrator="bcts", label_sets="aps"
    )
    requested = {"instances": biased[rng.permutation(600)[:200]].tolist(), "parameters": {"coverage": 0.3}}
    async with client_of(fitted) as client:
        answer = (await client.post("/v1/models/logits:predict", json=requested)).json()["predictions"]
    assert all(row["label"] in row["set"]["labels"] for row in answer)
    assert any(row["label"] != str(np.argmax(x)) for row, x in zip(answer, requested["instances"], strict=True))


async def test_rows_of_a_patient_count_as_one(publish_logits: Publish, client_of: Connect, tmp_path: Path) -> None:
    rows, labels = drawn(12, 2)
    copies = np.repeat(np.arange(12), 40)
    np.savez(tmp_path / "groups.npz", X=np.array(rows)[copies], y=labels[copies], group=copies)
    published = publish_logits(CLASSES, fitted=True, data=tmp_path / "groups.npz", false_alarm=0.2)
    async with client_of(published) as client:
        sets = await sets_of(client, rows, coverage=0.95)  # needs 19 patients, whatever the rows
        described = (await client.get("/v1/models/logits")).json()["calibration"]["label_sets"]
    assert not any(one["valid"] for one in sets)
    assert described["rows"] == 12
    assert sum(described["class_rows"].values()) == 12


async def test_an_uncalibrated_version_has_no_sets(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(CLASSES)) as client:
        assert "uncalibrated" in await refused(client, row=[0.0, 0.0], coverage=0.9)


async def test_a_version_that_was_fitted_before_sets_is_to_be_fitted_again(
    first_release: httpx.AsyncClient, example_row: list[float]
) -> None:
    assert "fit it again" in await refused(first_release, model="breast-cancer", row=example_row, coverage=0.9)


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 1.5, True, "0.9"])
async def test_a_coverage_lies_between_nothing_and_certainty(
    coverage: object, client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row], "parameters": {"coverage": coverage}}
    answer = await client.post("/v1/models/breast-cancer:predict", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:invalid-parameters")
    assert answer.json()["errors"][0]["pointer"] == "/parameters/coverage"


async def test_an_answer_with_sets_is_documented_and_one_without_has_none(
    publish_logits: Publish, client_of: Connect, conforms: Callable[..., Any]
) -> None:
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        plain = (await client.post("/v1/models/logits:predict", json={"instances": [[0.0, 0.5]]})).json()
        body = {"instances": [[0.0, 0.5]], "parameters": {"coverage": 0.9}}
        answer = (await client.post("/v1/models/logits:predict", json=body)).json()
    assert "set" not in plain["predictions"][0]
    assert conforms(answer, "predict") == []
