import numpy as np
import pytest
import scipy.optimize
import scipy.special

from service.core.assessment.metrics import log_loss
from service.core.calibration.bcts import Bcts
from service.core.calibration.temperature import Temperature
from service.core.numerics import Array, Indices, log_softmax

BIAS = 0.5 * np.random.default_rng(99).normal(size=10)
BIAS -= BIAS.mean()


def oracle(logits: Array, labels: Indices, weights: Array) -> tuple[float, Array]:
    """The same regularised loss, written down plainly and given to SciPy."""
    n, k = logits.shape
    unit = 1.0 / Temperature.fit(logits, labels, weights=weights).temperature

    def loss(point: Array) -> float:
        scaled = unit * point[0] * logits + point[1:]
        own = scaled[np.arange(n), labels]
        rows = scipy.special.logsumexp(scaled, axis=1) - own
        return float(np.average(rows, weights=weights) + ((point[0] - 1.0) ** 2 + point[1:] @ point[1:]) / (2 * n))

    found = scipy.optimize.minimize(loss, np.append(1.0, np.zeros(k)), method="BFGS", options={"gtol": 1e-8}).x
    return 1.0 / (unit * found[0]), found[1:]


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.filterwarnings("ignore:Desired error not necessarily achieved")
def test_the_fit_agrees_with_an_independent_optimiser(truth, k: int) -> None:
    logits, labels = truth(k, bias=0.7 * np.arange(k)).draw(800, seed=k)
    weights = np.random.default_rng(k).exponential(size=800)
    fitted = Bcts.fit(logits, labels, weights=weights)
    temperature, bias = oracle(logits, labels, weights)
    assert fitted.temperature == pytest.approx(temperature, rel=1e-5)
    np.testing.assert_allclose(fitted.bias, bias, rtol=0, atol=1e-5)


def test_it_recovers_the_temperature_and_the_bias_behind_the_labels(truth) -> None:
    fitted = Bcts.fit(*truth(10, bias=BIAS).draw(50_000, seed=0))
    assert fitted.temperature == pytest.approx(1.7, rel=0.02)
    np.testing.assert_allclose(fitted.bias, BIAS, rtol=0, atol=0.06)


@pytest.mark.parametrize(("bias", "alone", "corrected"), [(0.0 * BIAS, 0.0007, 0.0045), (BIAS, 0.073, 0.0045)])
def test_its_price_and_its_gain_over_temperature_are_those_of_the_reference(truth, bias, alone, corrected) -> None:
    right = truth(10, bias=bias)
    fresh, _ = right.draw(5000, seed=1000)
    draws = [right.draw(1000, seed=seed) for seed in range(10)]
    price = {
        method: np.mean([right.excess(method.fit(*rows).apply(fresh), fresh) for rows in draws])
        for method in (Temperature, Bcts)
    }
    assert alone / 2 < price[Temperature] < alone * 2
    assert corrected / 2 < price[Bcts] < corrected * 2


def test_class_weights_that_no_temperature_undoes_are_undone(weighted_model) -> None:
    balanced, unweighted, labels = weighted_model(200_000, seed=0)
    temperature = Temperature.fit(balanced, labels)
    assert temperature.temperature == pytest.approx(1.003, abs=0.02)
    assert log_loss(log_softmax(balanced), labels) - log_loss(temperature.apply(balanced), labels) < 0.001
    gain = log_loss(Bcts.fit(balanced, labels).apply(balanced), labels) - log_loss(log_softmax(unweighted), labels)
    assert abs(gain) < 0.001


def test_the_biases_sum_to_zero_and_an_absent_class_has_none(truth) -> None:
    logits, labels = truth(5, bias=np.arange(5.0)).draw(600, seed=3)
    seen = labels != 2
    fitted = Bcts.fit(logits[seen], labels[seen])
    assert fitted.bias[2] == 0.0
    assert fitted.bias.sum() == pytest.approx(0.0, abs=1e-12)
    assert np.abs(fitted.bias).max() < 10.0


def test_rows_that_rank_backwards_leave_the_frequencies_alone() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(5000) < 0.2).astype(np.intp)
    logits = -3.0 * np.eye(2)[labels] + rng.normal(size=(5000, 2))
    fitted = Bcts.fit(logits, labels)
    assert fitted.temperature > 100.0
    np.testing.assert_allclose(np.exp(fitted.apply(np.zeros((1, 2))))[0], [1 - labels.mean(), labels.mean()], atol=0.01)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1e6, 1e30])
def test_logits_in_another_unit_give_the_same_answer(truth, unit: float) -> None:
    logits, labels = truth(4, bias=np.arange(4.0)).draw(500, seed=4)
    there = Bcts.fit(unit * logits, labels).apply(unit * logits)
    np.testing.assert_allclose(there, Bcts.fit(logits, labels).apply(logits), rtol=0, atol=1e-6)


def test_chunks_leave_no_seam(truth, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = truth(4, bias=np.arange(4.0)).draw(500, seed=5)
    whole = Bcts.fit(logits, labels)
    monkeypatch.setattr("service.core.calibration.affine.CHUNK_CELLS", 29)
    np.testing.assert_allclose(Bcts.fit(logits, labels).bias, whole.bias, rtol=0, atol=1e-7)
