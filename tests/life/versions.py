"""Versions of the shipped model that answer differently, published by the code of any checkout.

As a script, ``python tests/life/versions.py CHECKOUT MODELS COUNT`` imports nothing of the tests, so that another
checkout's `service` can be the one that publishes.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

from service.bundle.repository import Repository
from service.bundle.writer import create_draft, draft_files
from service.fitting.fit import FitRequest, fit

NAME: Final = "breast-cancer"
FITS: Final = (("test", "temperature"), ("calibration", "bcts"), ("test", "platt"))
"""Rows and method of the versions after the shipped one."""


def publish_versions(checkout: Path, models: Path, count: int) -> None:
    """Copy a checkout's shipped model, and fit it again in different ways; `stable` stays where it is."""
    shutil.copytree(checkout / "models" / NAME, models / NAME, ignore=shutil.ignore_patterns("__pycache__"))
    repository, recipe = Repository(models), _recipe(checkout)
    first = repository.aliases(NAME)["stable"]
    with tempfile.TemporaryDirectory() as scratch:
        recipe.write_data(Path(scratch), *recipe.load_splits())
        for rows, calibrator in FITS[: count - 1]:
            create_draft(repository, NAME, draft_files(repository.bundle(NAME, first)))
            data, training = (Path(scratch) / f"{name}.csv" for name in (rows, "train"))
            fit(repository, NAME, FitRequest(data, train_data=training, calibrator=calibrator))


def _recipe(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", checkout / "models" / NAME / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe"] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    publish_versions(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
