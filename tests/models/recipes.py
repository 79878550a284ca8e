"""The recipes of the shipped models, found on the disk."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from service.training.failures import MissingData

MODELS: Final = Path(__file__).parents[2] / "models"
OLDEST: Final = "breast-cancer"
"""Older than the training kit: its recipe and card are checked in `test_breast_cancer.py`."""
RECIPES: Final = sorted(path.parent.name for path in MODELS.glob("*/recipe.py"))
TAUGHT: Final = [name for name in RECIPES if name != OLDEST]
"""Each of these shows one technique."""


def recipe(name: str) -> ModuleType:
    """The recipe as a module; skips the test where the extra `train` is not installed."""
    for package in ("torch", "gymnasium", "gemmi", "pydssp"):
        pytest.importorskip(package, reason="needs the extra `train`")
    spec = importlib.util.spec_from_file_location(f"recipe_of_{name.replace('-', '_')}", MODELS / name / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def splits(module: ModuleType) -> dict[str, Any]:
    """What the recipe splits its data into; skips the test where they are not installed."""
    try:
        loaded: dict[str, Any] = module.load()
    except MissingData as missing:
        pytest.skip(str(missing))
    return loaded


def metrics(name: str, models: Path = MODELS) -> dict[str, Any]:
    """What a card's numbers are taken from."""
    found: dict[str, Any] = json.loads((models / name / "metrics.json").read_text(encoding="utf-8"))
    return found
