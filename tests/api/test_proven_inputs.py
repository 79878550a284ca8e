"""What an import proved of the inputs is a client's 422, with the range, through every door."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.repository import Repository
from service.errors import ServiceError
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.registry import load_registry
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.graph.mutants import seeds


@pytest.fixture
def proven(tmp_path: Path) -> Repository:
    """Columns of codes that share a table behind offsets, and a number beside a text."""
    repository = Repository(tmp_path / "models")
    for name in ("offsets", "mixed"):
        (tmp_path / f"{name}.onnx").write_bytes(seeds()[name].SerializeToString())
        import_model(repository, name, tmp_path / f"{name}.onnx", Declared())
        publish_draft(repository, name)
    return repository


@pytest.mark.parametrize("row", [[4, 2, 1], {"x0": 4, "x1": 2, "x2": 1}])
async def test_a_code_outside_its_range_is_422_with_the_range(
    row: Any, client_of: Callable[..., httpx.AsyncClient], proven: Repository
) -> None:
    async with client_of(load_registry(proven)) as client:
        answer = await client.post("/v1/models/offsets:predict", json={"instances": [[3, 2, 1], row]})
        assert answer.status_code == 422
        assert "'x0': must lie between 0 and 3" in answer.json()["detail"]
        assert answer.json()["errors"][0]["code"] == "not-allowed"
        tensor = {"name": "c", "datatype": "INT64", "shape": [1, 3], "data": [3, 3, 1]}
        answer = await client.post("/v2/models/offsets/infer", json={"inputs": [tensor]})
        assert answer.status_code >= 400
        assert "'x1': must lie between 0 and 2" in answer.json()["error"]


@pytest.mark.parametrize("sex", ["", "x"])
async def test_a_text_that_the_encoder_does_not_know_is_422(
    sex: str, client_of: Callable[..., httpx.AsyncClient], proven: Repository
) -> None:
    async with client_of(load_registry(proven)) as client:
        rows = [{"age": 51.0, "sex": sex}]
        answer = await client.post("/v1/models/mixed:predict", json={"instances": rows})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["code"] == "unknown-category"


def test_a_file_with_a_code_outside_its_range_is_refused_with_the_range(proven: Repository, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x0,x1,x2\n3,2,1\n0,0,2\n")
    model = load_registry(proven).model("offsets")
    with pytest.raises(ServiceError, match=r"'x2'.*must lie between 0 and 1"):
        score(model, ScoreRequest(tmp_path / "rows.csv", tmp_path / "out.csv"))
