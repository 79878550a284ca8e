"""Doctests of the package may say `np` without importing it; those of training need torch, which is in no lock."""

from importlib.util import find_spec

import numpy as np
import pytest

collect_ignore_glob = [] if find_spec("torch") else ["service/training/*.py", "tests/training/[!t]*.py"]


@pytest.fixture(autouse=True)
def _numpy_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["np"] = np
