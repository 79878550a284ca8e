"""Whether prevalence can be estimated, before any request."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.record import EstimationRecord, PrevalenceRecord
from service.bundle.reference_sample import restore_sample
from service.bundle.repository import Repository
from service.bundle.state import State
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset
from service.errors import EstimateUnavailable
from service.evaluation.prevalence import (
    PrevalenceEstimate,
    estimate,
)
from service.fitting.fit import FitRequest, fit
from service.fitting.prevalence_estimation import MOST_CLASSES, NOT_RETURNED, check_estimation
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model

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
    target = np.array([0.9, 0.1])
    own = np.bincount(data.labels) / len(data)
    tilted = log_probs + np.log(target / own)
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


def test_an_obstacle_to_estimates_is_recorded_in_words_and_nothing_is_stored() -> None:
    log_probs, data = calibrated(300, 2)
    alike, flat = np.log(np.full((300, 2), 0.5)), PrevalenceRecord(basis="declared", prevalence={"c0": 0.5, "c1": 0.5})
    single = Dataset(data.rows, np.zeros(300, dtype=np.intp), None, None, "")
    many, more = calibrated(400, MOST_CLASSES + 1)
    obstacles = {
        "is unknown": check(log_probs, data, UNKNOWN, 2),
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
    from service.fitting import prevalence_estimation

    monkeypatch.setattr(prevalence_estimation, "MOST_CELLS", 100)
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


# ------------------------------------------------------------------------------------------------ from fit to estimate

Toy = Callable[..., Repository]
SOURCES = {2: np.array([0.9, 0.1]), 3: np.array([0.55, 0.25, 0.2])}


def mixture(n: int, prevalence: Array, *, source: Array, rng: np.random.Generator) -> tuple[Array, Indices]:
    """Rows of normal classes on a circle, as their exact logits under the source prevalence, and their labels."""
    angles = 2.0 * np.pi * np.arange(len(source)) / len(source)
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (1.0 if len(source) == 2 else 1.2)
    labels = rng.choice(len(source), size=n, p=prevalence)
    x = centres[labels] + rng.normal(size=(n, 2))
    return x @ centres.T - 0.5 * (centres**2).sum(axis=1) + np.log(source), labels


def published(
    toy: Toy, folder: Path, n: int, *, k: int, seed: int, tail: str = "", grouped: int = 0, **options: Any
) -> Model:
    logits, labels = mixture(n, SOURCES[k], source=SOURCES[k], rng=np.random.default_rng(seed))
    more: dict[str, Any] = {}
    if grouped:
        index = np.repeat(np.arange(n), grouped)
        logits, labels, more = logits[index], labels[index], {"group": index}
    np.savez(folder / "rows.npz", X=logits, y=labels, **more)
    repository = toy(k, tail)
    version = fit(repository, "toy", FitRequest(folder / "rows.npz", **options)).version
    return load_model(repository.bundle("toy", version))


def estimated(model: Model, n: int, prevalence: Array, *, seed: int) -> PrevalenceEstimate:
    k = len(model.classes)
    rows, _ = mixture(n, prevalence, source=SOURCES[k], rng=np.random.default_rng(seed))
    return estimate(model, model.posterior(rows.astype(np.float32)))


GATES = {
    "ambiguity": '[ood]\nscores = ["nll"]\n',
    "distance": '[ood]\nscores = ["mahalanobis"]\n',
    "both and a range": '[features.f0]\nplausible = [-4.0, 4.0]\n[ood]\nscores = ["nll", "mahalanobis"]\n',
    "within classes": '[ood]\nscores = ["nll"]\nper_class = true\n',
}


@pytest.mark.parametrize(("calibrator", "k"), [("bcts", 2), ("temperature", 2), ("bcts", 3)])
@pytest.mark.parametrize("gate", GATES)
def test_no_shift_is_no_alarm_behind_any_gate(gate: str, calibrator: str, k: int, toy: Toy, tmp_path: Path) -> None:
    model = published(toy, tmp_path, 2000, k=k, seed=0, tail=GATES[gate], calibrator=calibrator)
    found = [estimated(model, n, SOURCES[k], seed=seed) for seed, n in enumerate([20, 500, 2000, 8000])]
    assert not any(one.alarm for one in found)
    assert all(one.unflagged_rows is not None for one in found)


@pytest.mark.parametrize("gate", GATES)
def test_a_pure_change_of_proportions_is_answered_with_the_shares_of_all_rows(
    gate: str, toy: Toy, tmp_path: Path
) -> None:
    model, truth = (
        published(toy, tmp_path, 2000, k=2, seed=1, tail=GATES[gate], calibrator="bcts"),
        np.array([0.6, 0.4]),
    )
    found = estimated(model, 4000, truth, seed=7)
    assert found.alarm
    for part in (found.all_rows, found.unflagged_rows):
        assert part is not None
        for method in (part.em, part.bbse):
            for own, share in zip(method.prevalence.values(), truth, strict=True):
                assert own.low <= share <= own.high


def test_groups_widen_the_interval_as_if_each_were_one_row(toy: Toy, tmp_path: Path) -> None:
    def width(**options: Any) -> float:
        found = estimated(
            published(toy, tmp_path, 300, k=2, seed=2, calibrator="bcts", **options), 8000, SOURCES[2], seed=3
        )
        first, *_ = found.all_rows.bbse.prevalence.values()
        return first.high - first.low

    assert width(grouped=4) == pytest.approx(width(), rel=0.15)


def test_rows_that_a_score_learned_from_have_no_known_flag(toy: Toy, tmp_path: Path) -> None:
    model = published(toy, tmp_path, 400, k=2, seed=4, tail=GATES["distance"], grouped=2, calibrator="bcts")
    found = restore_sample(model.bundle.state)
    assert found is not None
    everything, gated = found
    assert gated is not None
    assert (len(everything.labels), len(gated.labels)) == (800, 400)
    assert 0.0 < 1.0 - gated.unflagged.mean() < 0.12


def test_where_a_class_is_flagged_altogether_the_obstacle_is_recorded(toy: Toy, tmp_path: Path) -> None:
    model = published(toy, tmp_path, 400, k=2, seed=5, calibrator="bcts")
    state = model.bundle.state
    gate = np.asarray(state["prevalence:gate"]) * (np.asarray(state["prevalence:labels"]) == 0)
    bundle = dataclasses.replace(model.bundle, state=state | {"prevalence:gate": gate})
    found = estimated(dataclasses.replace(model, bundle=bundle), 100, SOURCES[2], seed=6)
    assert found.unflagged_rows is None
    assert "some class" in (found.obstacle or "")


@pytest.mark.parametrize(("calibrator", "advised"), [("temperature", True), ("bcts", False)])
def test_a_calibrator_that_is_there_is_not_advised_again(
    calibrator: str,
    advised: bool,  # noqa: FBT001  # pytest passes it by name
    toy: Toy,
    truth: Callable[..., tuple[Array, Indices]],
    save: Callable[..., Path],
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
