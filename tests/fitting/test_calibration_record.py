import hashlib
from pathlib import Path

import numpy as np
import pytest

from service.bundle.record import Record
from service.core.assessment.metrics import METRICS, all_metrics
from service.core.numerics import Indices, log_softmax
from service.data.dataset import Dataset
from service.fitting.splits import FOLDS, folds_of
from tests.fitting.fitted import BOTH, Save, Toy, Truth, fitted, independent_temperature, temperature


def dataset(groups: Indices | None, n: int = 200) -> Dataset:
    indices = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.intp)
    return Dataset(np.zeros((n, 2)), np.zeros(n, dtype=np.intp), indices, None, "sha256:0")


def test_groups_are_counted_and_give_one_threshold_row_each(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(600)
    groups = np.random.default_rng(0).integers(0, 100, 600)
    record = fitted(toy(), save(X=x, y=y, group=groups)).record
    assert record.provenance.groups == 100
    assert record.scores["nll"].rows == 100


def test_rows_repeated_within_a_group_do_not_narrow_the_interval(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(150)
    many, labels, groups = np.repeat(x, 8, axis=0), np.repeat(y, 8), np.repeat(np.arange(150), 8)
    once = fitted(toy(), save("once", X=x, y=y)).record
    grouped = fitted(toy(), save("grouped", X=many, y=labels, group=groups)).record
    naive = fitted(toy(), save("naive", X=many, y=labels)).record

    def width(record: Record) -> float:
        low, high = record.calibrator.interval["temperature"]
        assert high is not None
        return high - low

    assert width(grouped) == pytest.approx(width(once), rel=0.1)
    assert width(naive) < 0.5 * width(once)


def test_the_record_says_where_it_comes_from(toy: Toy, truth: Truth, save: Save) -> None:
    (x, y), (tx, ty) = truth(300, 3), truth(200, 3, seed=1)
    data, train = save(X=x, y=y), save("train", X=tx, y=ty)
    tail = f'{BOTH}gate = ["nll", "mahalanobis", "range"]\n[features.f0]\nplausible = [-8.0, 8.0]\n'
    repository = toy(3, tail)
    record = fitted(repository, data, train_data=train, seed=5).record
    provenance = record.provenance
    assert (provenance.rows, provenance.train_rows, provenance.seed, provenance.folds) == (300, 200, 5, 5)
    assert provenance.class_counts == dict(zip(("ann", "bob", "cyd"), np.bincount(y).tolist(), strict=True))
    assert provenance.data_digest == f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}"
    assert provenance.train_digest == f"sha256:{hashlib.sha256(train.read_bytes()).hexdigest()}"
    assert (provenance.groups, provenance.weighted) == (None, False)
    assert provenance.before == pytest.approx(all_metrics(log_softmax(x), y))
    assert set(provenance.after_out_of_fold) == set(METRICS)
    assert provenance.range_rate == pytest.approx(float((np.abs(x[:, 0]) > 8.0).mean()))
    assert record.sections == repository.bundle("toy", 1).manifest.fingerprints()
    assert record.probability_floor == 1e-7


def test_the_record_holds_no_clock_user_or_path(toy: Toy, truth: Truth, save: Save, tmp_path: Path) -> None:
    x, y = truth(200)
    text = fitted(toy(), save("secret-name", X=x, y=y)).record.to_json()
    assert "secret-name" not in text
    assert str(tmp_path) not in text


def test_metrics_after_calibration_are_not_those_of_the_rows_it_saw(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(100)
    record = fitted(toy(), save(X=x, y=y)).record
    in_sample = all_metrics(log_softmax(x / temperature(record)), y)
    after = record.provenance.after_out_of_fold
    assert after["log_loss"] > in_sample["log_loss"]
    assert after["log_loss"] < record.provenance.before["log_loss"]


def test_metrics_after_calibration_are_those_of_temperatures_fitted_without_the_row(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(300)
    record = fitted(toy(), save(X=x, y=y), seed=3).record
    folds = folds_of(dataset(None, 300), 3)
    log_probs = np.empty_like(x)
    for fold in range(FOLDS):
        kept = folds != fold
        log_probs[~kept] = log_softmax(x[~kept] / independent_temperature(x[kept], y[kept]))
    assert record.provenance.after_out_of_fold == pytest.approx(all_metrics(log_probs, y), rel=1e-5)
