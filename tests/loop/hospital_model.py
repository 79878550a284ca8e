"""A model made and calibrated at the first hospital, as a repository that can be served.

Tested in tests/loop/test_loop.py.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.importer.declared import Declared
from service.importer.import_model import import_model
from tests.loop.hospitals import CLASSES, FEATURES, TRAINING_ROWS, Patients, rotterdam, train

NAME: Final = "recurrence"
TEMPERANCE: Final = Path(sys.executable).with_name("temperance")
DECLARED: Final = """
[policies.chemotherapy]
[policies.chemotherapy.costs]
observe = { free = 0, event = 3 }
treat = { free = 1, event = 1 }

[change_protocol]
least_events = 50
"""
"""To miss an event costs three times what a treatment does."""


def make(folder: Path) -> Path:
    """Train on Rotterdam, calibrate on other patients of Rotterdam, publish as `stable`; the repository."""
    models, patients = folder / "models", shuffled(rotterdam())
    models.mkdir()
    graph = train(patients.some(slice(TRAINING_ROWS)), folder / "network.onnx")
    declared = Declared(
        output="probabilities", output_kind="probabilities", task="multiclass", classes=CLASSES, features=FEATURES
    )
    import_model(Repository(models), NAME, graph, declared)
    manifest = models / NAME / "draft" / MANIFEST_FILE
    manifest.write_text(manifest.read_text() + DECLARED)
    calibration = patients.some(slice(TRAINING_ROWS, None)).write_csv(folder / "calibration.csv")
    command("fit", NAME, "--data", str(calibration), "--models", str(models))
    return models


def command(*arguments: str, **environment: str) -> str:
    """Run the command as its users do; what it prints."""
    made = subprocess.run(
        [str(TEMPERANCE), *arguments], check=False, capture_output=True, text=True, env=_with(environment)
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


def _with(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")} | environment


def shuffled(patients: Patients, seed: int = 0) -> Patients:
    """In another order: the study's own follows what happened."""
    return patients.some(np.random.default_rng(seed).permutation(len(patients)))
