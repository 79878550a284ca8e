import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.core.assessment.metrics import log_loss
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature, fit_temperature
from service.core.numerics import Array, Indices, log_softmax, predicted_nll

logit_arrays = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(-30.0, 30.0)
)
temperatures = st.floats(0.05, 20.0)


def drawn(n: int, k: int, *, temperature: float, seed: int) -> tuple[Array, Indices]:
    """Logits and labels for which ``temperature`` is right."""
    rng = np.random.default_rng(seed)
    logits = 3.0 * rng.normal(size=(n, k))
    probabilities = scipy.special.softmax(logits / temperature, axis=1)
    cumulative = probabilities.cumsum(axis=1)
    return logits, (cumulative > rng.random((n, 1)) * cumulative[:, -1:]).argmax(axis=1)


def oracle(logits: Array, labels: Indices, weights: Array, offset: Array) -> float:
    """The same optimum by another road: SciPy's derivative-free search on the plain loss."""

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t) + offset
        own = scaled[np.arange(len(scaled)), labels]
        return float(weights @ (scipy.special.logsumexp(scaled, axis=1) - own) / weights.sum())

    found = scipy.optimize.minimize_scalar(loss, bounds=(-6.0, 6.0), method="bounded", options={"xatol": 1e-12})
    return float(np.exp(found.x))


def confusable(gap: float, k: int, right: int, wrong: int) -> tuple[Array, Indices]:
    """Rows (gap, 0, ..., 0), of which ``right`` belong to the first class and ``wrong`` to the second."""
    return np.tile([gap] + [0.0] * (k - 1), (right + wrong, 1)), np.repeat([0, 1], [right, wrong])


# ---------------------------------------------------------------------------------------------------------- apply


@given(logit_arrays)
def test_temperature_one_is_no_calibration(z: Array) -> None:
    np.testing.assert_array_equal(Temperature(1.0).apply(z), Identity().apply(z))


@given(logit_arrays, temperatures)
def test_the_old_favourite_is_among_the_new_ones(z: Array, t: float) -> None:
    log_p = Temperature(t).apply(z)
    assert (log_p[np.arange(len(z)), z.argmax(axis=1)] == log_p.max(axis=1)).all()


@given(logit_arrays, temperatures, temperatures)
def test_two_temperatures_in_a_row_are_their_product(z: Array, first: float, second: float) -> None:
    np.testing.assert_allclose(
        Temperature(second).apply(Temperature(first).apply(z)),
        Temperature(first * second).apply(z),
        rtol=1e-11,
        atol=1e-11,
    )


@given(logit_arrays, temperatures, st.floats(1.01, 5.0))
def test_a_higher_temperature_is_never_more_certain(z: Array, t: float, factor: float) -> None:
    cold, warm = Temperature(t).apply(z), Temperature(t * factor).apply(z)
    assert (entropy(warm) >= entropy(cold) - 1e-12).all()
    assert (warm.max(axis=1) <= cold.max(axis=1) + 1e-15).all()


def entropy(log_p: Array) -> Array:
    surprise: Array = (np.exp(log_p) * -log_p).sum(axis=1)
    return surprise


@given(logit_arrays, temperatures)
def test_renaming_the_classes_renames_the_calibrated_ones(z: Array, t: float) -> None:
    np.testing.assert_allclose(Temperature(t).apply(z[:, ::-1]), Temperature(t).apply(z)[:, ::-1], rtol=1e-12)


def test_for_two_classes_no_temperature_changes_a_ranking_of_rows() -> None:
    z = np.random.default_rng(0).normal(size=(200, 2))
    order = np.argsort(predicted_nll(z))
    for t in (0.5, 2.0, 10.0, 100.0):
        np.testing.assert_array_equal(np.argsort(predicted_nll(z / t)), order)


# ------------------------------------------------------------------------------------------------------ agreement


@pytest.mark.parametrize(("k", "truth"), [(2, 0.9), (3, 0.47), (10, 5.0), (100, 3.0)])
def test_the_fit_agrees_with_an_independent_optimiser(k: int, truth: float) -> None:
    logits, labels = drawn(1500, k, temperature=truth, seed=k)
    fit = fit_temperature(logits, labels)
    assert fit.status == "ok"
    assert fit.calibrator.temperature == pytest.approx(
        oracle(logits, labels, np.ones(len(labels)), np.zeros(k)), rel=1e-6
    )
    assert fit.calibrator.temperature == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_weights_and_an_offset_agree_with_an_independent_optimiser(k: int) -> None:
    logits, labels = drawn(1500, k, temperature=1.7, seed=100 + k)
    rng = np.random.default_rng(k)
    weights, offset = rng.exponential(size=len(labels)), 0.3 * rng.normal(size=k)
    fit = fit_temperature(logits, labels, weights=weights, offset=offset)
    assert fit.calibrator.temperature == pytest.approx(oracle(logits, labels, weights, offset), rel=1e-6)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
@pytest.mark.parametrize("gap", [0.01, 2.0, 30.0])
@pytest.mark.parametrize(("right", "wrong"), [(3, 1), (17, 3), (99, 1)])
def test_the_closed_form_is_met_to_twelve_digits(k: int, gap: float, right: int, wrong: int) -> None:
    fit = fit_temperature(*confusable(gap, k, right, wrong))
    exact = gap / np.log(right * (k - 1) / wrong)
    assert fit.calibrator.temperature == pytest.approx(exact, rel=1e-12)
    assert fit.iterations <= 12


def test_an_offset_keeps_another_prevalence_from_bending_the_temperature() -> None:
    rng = np.random.default_rng(5)
    labels = (rng.random(20_000) < 0.03).astype(np.intp)
    x = rng.normal(size=20_000) * np.where(labels == 1, 3.0, 1.0)
    evidence = 4.0 / 9.0 * x**2 - np.log(3.0)  # log odds under equal classes; the wide class is rare here
    logits = 1.7 * np.stack([np.zeros_like(evidence), evidence], axis=1)
    offset = np.log([0.97, 0.03]) - np.log([0.5, 0.5])
    assert fit_temperature(logits, labels, offset=offset).calibrator.temperature == pytest.approx(1.7, rel=0.1)
    assert abs(fit_temperature(logits, labels).calibrator.temperature - 1.7) > 0.5


def test_a_fit_never_makes_the_rows_it_saw_worse() -> None:
    logits, labels = drawn(300, 5, temperature=2.5, seed=3)
    fit = fit_temperature(logits, labels)
    assert log_loss(fit.calibrator.apply(logits), labels) < log_loss(log_softmax(logits), labels)


def test_a_constant_per_row_changes_no_fit() -> None:
    logits, labels = drawn(300, 4, temperature=1.5, seed=4)
    moved = logits + np.random.default_rng(4).normal(size=(300, 1))
    assert fit_temperature(moved, labels).calibrator.temperature == pytest.approx(
        fit_temperature(logits, labels).calibrator.temperature, rel=1e-12
    )


@pytest.mark.parametrize("unit", [1e-30, 1e-8, 1e-3, 1e3, 1e6, 1e30])
def test_logits_in_another_unit_give_the_temperature_in_that_unit(unit: float) -> None:
    logits, labels = drawn(300, 4, temperature=1.5, seed=6)
    fit = fit_temperature(unit * logits, labels)
    assert fit.calibrator.temperature == pytest.approx(unit * fit_temperature(logits, labels).calibrator.temperature)
    assert fit.iterations <= 12


def test_the_largest_float32_logits_are_fitted() -> None:
    fit = fit_temperature(*confusable(3.4e38, 2, 3, 1))
    assert fit.calibrator.temperature == pytest.approx(3.4e38 / np.log(3.0), rel=1e-12)


def test_a_duplicated_row_counts_as_a_weight_of_two() -> None:
    logits, labels = drawn(200, 3, temperature=1.5, seed=7)
    counts = np.random.default_rng(7).integers(0, 4, size=200)
    repeated = fit_temperature(np.repeat(logits, counts, axis=0), np.repeat(labels, counts))
    weighted = fit_temperature(logits, labels, weights=counts.astype(np.float64))
    assert weighted.calibrator.temperature == pytest.approx(repeated.calibrator.temperature, rel=1e-12)


def test_only_the_ratios_of_weights_matter() -> None:
    logits, labels = drawn(200, 3, temperature=1.5, seed=8)
    weights = np.random.default_rng(8).exponential(size=200)
    assert fit_temperature(logits, labels, weights=1e6 * weights).calibrator.temperature == pytest.approx(
        fit_temperature(logits, labels, weights=weights).calibrator.temperature, rel=1e-12
    )


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(500, 3, temperature=1.5, seed=9)
    whole = fit_temperature(logits, labels).calibrator.temperature
    monkeypatch.setattr("service.core.calibration.temperature.CHUNK_CELLS", 21)
    assert fit_temperature(logits, labels).calibrator.temperature == pytest.approx(whole, rel=1e-12)


def test_a_thousand_classes_are_fitted_in_chunks_without_a_copy_of_the_logits() -> None:
    logits = np.random.default_rng(19).normal(size=(20_000, 1000))
    labels = (2.0 * logits[:, :50]).argmax(axis=1)
    tracemalloc.start()
    try:
        fit = fit_temperature(logits, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert fit.status == "ok"
    assert peak < 64 * 2**20 < logits.nbytes  # `make bench` prints it, and the time


@pytest.mark.parametrize("seed", range(20))
def test_float_noise_at_the_optimum_costs_no_bisections(seed: int) -> None:
    logits, labels = drawn(400, 2 + seed % 9, temperature=0.3 * 1.3**seed, seed=seed)
    fit = fit_temperature(logits, labels)
    assert fit.status == "ok"
    assert fit.iterations <= 12


def test_arguments_are_left_as_they_were() -> None:
    logits, labels = drawn(50, 3, temperature=1.5, seed=10)
    before = logits.copy()
    fit_temperature(logits, labels)
    np.testing.assert_array_equal(logits, before)


# ------------------------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("n", "temperature", "confidence"), [(3, 1.912, 0.828), (30, 0.840, 0.973), (999, 0.428, 0.999)]
)
def test_separable_rows_get_the_temperature_of_smoothed_targets(n: int, temperature: float, confidence: float) -> None:
    gaps = np.tile([3.0, 3.0, 5.0], n // 3)
    fit = fit_temperature(np.stack([gaps, np.zeros(n)], axis=1), np.zeros(n, dtype=np.intp))
    assert fit.status == "separable"
    assert fit.calibrator.temperature == pytest.approx(temperature, abs=6e-4)
    assert np.exp(fit.calibrator.apply(np.array([[3.0, 0.0]])))[0, 0] == pytest.approx(confidence, abs=6e-4)


def test_ties_at_the_top_are_separable_too() -> None:
    fit = fit_temperature(np.array([[2.0, 2.0, 0.0], [5.0, 1.0, 1.0]]), np.array([1, 0]))
    assert fit.status == "separable"
    assert 0.01 < fit.calibrator.temperature < 100.0


@pytest.mark.parametrize("share", [0.6, 0.97, 0.9999])
def test_separable_rows_under_a_skewed_offset_still_get_a_finite_temperature(share: float) -> None:
    offset = np.log([share, 1.0 - share]) - np.log(0.5)
    fit = fit_temperature(np.tile([3.0, 0.0], (10, 1)), np.zeros(10, dtype=np.intp), offset=offset)
    assert fit.status == "separable"
    assert 0.1 < fit.calibrator.temperature < 100.0


def test_one_wrong_row_in_ten_thousand_is_not_separable() -> None:
    fit = fit_temperature(*confusable(1.0, 2, 9999, 1))
    assert fit.status == "ok"
    assert fit.calibrator.temperature == pytest.approx(1.0 / np.log(9999.0), rel=1e-12)


@pytest.mark.parametrize(("k", "copies"), [(2, 50), (3, 7), (10, 1), (10, 100), (100, 3)])
@pytest.mark.parametrize("gap", [0.1, 3.0, 17.3, 1e6])
def test_chance_accuracy_is_no_signal(k: int, copies: int, gap: float) -> None:
    row = np.zeros(k)
    row[0] = gap
    fit = fit_temperature(np.tile(row, (k * copies, 1)), np.tile(np.arange(k), copies))
    assert (fit.status, fit.calibrator.temperature) == ("no_signal", 1.0)


def test_rows_worse_than_chance_are_no_signal() -> None:
    logits, labels = drawn(300, 2, temperature=1.0, seed=11)
    fit = fit_temperature(-logits, labels)
    assert (fit.status, fit.calibrator.temperature, fit.iterations) == ("no_signal", 1.0, 0)


def test_constant_logits_are_no_signal() -> None:
    assert fit_temperature(np.full((10, 3), 4.2), np.arange(10) % 3).status == "no_signal"


def test_a_class_may_be_absent() -> None:
    logits, labels = drawn(300, 5, temperature=1.5, seed=12)
    present = labels != 3
    assert fit_temperature(logits[present], labels[present]).status == "ok"
