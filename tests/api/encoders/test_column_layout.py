"""`layout = "columns"` over HTTP: what a client reads in columns is what it reads in rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.encoders.column_layout import FEW_ROWS
from service.runtime.registry import Registry

Json = dict[str, Any]
CLASSES = tuple(f"c{i}" for i in range(120))
RNG = np.random.default_rng(0)


async def ask(client: httpx.AsyncClient, name: str, verb: str, rows: Any, **parameters: Any) -> Json:
    """The response to a request."""
    response = await client.post(f"/v1/models/{name}:{verb}", json={"instances": rows, "parameters": parameters})
    assert response.status_code == 200, response.text
    document: Json = response.json()
    return document


@pytest.mark.parametrize("count", [1, FEW_ROWS + 1])
async def test_what_was_computed_in_single_precision_is_the_same_number_in_both_layouts(
    publish_logits: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient], tmp_path: Path, count: int
) -> None:
    p = RNG.dirichlet(np.ones(120), size=1200)
    data = tmp_path / "many.npz"
    np.savez(data, X=np.log(p), y=(p.cumsum(axis=1) > RNG.random((1200, 1))).argmax(axis=1))
    costs = {"a": {name: i / 7 for i, name in enumerate(CLASSES)}, "b": dict.fromkeys(CLASSES, 1 / 3)}
    rows = np.log(p[:count]).tolist()
    async with client_of(publish_logits(CLASSES, fitted=True, data=data)) as client:
        by_column = await ask(client, "logits", "decide", rows, layout="columns", costs=costs)
        by_row = await ask(client, "logits", "decide", rows, costs=costs)
    columns = by_column["columns"]
    for i, row in enumerate(by_row["predictions"]):
        assert dict(zip(by_column["classes"], columns["probabilities"][i], strict=True)) == row["probabilities"]
        assert dict(zip(by_column["actions"], columns["decision.risks"][i], strict=True)) == row["decision"]["risks"]
        assert columns["ood.scores.nll.score"][i] == row["ood"]["scores"]["nll"]["score"]


async def test_every_column_has_an_entry_for_every_row(client: httpx.AsyncClient, test_rows: list[list[float]]) -> None:
    ids = [f"patient {i}" for i in range(30)]
    by_column = await ask(client, "breast-cancer", "decide", test_rows[:30], layout="columns", ids=ids, fdr=0.1)
    columns = by_column["columns"]
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(columns, 30)
    assert columns["id"] == ids
    assert columns["prediction_id"] == [f"{by_column['id']}.{i}" for i in range(30)]
    assert by_column["actions"] == ["dismiss", "biopsy", "defer"]


async def test_features_outside_their_plausible_range_are_evidence_in_columns(
    client: httpx.AsyncClient, example_row: list[float]
) -> None:
    rows = [example_row, [*example_row[:-2], -5.0, 1e6]]
    by_column = await ask(client, "breast-cancer", "detect", rows, layout="columns")
    evidence = by_column["columns"]["ood.evidence"]
    assert evidence[0] == []
    assert evidence[1][0]["rule"] == "range"
    assert len(evidence[1][0]["features"]) == 2
