"""What `fit` does by default with few rows: what it costs beside other defaults, what it records, what it refuses."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset
from service.errors import NoSignal
from service.fitting.calibrate import Calibration, calibrate
from service.fitting.fit import FitRequest, fit
from service.reporting.record_tables import record_facts

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
Declare = Callable[..., Any]

DEFAULTS = ("temperature", "auto", "bcts", "shrinkage")
DESIGNS = ("as it is", "weighted", "shifted by 0.5", "shifted by 1", "shifted by 3")
CELLS = list(itertools.product(DESIGNS, (2, 3, 10), (30, 50, 100, 300, 1000), (0.5, 1.0, 2.0)))


def of_rows(rows: Array, labels: Indices, weights: Array | None = None, groups: Indices | None = None) -> Dataset:
    return Dataset(rows, labels, groups, weights, "sha256:0")


def excess(declare: Declare, cell: tuple[str, int, int, float], method: str, repeats: int) -> float:
    """Mean log loss above the least there is, in nats, of versions fitted to n rows of K classes at temperature T."""
    design, k, n, temperature = cell
    shift = np.zeros(k)
    shift[0] = float(design.split()[-1]) if design.startswith("shifted") else 0.0
    lost = []
    for seed in range(repeats):
        rng = np.random.default_rng([seed, n, k, round(10 * temperature), DESIGNS.index(design)])
        rows, far = 2.0 * rng.normal(size=(n, k)), 2.0 * rng.normal(size=(2000, k))
        labels = (rows + rng.gumbel(size=rows.shape)).argmax(axis=1)
        data = of_rows(rows, labels, rng.lognormal(sigma=0.8, size=n) if design == "weighted" else None)
        try:
            found = calibrate(declare(k), temperature * (rows - shift), data, method=method, seed=0)
            answered = found.calibrator.apply(temperature * (far - shift))
        except NoSignal:
            answered = log_softmax(temperature * (far - shift), axis=1)  # nothing is published: the model as it is
        lost.append(np.mean(np.sum(softmax(far, axis=1) * (log_softmax(far, axis=1) - answered), axis=1)))
    return float(np.mean(lost))


@pytest.fixture
def declare(toy_manifest: Declare) -> Declare:
    """Manifests of K classes called a to j."""
    return toy_manifest


FEW = [
    ("weighted", 2, 30, 1.0),
    ("shifted by 1", 2, 100, 1.0),
    ("shifted by 3", 2, 100, 2.0),
    ("shifted by 1", 3, 30, 0.5),
]


def test_the_default_loses_least_in_the_worst_of_a_few_cells(declare: Declare) -> None:
    worst = {name: max(excess(declare, cell, name, 8) for cell in FEW) for name in DEFAULTS}
    assert worst["shrinkage"] < 0.75 * min(worst["temperature"], worst["auto"])


def test_a_calibrated_model_of_fifty_rows_loses_little_beside_a_temperature(declare: Declare) -> None:
    cells = [("as it is", k, 50, 1.0) for k in (2, 3)]
    lost = {name: np.mean([excess(declare, cell, name, 25) for cell in cells]) for name in ("temperature", "shrinkage")}
    assert lost["temperature"] > 0.01
    assert lost["shrinkage"] < 0.7 * lost["temperature"]


def test_with_a_thousand_rows_the_prior_is_nothing(declare: Declare) -> None:
    for temperature in (0.5, 1.0, 2.0):
        assert excess(declare, ("as it is", 3, 1000, temperature), "shrinkage", 4) < 0.004


@pytest.mark.simulation
def test_the_default_loses_least_in_the_worst_case(declare: Declare) -> None:
    lost = {name: np.array([excess(declare, cell, name, 6) for cell in CELLS]) for name in DEFAULTS}
    for name, values in lost.items():
        for design in ("", *DESIGNS):
            among = np.array([cell[0].startswith(design) for cell in CELLS])
            worst = ", ".join(map(str, CELLS[int(np.where(among, values, -1.0).argmax())]))
            mean, most = values[among].mean(), values[among].max()
            print(f"{name:12} {design:16} worst {most:.4f} ({worst}), mean {mean:.4f}")  # noqa: T201  # for the guide
    assert lost["shrinkage"].max() < 0.75 * min(lost["temperature"].max(), lost["auto"].max())
    assert lost["shrinkage"].mean() < min(lost["temperature"].mean(), lost["auto"].mean())


# ----------------------------------------------------------------------------------------------------- what is recorded


def test_the_record_says_what_the_default_did(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400, 3)
    record = fit(toy(3), "toy", FitRequest(save(X=x, y=y))).record
    assert (record.chain, record.calibrator.method) == (("temperature",), "temperature")
    assert record.calibrator.prior == {"freedom": 3.0, "log_temperature": 0.5}
    assert set(record.candidates) == {"temperature", "bcts"}
    low, high = record.calibrator.interval["temperature"]
    fitted = record.calibrator.params["temperature"]
    assert isinstance(fitted, float)
    assert high is not None
    assert low < fitted < high
    assert '"prior"' in record.to_json()
    facts = dict(record_facts(record))
    assert facts["prior"] == "Student's t, 3 degrees of freedom, around 0; scale of log temperature 0.5"
    plain = fit(toy(3), "toy", FitRequest(save(X=x, y=y), calibrator="temperature")).record
    assert plain.calibrator.prior == {}
    assert '"prior"' not in plain.to_json()


def test_a_bias_is_taken_where_held_out_rows_ask_for_it(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400, 3, log_ratio=(0.0, 2.0, -1.0))
    record = fit(toy(3), "toy", FitRequest(save(X=x, y=y))).record
    assert record.chain == ("bcts",)
    assert record.calibrator.prior == {"freedom": 3.0, "log_temperature": 0.5, "bias": 0.5}
    assert record.source.basis == "calibration_rows"


def same(one: Calibration, two: Calibration, *, tolerance: float = 1e-9) -> None:
    assert one.record.method == two.record.method
    assert one.support == two.support
    logits = np.random.default_rng(9).normal(scale=3.0, size=(50, len(one.source.prevalence or "ab")))
    np.testing.assert_allclose(one.calibrator.apply(logits), two.calibrator.apply(logits), atol=tolerance)


@pytest.mark.parametrize("log_ratio", [None, (0.0, 2.0)])
def test_weights_and_groups_count_as_rows_do(log_ratio: Any, declare: Declare, truth: Truth) -> None:
    x, y = truth(80, log_ratio=log_ratio)
    twice = np.repeat(np.arange(80), 2)
    plain = calibrate(declare(2), x, of_rows(x, y), method="shrinkage", seed=0)
    alike = of_rows(x, y, np.full(80, 3.0))
    alone = of_rows(x, y, groups=np.arange(80))
    copies = of_rows(x[twice], y[twice], groups=twice)
    for data in (alike, alone, copies):
        same(plain, calibrate(declare(2), data.rows, data, method="shrinkage", seed=0), tolerance=1e-6)  # type: ignore[arg-type]


def test_a_weight_of_two_is_the_row_twice_in_one_group(declare: Declare, truth: Truth) -> None:
    x, y = truth(80)
    w = np.random.default_rng(1).integers(1, 3, 80)
    rows = np.repeat(np.arange(80), w)
    weighted, copies = of_rows(x, y, w.astype(np.float64)), of_rows(x[rows], y[rows], groups=rows)
    one, two = (calibrate(declare(2), d.rows, d, method="shrinkage", seed=0) for d in (weighted, copies))  # type: ignore[arg-type]
    same(one, two, tolerance=1e-6)


# ------------------------------------------------------------------------------------------------------ what is refused


def scored(n: int, *, shift: float, seed: int = 0, distance: float = 2.5) -> tuple[Array, Indices]:
    """A score of AUROC .961 that is right but for a constant."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.intp)
    evidence = distance * (rng.normal(size=n) + distance * (y - 0.5)) + np.log(0.3 / 0.7) + shift
    return np.stack([np.zeros(n), evidence], axis=1), y


@pytest.mark.parametrize(
    "method", ["shrinkage", "auto", "bcts", "vector", "matrix", "platt", "beta", "isotonic", "histogram"]
)
@pytest.mark.parametrize("shift", [-9.0, 9.0])
def test_a_good_score_that_is_shifted_is_calibrated_by_whatever_has_a_bias(
    method: str, shift: float, declare: Declare
) -> None:
    x, y = scored(500, shift=shift)
    found = calibrate(declare(2), x, of_rows(x, y), method=method, seed=0)
    new, labels = scored(5000, shift=shift, seed=1)
    loss = -found.calibrator.apply(new)[np.arange(5000), labels].mean()
    raw = -log_softmax(new, axis=1)[np.arange(5000), labels].mean()
    assert raw > 1.0
    assert loss < 0.27


@pytest.mark.parametrize("method", ["temperature", "identity"])
def test_without_a_bias_such_a_score_is_refused_with_the_remedy(method: str, declare: Declare) -> None:
    x, y = scored(500, shift=9.0)
    with pytest.raises(NoSignal, match="Leave --calibrator out, or name one that has a bias, as bcts"):
        calibrate(declare(2), x, of_rows(x, y), method=method, seed=0)


@pytest.mark.parametrize("method", ["shrinkage", "auto", "temperature", "identity", "bcts", "platt", "isotonic"])
def test_shuffled_labels_and_classes_in_another_order_are_refused(method: str, declare: Declare) -> None:
    x, y = scored(500, shift=0.0)
    shuffled = np.random.default_rng(2).permutation(y)
    for labels in (shuffled, 1 - y):
        with pytest.raises(NoSignal, match="no larger than chance explains"):
            calibrate(declare(2), x, of_rows(x, labels), method=method, seed=0)
