"""Models of every kind, served in process or by a process."""

import pytest

from service.bundle.repository import Repository
from service.runtime.registry import Registry, load_registry
from tests.api.v2.models import write_repository


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a model of every kind."""
    return write_repository(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="session")
def kinds(every_kind: Repository) -> Registry:
    """The same models, loaded."""
    return load_registry(every_kind)
