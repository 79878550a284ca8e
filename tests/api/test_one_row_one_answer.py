"""A row has one action and one flag: alone, in any batch, and through every encoding.

The long version judges a million rows: ``python -m pytest tests/api/test_one_row_one_answer.py -m simulation -s``.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry

from service.core.numerics import Array
from service.core.pipeline import Posterior, choose
from service.prediction.answer import Part
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.prediction.query import Query
from service.runtime.model import Model
from service.telemetry import Telemetry

Answers = npt.NDArray[np.int64]

BATCHES = (1, 2, 7, 64)
WHOLE = 1000  # rows at a time: what the other paths are compared with
BLOCK = 20_000  # in memory at once
INFER = "/v2/models/breast-cancer/infer"
DECIDE = "/v1/models/breast-cancer:decide"


@pytest.fixture(scope="module")
def calibration(recipe: ModuleType) -> Array:
    _, splits = recipe.load_splits()
    rows: Array = splits["calibration"].rows
    return rows


def drawn(model: Model, data: Array, n: int, seed: int) -> Array:
    """Rows between and around those of the data, one in ten of them at a threshold to within float32; as float32."""
    rng = np.random.default_rng(seed)
    one, other = data[rng.integers(0, len(data), size=(2, n))]
    far = rng.uniform(0.0, 1.5, size=(n, 1))
    noise = rng.normal(size=one.shape) * data.std(axis=0) * rng.choice([0.0, 0.01, 0.1, 0.5], size=(n, 1))
    near = slice(0, n // 10)
    far[near, 0] = at_threshold(model, one[near] + noise[near], (other - one)[near])
    rows: Array = np.maximum(one + noise + far * (other - one), 0.0).astype(np.float32).astype(np.float64)
    return rows


def at_threshold(model: Model, start: Array, way: Array) -> Array:
    """How far along a way every row reaches the threshold of the distance that gates it, at most 8 times its length."""
    (detector,) = (d for d in model.chain.detectors if d.name == "mahalanobis")
    low, high = np.zeros(len(start)), np.full(len(start), 8.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        beyond = detector.score.score(start + middle[:, None] * way) > (detector.threshold or 0.0)
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return low


def told(model: Model, posterior: Posterior) -> Answers:
    """Action, reason, and the flags of the row and of every score, shape (N, 2 + 1 + S)."""
    taken = choose(
        posterior.log_probs, model.policies["biopsy"], flagged=posterior.flagged, known=posterior.probabilities
    )
    assert posterior.flagged is not None
    assert posterior.flags is not None
    return np.column_stack([taken.action, taken.reason, posterior.flagged, posterior.flags]).astype(np.int64)


def in_batches(model: Model, rows: Array, size: int) -> Answers:
    parts = (rows[i : i + size] for i in range(0, len(rows), size))
    return np.concatenate([told(model, model.posterior(part)) for part in parts])


async def joined(model: Model, rows: Array, seed: int) -> Answers:
    """As requests of one to five rows that come at once, and are run together."""
    sizes = np.random.default_rng(seed).integers(1, 6, size=len(rows))
    starts = np.cumsum(sizes)[:-1]
    parts = [part for part in np.split(rows, starts[starts < len(rows)]) if len(part)]
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    query = Query.of(model, Options("detect"))
    found: list[Posterior] = []
    for first in range(0, len(parts), 64):
        asked = (predictor.queue(model).answer(query, own, Part("id", len(own))) for own in parts[first : first + 64])
        found += [joint.own(place).posterior for joint, place in await asyncio.gather(*asked)]
    return np.concatenate([told(model, posterior) for posterior in found])


def paths(model: Model, rows: Array, seed: int) -> Iterator[tuple[str, Answers]]:
    for size in BATCHES:
        yield f"in batches of {size}", in_batches(model, rows, size)
    yield "joined with others", asyncio.run(joined(model, rows, seed))
    order = np.random.default_rng(seed).permutation(len(rows))
    yield "in another order", in_batches(model, rows[order], WHOLE)[np.argsort(order)]


def differences(model: Model, rows: Array, seed: int) -> tuple[dict[str, int], Answers]:
    """Rows that each path answers otherwise, and the answers."""
    expected = in_batches(model, rows, WHOLE)
    found = {name: int(np.any(answers != expected, axis=1).sum()) for name, answers in paths(model, rows, seed)}
    return found, expected


def test_every_calibration_row_has_one_answer_and_one_p_value(shipped_model: Model, calibration: Array) -> None:
    found, _ = differences(shipped_model, calibration, 0)
    assert set(found.values()) == {0}, found
    whole = shipped_model.posterior(calibration).p_values
    for size in (1, 2, 7, 64):
        parts = (calibration[i : i + size] for i in range(0, len(calibration), size))
        p = np.concatenate([np.asarray(shipped_model.posterior(part).p_values) for part in parts])
        np.testing.assert_array_equal(p, whole)


def test_random_rows_have_one_answer(shipped_model: Model, calibration: Array) -> None:
    rows = drawn(shipped_model, calibration, 10_000, 1)
    found, expected = differences(shipped_model, rows, 1)
    assert set(found.values()) == {0}, found
    assert 0.1 < expected[:, 2].mean() < 0.9  # rows on both sides of the gate
    assert {0, 1, 2} == set(expected[:, 0].tolist())


@pytest.mark.simulation
def test_a_million_random_rows_have_one_answer(shipped_model: Model, calibration: Array) -> None:
    totals: dict[str, int] = {}
    rows = flagged = 0
    for block in range(50):
        found, expected = differences(shipped_model, drawn(shipped_model, calibration, BLOCK, 100 + block), block)
        totals = {name: totals.get(name, 0) + count for name, count in found.items()}
        rows, flagged = rows + len(expected), flagged + int(expected[:, 2].sum())
    print(f"{rows} rows, {flagged} flagged; answered otherwise: {totals}")  # noqa: T201  # figures for whoever runs it
    assert max(totals.values()) <= 1e-6 * rows


# -------------------------------------------------------------------------------------------------------- encodings


def tensor(rows: Array, datatype: str, dtype: str, outputs: list[str]) -> tuple[bytes, dict[str, str]]:
    blob = rows.astype(dtype).tobytes()
    more = {"parameters": {"binary_data_size": len(blob)}}
    entry = {"name": "X", "shape": list(rows.shape), "datatype": datatype, **more}
    head = json.dumps({"inputs": [entry], "outputs": [{"name": name} for name in outputs]}).encode()
    return head + blob, {"Inference-Header-Content-Length": str(len(head))}


async def as_rows(client: httpx.AsyncClient, rows: Array) -> list[tuple[str, bool]]:
    document = (await client.post(DECIDE, json={"instances": rows.tolist()})).json()
    return [(row["decision"]["action"], row["ood"]["flagged"]) for row in document["predictions"]]


async def as_columns(client: httpx.AsyncClient, rows: Array) -> list[tuple[str, bool]]:
    body = {"instances": rows.tolist(), "parameters": {"layout": "columns"}}
    document = (await client.post(DECIDE, json=body)).json()["columns"]
    return list(zip(document["decision.action"], document["ood.flagged"], strict=True))


async def as_objects(client: httpx.AsyncClient, rows: Array, names: list[str]) -> list[tuple[str, bool]]:
    instances = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    document = (await client.post(DECIDE, json={"instances": instances})).json()
    return [(row["decision"]["action"], row["ood"]["flagged"]) for row in document["predictions"]]


async def as_tensor(client: httpx.AsyncClient, rows: Array) -> list[tuple[str, bool]]:
    entry = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return of_tensors((await client.post(INFER, json={"inputs": [entry]})).json())


async def as_bytes(client: httpx.AsyncClient, rows: Array, datatype: str, dtype: str) -> list[tuple[str, bool]]:
    body, headers = tensor(rows, datatype, dtype, ["action", "ood"])
    return of_tensors((await client.post(INFER, content=body, headers=headers)).json())


def of_tensors(document: dict[str, Any]) -> list[tuple[str, bool]]:
    outputs = {output["name"]: output["data"] for output in document["outputs"]}
    return list(zip(outputs["action"], map(bool, outputs["ood"]), strict=True))


@pytest.mark.parametrize("rounded", [False, True], ids=["as written", "as float32"])
async def test_every_encoding_gives_every_calibration_row_one_answer_alone_and_beside_others(
    client: httpx.AsyncClient, calibration: Array, features: list[str], *, rounded: bool
) -> None:
    # A client in float32 sends another number than the file holds; the model takes the same one either way.
    rows = calibration.astype(np.float32).astype(np.float64) if rounded else calibration
    expected = await as_rows(client, calibration)
    asks: list[Callable[[Array], Any]] = [
        lambda part: as_rows(client, part),
        lambda part: as_columns(client, part),
        lambda part: as_objects(client, part, features),
        lambda part: as_tensor(client, part),
        lambda part: as_bytes(client, part, "FP32", "<f4"),
        lambda part: as_bytes(client, part, "FP64", "<f8"),
    ]
    for ask in asks:
        for size in (1, 7, len(rows)):
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]
            found = await asyncio.gather(*(ask(part) for part in parts))
            assert [answer for part in found for answer in part] == expected
