"""Every real export, imported, published, loaded and called over HTTP: it returns what its own toolchain returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.v1.instances import InstanceReader
from service.bundle.repository import Repository
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.main import compose
from service.runtime.inputs import Inputs
from service.runtime.registry import Registry, load_registry
from service.runtime.rows import Fields, Rows
from service.settings import Settings
from tests.conformance.case import Case
from tests.conformance.exporters import EXPORTERS


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[Case], Registry]:
    """Takes an export the whole way, and loads it."""

    def load(case: Case) -> Registry:
        repository = Repository(tmp_path / "models")
        repository.root.mkdir()
        import_model(repository, "real", case.path, Declared(**case.flags))
        publish_draft(repository, "real")
        return load_registry(repository)

    return load


def client_of(registry: Registry) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(compose(Settings(audit="off"), registry))
    return httpx.AsyncClient(transport=transport, base_url="http://temperance")


@pytest.mark.parametrize("name", EXPORTERS)
async def test_an_export_answers_over_http_as_its_toolchain_does(
    name: str, exported: Callable[[str], Case], loaded: Callable[[Case], Registry]
) -> None:
    case = exported(name)
    async with client_of(loaded(case)) as client:
        answer = await client.post("/v1/models/real:predict", json={"instances": case.instances})
        assert answer.status_code == 200, answer.text
        described = (await client.get("/v1/models/real")).json()
    assert tuple(described["classes"]) == case.classes
    for row, expected in zip(answer.json()["predictions"], case.expected, strict=True):
        np.testing.assert_allclose(spoken(row, case.classes), present(expected), atol=case.tolerance)


@pytest.mark.parametrize("name", EXPORTERS)
async def test_an_export_answers_tensors_as_it_answers_rows(
    name: str, exported: Callable[[str], Case], loaded: Callable[[Case], Registry]
) -> None:
    case = exported(name)
    registry = loaded(case)
    inputs = registry.model("real").inputs
    tensors = tensors_of(InstanceReader(inputs, most=100).parse(case.instances), inputs)
    async with client_of(registry) as client:
        rows = (await client.post("/v1/models/real:predict", json={"instances": case.instances})).json()
        answer = await client.post("/v2/models/real/infer", json={"inputs": tensors})
        assert answer.status_code == 200, answer.text
        described = (await client.get("/v2/models/real")).json()
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    found = np.array(outputs["probabilities"]["data"], dtype=np.float64).reshape(outputs["probabilities"]["shape"])
    for own, row in zip(found, rows["predictions"], strict=True):
        np.testing.assert_array_equal(present(own), spoken(row, case.classes))
    names = {entry["name"] for entry in described["inputs"]}
    assert names <= {tensor["name"] for tensor in tensors} <= {*names, "lengths"}
    assert outputs.keys() == {entry["name"] for entry in described["outputs"]}


def tensors_of(rows: Rows, inputs: Inputs) -> list[dict[str, Any]]:
    """Rows as `/v2` takes them, a tensor for every input of the graph."""
    numbers = rows.numbers if isinstance(rows, Fields) else rows
    others = rows.others if isinstance(rows, Fields) else {}
    columns = dict(zip(inputs.columns, numbers.T, strict=True)) | others
    found = {
        entry.name: columns[entry.name] if entry.shape else np.stack([columns[cell] for cell in entry.cells], axis=1)
        for entry in inputs.entries
    }
    if isinstance(rows, Fields) and rows.lengths is not None:
        found["lengths"] = rows.lengths
    return [_tensor(name, np.asarray(values)) for name, values in found.items()]


def _tensor(name: str, values: Any) -> dict[str, Any]:
    kinds = {"O": "BYTES", "b": "BOOL", "f": "FP64", "i": "INT64", "u": "UINT64"}
    data = [None if cell is None or cell != cell else cell for cell in values.ravel().tolist()]  # noqa: PLR0124  # NaN
    return {"name": name, "shape": list(values.shape), "datatype": kinds[values.dtype.kind], "data": data}


def spoken(row: dict[str, Any], classes: tuple[str, ...]) -> list[Any]:
    """Probabilities of one answer in the classes' order, of a sequence by position."""
    answered = row["probabilities"]
    if isinstance(answered, list):
        return [[position[c] for c in classes] for position in answered]
    return [answered[c] for c in classes]


def present(expected: Any) -> Any:
    """What is expected without the positions that are padding."""
    return expected[~np.isnan(expected).any(axis=-1)] if expected.ndim == 2 else expected
