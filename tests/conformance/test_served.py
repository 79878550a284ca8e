"""Every real export, imported, published, loaded and asked over HTTP: it answers what its own toolchain answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.repository import Repository
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.main import compose
from service.runtime.registry import load_registry
from service.settings import Settings
from tests.conformance.case import Case
from tests.conformance.exporters import EXPORTERS


@pytest.fixture
def served(tmp_path: Path) -> Callable[[Case], httpx.AsyncClient]:
    """Takes an export the whole way, and returns a client of it."""

    def serve(case: Case) -> httpx.AsyncClient:
        repository = Repository(tmp_path / "models")
        repository.root.mkdir()
        import_model(repository, "real", case.path, Declared(**case.flags))
        publish_draft(repository, "real")
        application = compose(Settings(), load_registry(repository))
        return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://temperance")

    return serve


@pytest.mark.parametrize("name", EXPORTERS)
async def test_an_export_answers_over_http_as_its_toolchain_does(
    name: str, exported: Callable[[str], Case], served: Callable[[Case], httpx.AsyncClient]
) -> None:
    case = exported(name)
    async with served(case) as client:
        answer = await client.post("/v1/models/real:predict", json={"instances": case.instances})
        assert answer.status_code == 200, answer.text
        described = (await client.get("/v1/models/real")).json()
    assert tuple(described["classes"]) == case.classes
    for row, expected in zip(answer.json()["predictions"], case.expected, strict=True):
        np.testing.assert_allclose(spoken(row, case.classes), present(expected), atol=case.tolerance)


def spoken(row: dict[str, Any], classes: tuple[str, ...]) -> list[Any]:
    """Probabilities of one answer in the classes' order, of a sequence by position."""
    said = row["probabilities"]
    if isinstance(said, list):
        return [[position[c] for c in classes] for position in said]
    return [said[c] for c in classes]


def present(expected: Any) -> Any:
    """What is expected without the positions that are padding."""
    return expected[~np.isnan(expected).any(axis=-1)] if expected.ndim == 2 else expected
