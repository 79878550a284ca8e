import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.drafts import open_draft
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.errors import BundleDamaged, BundleNotFound
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model

IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
SHIPPED = "breast-cancer"


def manifest_text(repository: Repository) -> str:
    return (repository.root / SHIPPED / "draft" / MANIFEST_FILE).read_text()


def test_a_draft_starts_from_stable_or_from_the_version_that_is_named(repository: Repository, draft: Path) -> None:
    (draft / MANIFEST_FILE).write_text(manifest_text(repository).replace("malignant = 50", "malignant = 60"))
    assert publish_draft(repository, SHIPPED).version == 2
    for version, price in ((None, 50), (2, 60), (1, 50)):
        path = open_draft(repository, SHIPPED, version)
        costs = tomllib.loads((path / MANIFEST_FILE).read_text())["policies"]["biopsy"]["costs"]
        assert costs["dismiss"]["malignant"] == price
        publish_draft(repository, SHIPPED)


def test_a_draft_needs_a_version_to_start_from(repository: Repository, linear_graph: Callable[..., Path]) -> None:
    import_model(repository, "m", linear_graph(*IDENTITY), Declared())
    with pytest.raises(BundleNotFound, match="no published version to start from"):
        open_draft(repository, "m")


def test_a_damaged_version_is_no_start(repository: Repository) -> None:
    (repository.root / SHIPPED / "1" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleDamaged):
        open_draft(repository, SHIPPED)
    assert not (repository.root / SHIPPED / "draft").exists()
