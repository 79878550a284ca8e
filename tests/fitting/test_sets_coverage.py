"""Label sets hold what they state, whatever calibrates the version: by simulation over whole fits.

The full grid of the documentation's table is ``python -m pytest -m simulation tests/evaluation/test_sets_coverage.py``.
"""

import dataclasses
import math
from collections import defaultdict

import numpy as np
import pytest

from service.bundle.conformity import Kind, restore_sets
from service.core.calibration import CALIBRATORS
from service.core.label_sets import METHODS, LabelSets, own_log_probs
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset
from service.fitting.label_sets import fit_sets

COVERAGE = 0.9
NEW = 200
KINDS: tuple[Kind, ...] = ("class_conditional", "marginal")


def draw(n: int, k: int, rng: np.random.Generator, *, prevalence: Array | None = None) -> tuple[Array, Indices]:
    """Logits of an over-confident, biased model, and labels whose last class is rare."""
    rare = np.append(np.full(k - 1, 0.85 / (k - 1)), 0.15)
    labels = rng.choice(k, size=n, p=rare if prevalence is None else prevalence)
    signal = rng.normal(size=(n, k)) + 1.6 * np.eye(k)[labels]
    return 3.2 * signal + np.linspace(-1.0, 1.0, k), labels


def fitted_sets(logits: Array, labels: Indices, *, method: str) -> dict[str, LabelSets]:
    """Sets of every kind as they come back from a version's state; ``weighted`` at a uniform prevalence."""
    k = logits.shape[1]
    data = Dataset(logits, labels, None, None, "")
    record, state = fit_sets(logits, data, tuple(map(str, range(k))), method=method)
    found = {kind: restore_sets(kind, state, method=record.method) for kind in KINDS}
    sets: dict[str, LabelSets] = {kind: one for kind, one in found.items() if one is not None}
    sets["weighted"] = dataclasses.replace(sets["class_conditional"], prevalence=np.full(k, 1.0 / k))
    return sets


def coverages(calibrator: str, *, k: int, n: int, trials: int) -> dict[tuple[str, str], Array]:
    """Coverage of new rows in every trial, by method and kind, and of every class where sets are to hold within it."""
    held: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in range(trials):
        rng = np.random.default_rng([trial, k, n])
        (logits, labels), (new, truth) = draw(n, k, rng), draw(NEW, k, rng)
        even, its_truth = draw(NEW, k, rng, prevalence=np.full(k, 1.0 / k))
        served = CALIBRATORS[calibrator].fit(logits, labels)
        for method in METHODS:
            for kind, sets in fitted_sets(logits, labels, method=method).items():
                x, y = (new, truth) if kind == "marginal" else (even, its_truth)
                top = served.apply(x).argmax(axis=1)
                found = sets.predict(own_log_probs(x), coverage=COVERAGE, top=top)
                hit = found.members[np.arange(NEW), y]
                parts = {f"class {c}": y == c for c in range(k)} if kind == "class_conditional" else {}
                for name, rows in {kind: y >= 0, **parts}.items():
                    held[method, name].append(float(hit[rows].mean()))
    return {key: np.array(values) for key, values in held.items()}


def assert_covered(calibrator: str, *, k: int, n: int, trials: int) -> None:
    for key, rates in coverages(calibrator, k=k, n=n, trials=trials).items():
        noise = 4.0 * rates.std() / math.sqrt(trials)
        assert rates.mean() >= COVERAGE - noise, (calibrator, k, n, key)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_sets_cover_under_every_calibrator(calibrator: str) -> None:
    k = 2 if CALIBRATORS[calibrator].needs == "binary" else 3
    assert_covered(calibrator, k=k, n=100, trials=60)


@pytest.mark.simulation
@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("n", [100, 200, 1000])
def test_sets_cover_in_the_full_grid(calibrator: str, k: int, n: int) -> None:
    if k > 2 and CALIBRATORS[calibrator].needs == "binary":
        pytest.skip("for two classes")
    assert_covered(calibrator, k=k, n=n, trials=100 if n == 1000 else 300)
