"""Whether prevalence can be told, before any request."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.record import EstimationRecord, PrevalenceRecord
from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.errors import EstimateUnavailable
from service.evaluation.dataset import Dataset
from service.evaluation.fit import FitRequest, fit
from service.evaluation.prevalence import (
    CONFUSION,
    MOST_CLASSES,
    NOT_RETURNED,
    chance_of_flags,
    check_estimation,
    estimate,
)
from service.evaluation.scoring import posterior_of
from service.runtime.model import load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]

UNKNOWN = PrevalenceRecord(basis="unknown", prevalence=None)


def calibrated(n: int, k: int, *, seed: int = 0) -> tuple[Array, Dataset]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n)
    labels: Indices = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return np.log(p), Dataset(p, labels, None, None, "")


def source_of(data: Dataset, k: int) -> PrevalenceRecord:
    shares = np.bincount(data.labels, minlength=k) / len(data)
    return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(names(k), shares.tolist(), strict=True)))


def names(k: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(k))


@pytest.mark.parametrize("k", [2, 4])
def test_calibrated_rows_allow_estimates_and_leave_their_confusion_matrix(k: int) -> None:
    log_probs, data = calibrated(800, k)
    record, state = check_estimation(log_probs, data, source_of(data, k), names(k))
    assert record.obstacle is None
    expected = np.stack([np.exp(log_probs)[data.labels == c].mean(axis=0) for c in range(k)], axis=1)
    np.testing.assert_allclose(state[CONFUSION].astype(np.float64), expected, rtol=1e-12)
    assert record.condition == pytest.approx(np.linalg.cond(expected))
    assert record.miss is not None
    assert max(record.miss["bbse"]) < 1e-12  # on its own rows it has nothing to miss


def test_a_declared_source_that_is_not_the_rows_own_is_no_obstacle() -> None:
    log_probs, data = calibrated(800, 2)
    elsewhere = np.array([0.9, 0.1])
    own = np.bincount(data.labels) / len(data)
    tilted = log_probs + np.log(elsewhere / own)
    tilted -= np.log(np.exp(tilted).sum(axis=1, keepdims=True))
    declared = PrevalenceRecord(basis="declared", prevalence={"c0": 0.9, "c1": 0.1})
    assert check_estimation(tilted, data, declared, names(2))[0].obstacle is None
    wrong = check_estimation(log_probs, data, declared, names(2))[0].obstacle
    assert wrong is not None
    assert "EM on the calibration rows" in wrong


def test_weights_that_change_the_classes_alone_are_no_obstacle() -> None:
    log_probs, data = calibrated(800, 2)
    weights = np.where(data.labels == 1, 3.0, 1.0)
    shares = np.bincount(data.labels, weights=weights) / weights.sum()
    own = np.bincount(data.labels) / len(data)
    weighted = log_probs + np.log(shares / own)
    weighted -= np.log(np.exp(weighted).sum(axis=1, keepdims=True))
    source = PrevalenceRecord(basis="calibration_rows", prevalence={"c0": shares[0], "c1": shares[1]})
    rows = Dataset(data.rows, data.labels, None, weights, "")
    assert check_estimation(weighted, rows, source, names(2))[0].obstacle is None


def test_what_stands_against_estimates_is_said_in_words_and_nothing_is_stored() -> None:
    log_probs, data = calibrated(300, 2)
    alike, flat = np.log(np.full((300, 2), 0.5)), PrevalenceRecord(basis="declared", prevalence={"c0": 0.5, "c1": 0.5})
    single = Dataset(data.rows, np.zeros(300, dtype=np.intp), None, None, "")
    many, more = calibrated(400, MOST_CLASSES + 1)
    obstacles = {
        "which prevalence": check_estimation(log_probs, data, UNKNOWN, names(2)),
        "condition number": check_estimation(alike, data, flat, names(2)),
        "no calibration row is of class 'c1'": check_estimation(log_probs, single, flat, names(2)),
    }
    if len(np.unique(more.labels)) == MOST_CLASSES + 1:
        found = check_estimation(many, more, source_of(more, MOST_CLASSES + 1), names(MOST_CLASSES + 1))
        obstacles["100 classes at most"] = found
    for words, (record, state) in obstacles.items():
        assert words in (record.obstacle or "")
        assert state == {}


def test_a_rare_class_is_not_missed_where_only_some_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.evaluation import prevalence

    monkeypatch.setattr(prevalence, "MOST_CELLS", 100)
    labels = np.zeros(1001, dtype=np.intp)
    labels[::7] = 1
    labels[::21] = 0  # the rows that are looked at, but for the first of each class
    shares = np.bincount(labels) / len(labels)
    record, _ = check_estimation(
        np.log(np.tile(shares, (1001, 1))) + 0.2 * (labels[:, None] == [0, 1]),
        Dataset(np.zeros((1001, 2)), labels, None, None, ""),
        PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(names(2), shares.tolist(), strict=True))),
        names(2),
    )
    assert "no calibration row" not in (record.obstacle or "")


@pytest.mark.parametrize(("m", "rows", "rate"), [(99, 30, 0.1), (999, 200, 0.05)])
def test_the_chance_of_flags_is_that_of_the_beta_binomial_law(m: int, rows: int, rate: float) -> None:
    from scipy.stats import betabinom

    share = rate * (m + 1)
    for flags in (0, 1, 5, rows):
        expected = betabinom.sf(flags - 1, rows, share, m + 1 - share)
        assert chance_of_flags(flags, rows=rows, rate=rate, calibrated_on=m) == pytest.approx(expected, rel=1e-8)


def test_no_promise_at_all_still_forgives_a_single_flag() -> None:
    assert chance_of_flags(1, rows=100, rate=0.0, calibrated_on=100) > 0.1
    assert chance_of_flags(60, rows=100, rate=0.0, calibrated_on=100) < 1e-9


@pytest.mark.parametrize(("calibrator", "advised"), [("temperature", True), ("bcts", False)])
def test_a_calibrator_that_is_there_is_not_advised_again(
    calibrator: str,
    advised: bool,  # noqa: FBT001  # pytest passes it by name
    toy: Toy,
    truth: Truth,
    save: Save,
) -> None:
    x, y = truth(400)
    repository = toy(2)
    version = fit(repository, "toy", FitRequest(save(X=x, y=y), calibrator=calibrator)).version
    model = load_model(repository.bundle("toy", version))
    record = model.bundle.record
    assert record is not None
    blocked = record.model_copy(update={"estimation": EstimationRecord(obstacle=NOT_RETURNED)})
    model = dataclasses.replace(model, bundle=dataclasses.replace(model.bundle, record=blocked))
    with pytest.raises(EstimateUnavailable) as raised:
        estimate(model, posterior_of(model, x))
    assert ("--calibrator" in str(raised.value)) == advised
