"""What weights and groups mean, the same everywhere: a weight of two is the row twice in one group.

Four ways of saying the same must lead to the same verdicts: equal weights and none, groups of one row and none, a row
of weight two and the row twice in its group, every row twice in its group and every row once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.record import Record
from service.bundle.repository import Repository
from service.core import prior
from service.core.calibration import CALIBRATORS
from service.core.calibration.auto import choose
from service.core.numerics import Array, Indices, log_softmax
from service.core.sampling import mean_and_error
from service.fitting.fit import FitRequest, fit

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]

N = 300


def learned(toy: Toy, data: Path, *, calibrator: str = "auto", k: int = 2) -> Record:
    return fit(toy(k), "toy", FitRequest(data, calibrator=calibrator)).record


def verdicts(record: Record) -> dict[str, Any]:
    """What a person acts on, without counts of rows in the file."""
    return {
        "status": record.status,
        "chain": record.chain,
        "basis": record.source.basis,
        "chosen": [name for name, one in record.candidates.items() if one.chosen],
        "warnings": record.provenance.warnings,
        "thresholds": {name: pytest.approx(one.threshold, rel=1e-6) for name, one in record.scores.items()},
        "threshold_rows": {name: one.rows for name, one in record.scores.items()},
    }


def numbers(record: Record, *, rel: float) -> dict[str, Any]:
    """Losses and parameters, within what regularisation of few rows leaves open."""
    return {
        "before": pytest.approx(record.provenance.before["log_loss"], rel=rel),
        "after": pytest.approx(record.provenance.after_out_of_fold["log_loss"], rel=rel),
        "errors": {
            name: pytest.approx(one.excess_standard_error, rel=rel, abs=5e-4) for name, one in record.candidates.items()
        },
    }


@pytest.mark.parametrize("calibrator", ["auto", *CALIBRATORS])
def test_equal_weights_are_no_weights(calibrator: str, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(N)
    plain = learned(toy, save("plain", X=x, y=y), calibrator=calibrator)
    weighted = learned(toy, save("weighted", X=x, y=y, weight=np.full(N, 7.0)), calibrator=calibrator)
    assert verdicts(weighted) == verdicts(plain)
    assert numbers(weighted, rel=1e-9) == numbers(plain, rel=1e-9)


@pytest.mark.parametrize("calibrator", ["auto", *CALIBRATORS])
def test_groups_of_one_are_no_groups_whatever_they_are_called(
    calibrator: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(N)
    names = np.random.default_rng(0).permutation(N).astype(str)
    plain = learned(toy, save("plain", X=x, y=y), calibrator=calibrator)
    grouped = learned(toy, save("grouped", X=x, y=y, group=names), calibrator=calibrator)
    assert [text.replace("groups", "rows") for text in verdicts(grouped).pop("warnings")] == list(
        verdicts(plain).pop("warnings")
    )
    assert verdicts(grouped)["thresholds"] == verdicts(plain)["thresholds"]
    assert numbers(grouped, rel=1e-9) == numbers(plain, rel=1e-9)


@pytest.mark.parametrize("calibrator", ["auto", *CALIBRATORS])
def test_every_row_twice_in_one_group_says_what_every_row_once_says(
    calibrator: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(N)
    once = learned(toy, save("once", X=x, y=y, group=np.arange(N)), calibrator=calibrator)
    twice = learned(
        toy, save("twice", X=np.tile(x, (2, 1)), y=np.tile(y, 2), group=np.tile(np.arange(N), 2)), calibrator=calibrator
    )
    assert verdicts(twice) == verdicts(once)
    assert numbers(twice, rel=2e-2) == numbers(once, rel=2e-2)


@pytest.mark.parametrize("calibrator", ["auto", *CALIBRATORS])
def test_a_weight_of_two_is_the_row_twice_in_its_group(calibrator: str, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(N)
    heavy = np.arange(N) % 3 == 0
    weighted = learned(
        toy, save("weighted", X=x, y=y, weight=np.where(heavy, 2.0, 1.0), group=np.arange(N)), calibrator=calibrator
    )
    rows = np.concatenate([np.arange(N), np.flatnonzero(heavy)])
    doubled = learned(toy, save("doubled", X=x[rows], y=y[rows], group=rows), calibrator=calibrator)
    assert verdicts(doubled) == verdicts(weighted)
    assert numbers(doubled, rel=2e-2) == numbers(weighted, rel=2e-2)


@pytest.mark.parametrize("calibrator", ["auto", "shrinkage", *CALIBRATORS])
def test_rows_of_no_weight_are_no_rows_even_where_few_have_any(
    calibrator: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(N)
    weight = (np.arange(N) % 9 == 0).astype(float)
    weight[np.argsort(y)[[0, 1, -1, -2]]] = 1.0
    some = weight > 0.0
    weighted = learned(toy, save("weighted", X=x, y=y, weight=weight), calibrator=calibrator)
    alone = learned(toy, save("alone", X=x[some], y=y[some]), calibrator=calibrator)
    assert weighted.chain == alone.chain
    assert weighted.status == alone.status
    assert weighted.support == alone.support
    assert numbers(weighted, rel=1e-6) == numbers(alone, rel=1e-6)


# --------------------------------------------------------------------------------------------------------- simulations


def near_copies(n: int, copies: int, *, seed: int) -> tuple[Array, Indices, Indices]:
    """Calibrated binary log-probabilities, labels and groups: every draw ``copies`` times, moved a little."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=n)
    labels = (rng.random(n) < 1.0 / (1.0 + np.exp(-logits))).astype(np.intp)
    moved = np.repeat(logits, copies) + rng.normal(scale=0.05, size=n * copies)
    log_probs = log_softmax(np.stack([np.zeros_like(moved), moved], axis=1))
    return log_probs, np.repeat(labels, copies), np.repeat(np.arange(n), copies)


def test_a_calibrated_source_is_known_though_rows_come_in_near_copies() -> None:
    verdict = {True: 0, False: 0}
    for seed in range(200):
        log_probs, labels, groups = near_copies(100, 20, seed=seed)
        found = prior.mean_agrees(log_probs, np.bincount(labels, minlength=2) / len(labels), groups=groups)
        verdict[found] += 1
    assert verdict[False] <= 2  # 4 standard errors; 43 to 80 % when rows were taken to be independent


def test_auto_leaves_the_identity_no_more_often_when_rows_come_in_near_copies() -> None:
    candidates = {name: CALIBRATORS[name] for name in ("identity", "temperature", "bcts")}
    left = 0
    for seed in range(200):
        log_probs, labels, groups = near_copies(100, 10, seed=seed)
        folds = np.random.default_rng(seed).permutation(100) % 5
        found = choose(log_probs, labels, candidates=candidates, folds=folds[groups], groups=groups)
        left += found.winner != "identity"
    assert left <= 15  # 7.5 %


def test_a_standard_error_covers_whatever_weights_and_groups_there_are() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        sizes = rng.integers(1, 6, size=80)
        groups = np.repeat(np.arange(80), sizes)
        values = rng.normal(size=80)[groups] + 0.3 * rng.normal(size=len(groups))
        mean, error = mean_and_error(values, weights=rng.uniform(0.5, 2.0, len(groups)), groups=groups)
        covered += abs(mean) <= 1.96 * error
    assert 360 <= covered <= 396  # 380 expected, less the little that 80 groups cost
