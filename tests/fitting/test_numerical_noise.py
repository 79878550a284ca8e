"""What the model's output changes by between batches decides no flag of a calibration row."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.fitting.fit import FitRequest, fit
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.numerical_noise import DIGITS, SAFETY, measure_noise
from service.fitting.ood_detectors import Terms, fit_detectors
from service.prediction.bulk import raw_of
from service.runtime.model import Model, Raw, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]

ON_LOGITS = [name for name, score in SCORES.items() if score.needs in ("logits", "probabilities")]
LISTED = ", ".join(f'"{name}"' for name in ON_LOGITS)
ALL = f"[ood]\nscores = [{LISTED}]\nfalse_alarm = 0.5\n"
ONE_LABEL = 2.0**-23  # of a float32 output, relative


@pytest.fixture
def fitted(toy: Toy, truth: Truth, save: Save) -> Callable[..., tuple[Model, Array]]:
    def make(k: int, tail: str) -> tuple[Model, Array]:
        x, y = truth(400, k)
        x[:40] += 20.0 * np.eye(k)[0]  # some so sure that nll is nearly nothing
        train = save("train", X=truth(400, k, seed=1)[0], y=truth(400, k, seed=1)[1])
        repository = toy(k, tail)
        result = fit(repository, "toy", FitRequest(save(X=x, y=y), train_data=train))
        return load_model(repository.bundle("toy", result.version)), x

    return make


@pytest.mark.parametrize("tail", [ALL, f"{ALL}per_class = true\n"], ids=["all rows", "per class"])
def test_noise_of_a_float32_output_splits_no_calibration_row(
    tail: str, fitted: Callable[..., tuple[Model, Array]]
) -> None:
    model, x = fitted(3, tail)
    raw = model.raw(x)
    expected, rng = model.posterior_of(raw), np.random.default_rng(4)
    for _ in range(20):
        size = np.abs(raw.logits).max(axis=1, keepdims=True)
        moved = raw.logits + rng.uniform(-2.0, 2.0, size=raw.logits.shape) * ONE_LABEL * size
        found = model.posterior_of(dataclasses.replace(raw, logits=moved))
        np.testing.assert_array_equal(found.p_values, expected.p_values)
        np.testing.assert_array_equal(found.flags, expected.flags)


def test_bands_cost_no_resolution_where_rows_are_separated(fitted: Callable[..., tuple[Model, Array]]) -> None:
    model, x = fitted(3, ALL)
    posterior = model.posterior_of(model.raw(x))
    assert posterior.p_values is not None
    for i, name in enumerate(ON_LOGITS):
        assert len(np.unique(posterior.p_values[:, i])) >= 0.85 * len(x), name


def test_the_record_says_what_the_band_rests_on(fitted: Callable[..., tuple[Model, Array]]) -> None:
    model, _ = fitted(2, '[ood]\nscores = ["nll"]\nper_class = true\n')
    assert model.bundle.record is not None
    band = model.bundle.record.scores["nll"].band
    assert band is not None
    assert (band.safety, band.rows, band.paths) == (SAFETY, 128, 5)
    assert 0.0 < band.at_threshold < 1e-5
    assert band.tie > 2.0 * DIGITS * ONE_LABEL * 0.99


class Jittery:
    """A session whose logits depend on how many rows came together."""

    def __init__(self, session: Any, noise: float) -> None:
        self._session, self._noise = session, noise
        self.outputs = session.outputs

    def logits(self, graph: Any, feeds: Any, **options: Any) -> Array:
        logits: Array = self._session.logits(graph, feeds, **options)
        return logits * (1.0 + self._noise * (len(logits) % 3 - 1))


def test_noise_between_batches_is_measured_and_carried_through_the_score(toy: Toy, truth: Truth) -> None:
    repository = toy(2, '[ood]\nscores = ["margin"]\n')
    model = load_model(dataclasses.replace(repository.draft("toy"), record=None, state={}))
    model = dataclasses.replace(model, session=Jittery(model.session, 1e-4))  # type: ignore[arg-type]
    x, y = truth(300)
    raw = raw_of(model, x)
    data: Any = type("Rows", (), {"rows": x, "labels": y, "groups": None, "units": 300, "__len__": lambda _: 300})()
    noise = measure_noise(model, data, raw, seed=0)
    assert 1e-5 < noise.logits < 2.1e-4
    found = fit_detectors(model.manifest, LabelledOutputs(data, raw), None, Terms(0, noise=noise))
    detector, reach = found.detectors[0], found.bands["margin"].at_threshold
    assert reach > SAFETY * noise.logits
    assert detector.threshold is not None
    expected = flags(model, found.detectors, x, len(x))
    for size in (1, 2, 64):
        np.testing.assert_array_equal(flags(model, found.detectors, x, size), expected)


def flags(model: Model, detectors: Any, x: Array, size: int) -> Array:
    chain = dataclasses.replace(model.chain, detectors=detectors, calibrated=True)
    ready = dataclasses.replace(model, chain=chain)
    parts = [ready.posterior_of(ready.raw(x[i : i + size])) for i in range(0, len(x), size)]
    return np.concatenate([np.column_stack([part.p_values, part.flags]) for part in parts])  # type: ignore[list-item]


def test_inputs_are_scored_as_the_graph_takes_them(toy: Toy) -> None:
    model = load_model(dataclasses.replace(toy(2).draft("toy"), record=None, state={}))
    rows = np.array([[0.1, 17.99], [1e-3, -2.7]])
    sent: Raw = model.raw(rows.astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(model.raw(rows).features, sent.features)
