"""Exports are made once for all tests of a run."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.conformance.case import Case
from tests.conformance.exporters import export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """An export by its name; do not change what it hands out."""
    return cache(lambda name: export(name, tmp_path_factory.mktemp(name)))
