"""Properties of every calibrator, tested on rows that its ``needs`` fit. A newcomer needs only its entry."""

import dataclasses
import json
from functools import cache

import numpy as np
import pytest

from service.core.assessment.metrics import log_loss
from service.core.calibration import CALIBRATORS, Calibrator
from service.core.numerics import Array, Indices, log_softmax

everyone = pytest.mark.parametrize("name", CALIBRATORS)


def drawn(name: str, n: int = 400, *, slope: float = 0.6, seed: int = 0) -> tuple[Array, Indices]:
    """Rows of an over-confident model: two classes for binary methods, three for the others."""
    k = 2 if CALIBRATORS[name].needs == "binary" else 3
    rng = np.random.default_rng(seed)
    logits = 3.0 * rng.normal(size=(n, k))
    cumulative = np.exp(log_softmax(slope * logits)).cumsum(axis=1)
    return logits, (cumulative > rng.random((n, 1)) * cumulative[:, -1:]).argmax(axis=1)


@cache
def fitted(name: str) -> Calibrator:
    return CALIBRATORS[name].fit(*drawn(name))


def fresh(name: str, n: int = 50) -> Array:
    return drawn(name, n, seed=1)[0]


# ---------------------------------------------------------------------------------------------------------- apply


@everyone
def test_what_it_needs_and_its_size_are_declared(name: str) -> None:
    assert CALIBRATORS[name].needs in ("any", "binary")
    assert 0 <= CALIBRATORS[name].size(2) <= CALIBRATORS[name].size(3)
    assert isinstance(CALIBRATORS[name].free_intercepts, bool)


@everyone
def test_probabilities_are_finite_and_sum_to_one(name: str) -> None:
    log_p = fitted(name).apply(fresh(name))
    assert log_p.shape == fresh(name).shape
    assert log_p.dtype == np.float64
    assert np.isfinite(log_p).all()
    assert np.abs(np.exp(log_p).sum(axis=1) - 1.0).max() <= 1e-12


@everyone
def test_a_row_is_calibrated_alike_alone_and_in_a_batch(name: str) -> None:
    alone = np.concatenate([fitted(name).apply(row[None]) for row in fresh(name)])
    np.testing.assert_allclose(fitted(name).apply(fresh(name)), alone, rtol=1e-12, atol=1e-14)


@everyone
def test_a_constant_added_to_a_row_changes_nothing(name: str) -> None:
    here, there = fitted(name).apply(fresh(name)), fitted(name).apply(fresh(name) + 7.0)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-12)


@everyone
def test_the_largest_float32_logits_give_finite_numbers(name: str) -> None:
    extreme = np.array([[3.4e38, -3.4e38, 0.0], [-3.4e38, -3.4e38, -3.4e38], [0.0, 3.4e38, 3.4e38]])
    assert np.isfinite(fitted(name).apply(extreme[:, : fresh(name).shape[1]])).all()


@everyone
def test_without_free_intercepts_the_favourite_stays(name: str) -> None:
    if fitted(name).free_intercepts:
        pytest.skip("may move a class on purpose")
    np.testing.assert_array_equal(fitted(name).apply(fresh(name)).argmax(axis=1), fresh(name).argmax(axis=1))


@everyone
def test_its_fields_survive_json(name: str) -> None:
    example = fitted(name)
    assert dataclasses.is_dataclass(example)
    fields = {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}
    assert all(isinstance(value, float) or value.dtype == np.float64 for value in fields.values())
    stored = json.loads(json.dumps({key: np.asarray(value).tolist() for key, value in fields.items()}, allow_nan=False))
    restored = {key: value if isinstance(value, float) else np.array(value) for key, value in stored.items()}
    np.testing.assert_array_equal(CALIBRATORS[name](**restored).apply(fresh(name)), example.apply(fresh(name)))


# ------------------------------------------------------------------------------------------------------------ fit


@everyone
def test_on_new_rows_of_an_over_confident_model_it_helps(name: str) -> None:
    if CALIBRATORS[name].size(2) == 0:
        pytest.skip("changes nothing on purpose")
    logits, labels = drawn(name, 5000, seed=2)
    calibrator = CALIBRATORS[name].fit(*drawn(name, 5000, seed=3))
    assert log_loss(calibrator.apply(logits), labels) < log_loss(log_softmax(logits), labels) - 0.02


@everyone
def test_calibrating_a_second_time_changes_next_to_nothing(name: str) -> None:
    logits, labels = drawn(name, 5000, seed=4)
    once = CALIBRATORS[name].fit(logits, labels).apply(logits)
    twice = CALIBRATORS[name].fit(once, labels).apply(once)
    # One against the rest is no projection: bringing rows to sum one moves the curves a little.
    assert abs(log_loss(twice, labels) - log_loss(once, labels)) < (0.01 if name == "isotonic" else 0.002)


@everyone
def test_rows_that_are_calibrated_already_lose_no_more_than_noise(name: str) -> None:
    logits, labels = drawn(name, 10_000, slope=1.0, seed=5)
    log_p = CALIBRATORS[name].fit(*drawn(name, 10_000, slope=1.0, seed=6)).apply(logits)
    assert log_loss(log_p, labels) < log_loss(log_softmax(logits), labels) + 0.03


@everyone
def test_renaming_the_classes_renames_the_calibrated_ones(name: str) -> None:
    logits, labels = drawn(name)
    renamed = CALIBRATORS[name].fit(logits[:, ::-1], logits.shape[1] - 1 - labels)
    answer = renamed.apply(fresh(name)[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(answer, fitted(name).apply(fresh(name)), rtol=0, atol=1e-6)


@everyone
def test_a_replicate_by_counts_is_the_replicate_by_repeated_rows(name: str) -> None:
    logits, labels = drawn(name)
    counts = np.random.default_rng(7).multinomial(400, np.full(400, 1 / 400))
    repeated = CALIBRATORS[name].fit(np.repeat(logits, counts, axis=0), np.repeat(labels, counts))
    weighted = CALIBRATORS[name].fit(logits, labels, weights=counts.astype(np.float64))
    np.testing.assert_allclose(weighted.apply(fresh(name)), repeated.apply(fresh(name)), rtol=0, atol=1e-6)


@everyone
def test_doubling_the_weight_of_a_row_does_what_repeating_it_does(name: str) -> None:
    logits, labels = drawn(name)
    weighted = CALIBRATORS[name].fit(logits, labels, weights=np.append(2.0, np.ones(399)))
    rows = np.append(0, np.arange(400))
    repeated = CALIBRATORS[name].fit(logits[rows], labels[rows])
    # Not to the last bit: of weights only the ratios matter, so a ridge worth one row is worth one of 400, not of 401.
    found, expected = (np.exp(calibrator.apply(fresh(name))) for calibrator in (weighted, repeated))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@everyone
def test_only_the_ratios_of_weights_matter(name: str) -> None:
    logits, labels = drawn(name)
    weights = np.random.default_rng(8).exponential(size=400)
    small, large = (CALIBRATORS[name].fit(logits, labels, weights=unit * weights) for unit in (1e-3, 1e3))
    np.testing.assert_allclose(large.apply(fresh(name)), small.apply(fresh(name)), rtol=0, atol=1e-6)


@everyone
def test_separable_rows_stay_finite(name: str) -> None:
    logits = fresh(name, 60)
    log_p = CALIBRATORS[name].fit(logits, logits.argmax(axis=1)).apply(3.0 * logits)
    assert np.isfinite(log_p).all()


@pytest.mark.parametrize("separable", [False, True])
@everyone
def test_copies_of_rows_teach_no_more_than_the_rows_they_are_units_of(name: str, separable: bool) -> None:  # noqa: FBT001  # a case, not an interface
    logits, labels = drawn(name, 60)
    labels = logits.argmax(axis=1) if separable else labels
    once = CALIBRATORS[name].fit(logits, labels)
    copied = CALIBRATORS[name].fit(np.repeat(logits, 3, axis=0), np.repeat(labels, 3), units=60)
    np.testing.assert_allclose(copied.apply(fresh(name)), once.apply(fresh(name)), rtol=0, atol=1e-5)


@everyone
def test_a_class_may_be_absent(name: str) -> None:
    logits, labels = drawn(name)
    seen = labels != 1
    assert np.isfinite(CALIBRATORS[name].fit(logits[seen], labels[seen]).apply(fresh(name))).all()


@everyone
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_rows_gives_finite_numbers(name: str, n: int) -> None:
    logits, labels = drawn(name, n)
    assert np.isfinite(CALIBRATORS[name].fit(logits, labels).apply(fresh(name))).all()


@everyone
def test_rows_that_are_all_alike_give_finite_numbers(name: str) -> None:
    logits = np.zeros_like(drawn(name)[0])
    assert np.isfinite(CALIBRATORS[name].fit(logits, drawn(name)[1]).apply(fresh(name))).all()


@everyone
def test_the_largest_float32_logits_can_be_fitted(name: str) -> None:
    logits, labels = drawn(name)
    logits[:5] = np.where(np.eye(logits.shape[1])[labels[:5]] > 0.0, 3.4e38, -3.4e38)
    assert np.isfinite(CALIBRATORS[name].fit(logits, labels).apply(fresh(name))).all()


@everyone
def test_free_intercepts_ignore_an_offset(name: str) -> None:
    if not CALIBRATORS[name].free_intercepts:
        pytest.skip("needs it")
    logits, labels = drawn(name)
    offset = np.arange(float(logits.shape[1]))
    calibrator = CALIBRATORS[name].fit(logits, labels, offset=offset)
    np.testing.assert_array_equal(calibrator.apply(fresh(name)), fitted(name).apply(fresh(name)))


@everyone
def test_arguments_are_left_as_they_were(name: str) -> None:
    logits, labels = drawn(name)
    CALIBRATORS[name].fit(logits, labels, weights=np.ones(len(labels))).apply(logits)
    np.testing.assert_array_equal(logits, drawn(name)[0])
    np.testing.assert_array_equal(labels, drawn(name)[1])


@everyone
def test_it_cannot_be_changed_after_the_fit(name: str) -> None:
    assert vars(CALIBRATORS[name])["__dataclass_params__"].frozen
