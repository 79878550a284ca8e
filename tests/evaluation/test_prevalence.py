"""Whether prevalence can be told, before any request."""

import numpy as np
import pytest

from service.bundle.record import EstimationRecord, PrevalenceRecord, State
from service.bundle.reference_sample import restore_sample
from service.core.numerics import Array, Indices
from service.evaluation.dataset import Dataset
from service.evaluation.prevalence import MOST_CLASSES, check_estimation

UNKNOWN = PrevalenceRecord(basis="unknown", prevalence=None)


def calibrated(n: int, k: int, *, seed: int = 0) -> tuple[Array, Dataset]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n)
    labels: Indices = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return np.log(p), Dataset(p, labels, None, None, "")


def source_of(data: Dataset, k: int) -> PrevalenceRecord:
    shares = np.bincount(data.labels, minlength=k) / len(data)
    return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(names(k), shares.tolist(), strict=True)))


def check(log_probs: Array, data: Dataset, source: PrevalenceRecord, k: int) -> tuple[EstimationRecord, State]:
    return check_estimation(log_probs, data, source, names(k), gate=np.ones(len(data), dtype=np.intp))


def names(k: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(k))


@pytest.mark.parametrize("k", [2, 4])
def test_calibrated_rows_allow_estimates_and_leave_what_estimates_are_compared_with(k: int) -> None:
    log_probs, data = calibrated(800, k)
    record, state = check(log_probs, data, source_of(data, k), k)
    assert record.obstacle is None
    expected = np.stack([np.exp(log_probs)[data.labels == c].mean(axis=0) for c in range(k)], axis=1)
    assert record.condition == pytest.approx(np.linalg.cond(expected))
    found = restore_sample(state)
    assert found is not None
    np.testing.assert_allclose(found[0].confusion, expected, rtol=1e-6)
    shares = np.bincount(data.labels) / 800
    assert record.source_error == pytest.approx(np.sqrt(shares * (1.0 - shares) / 799))


def test_a_declared_source_that_is_not_the_rows_own_is_no_obstacle() -> None:
    log_probs, data = calibrated(800, 2)
    elsewhere = np.array([0.9, 0.1])
    own = np.bincount(data.labels) / len(data)
    tilted = log_probs + np.log(elsewhere / own)
    tilted -= np.log(np.exp(tilted).sum(axis=1, keepdims=True))
    declared = PrevalenceRecord(basis="declared", prevalence={"c0": 0.9, "c1": 0.1})
    assert check(tilted, data, declared, 2)[0].obstacle is None
    wrong = check(log_probs, data, declared, 2)[0].obstacle
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
    assert check(weighted, rows, source, 2)[0].obstacle is None


def test_what_stands_against_estimates_is_said_in_words_and_nothing_is_stored() -> None:
    log_probs, data = calibrated(300, 2)
    alike, flat = np.log(np.full((300, 2), 0.5)), PrevalenceRecord(basis="declared", prevalence={"c0": 0.5, "c1": 0.5})
    single = Dataset(data.rows, np.zeros(300, dtype=np.intp), None, None, "")
    many, more = calibrated(400, MOST_CLASSES + 1)
    obstacles = {
        "which prevalence": check(log_probs, data, UNKNOWN, 2),
        "condition number": check(alike, data, flat, 2),
        "no calibration row is of class 'c1'": check(log_probs, single, flat, 2),
    }
    if len(np.unique(more.labels)) == MOST_CLASSES + 1:
        found = check(many, more, source_of(more, MOST_CLASSES + 1), MOST_CLASSES + 1)
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
    record, _ = check(
        np.log(np.tile(shares, (1001, 1))) + 0.2 * (labels[:, None] == [0, 1]),
        Dataset(np.zeros((1001, 2)), labels, None, None, ""),
        PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(names(2), shares.tolist(), strict=True))),
        2,
    )
    assert "no calibration row" not in (record.obstacle or "")
