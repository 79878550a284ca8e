"""Promises of every OOD score; those on logits and those on features have tests that fit them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, log_softmax
from service.core.ood import RULES, SCORES, Score
from service.core.ood.features import STATE_BYTES
from service.core.ood.knn import BANK_BYTES
from service.core.ood.nll import Nll

N, WIDTH = 400, 4

# By design, as their docstrings say; a newcomer is expected to see every direction.
BLIND_DIRECTIONS = {
    "knn": "knows directions, not distances",
    "vim": "looks along the directions that vary least",
    "relative_mahalanobis": "looks along the directions that tell classes apart",
}

every_score = pytest.mark.parametrize("name", SCORES)
on_logits = pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].needs != "features"])
on_features = pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].needs == "features"])


def training_rows() -> Array:
    return 2.0 * np.random.default_rng(0).normal(size=(N, WIDTH))


def fitted(name: str) -> Score:
    rows = training_rows()
    return SCORES[name].fit(rows, rows.argmax(axis=1))


def state(score: Score) -> dict[str, np.ndarray[Any, Any]]:
    assert dataclasses.is_dataclass(score)
    return {field.name: getattr(score, field.name) for field in dataclasses.fields(score)}


def learned(score: Score) -> set[str]:
    """Fields that only `fit` can fill."""
    assert dataclasses.is_dataclass(score)
    return {f.name for f in dataclasses.fields(score) if f.default_factory is dataclasses.MISSING}


@every_score
def test_what_it_needs_is_known_and_its_name_is_no_rules(name: str) -> None:
    assert SCORES[name].needs in ("logits", "probabilities", "features", "sigmoid_logits")
    assert name not in RULES


@every_score
def test_it_gives_one_finite_number_per_row(name: str) -> None:
    scores = fitted(name).score(training_rows())
    assert scores.shape == (N,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_score
def test_a_row_scores_alike_alone_and_in_a_batch(name: str) -> None:
    score, rows = fitted(name), training_rows()
    alone = np.concatenate([score.score(row[None]) for row in rows])
    np.testing.assert_allclose(score.score(rows), alone, rtol=1e-10, atol=1e-12)


@every_score
def test_the_largest_float32_values_are_scored(name: str) -> None:
    extreme = np.array([[3.4e38, -3.4e38, 0.0, 1.0], [-3.4e38] * WIDTH, [0.0] * WIDTH])
    assert np.isfinite(fitted(name).score(extreme)).all()


@every_score
def test_its_state_is_arrays_from_which_it_is_rebuilt(name: str) -> None:
    score = fitted(name)
    assert all(isinstance(value, np.ndarray) for value in state(score).values())
    assert bool(learned(score)) == SCORES[name].stateful
    np.testing.assert_array_equal(SCORES[name](**state(score)).score(training_rows()), score.score(training_rows()))


@every_score
def test_fitting_and_scoring_leave_their_rows_alone(name: str) -> None:
    rows = training_rows()
    SCORES[name].fit(rows, rows.argmax(axis=1)).score(rows)
    np.testing.assert_array_equal(rows, training_rows())


@every_score
def test_the_same_rows_give_the_same_score(name: str) -> None:
    np.testing.assert_array_equal(fitted(name).score(training_rows()), fitted(name).score(training_rows()))


@every_score
def test_no_monotone_map_changes_the_separation(name: str) -> None:
    score, rows = fitted(name), training_rows()
    inside, outside = score.score(rows), score.score(3.0 * rows[:, ::-1])
    at_all = separation_score(inside, outside)
    for monotone in (np.arctan, np.cbrt, lambda s: 3.0 * s - 7.0):
        assert separation_score(monotone(inside), monotone(outside)) == pytest.approx(at_all, abs=1e-4)


def stated_bytes(name: str, *, features: int, classes: int) -> float:
    """What a score's state may take: float32, one square matrix and one row per class at most; else one number."""
    if name == "knn":
        return BANK_BYTES
    width = features if SCORES[name].needs == "features" else classes
    return 4.1 * (features**2 * (width == features) + classes * width) if SCORES[name].stateful else 8


@every_score
def test_its_state_stays_small(name: str) -> None:
    features = classes = 544  # wide enough for float32
    rng = np.random.default_rng(2)
    rows, labels = rng.normal(size=(600, features)), np.arange(600) % classes
    rows[np.arange(600), labels] += 20.0
    score = SCORES[name].fit(rows, labels, logits=rng.normal(size=(600, classes)))
    taken = sum(array.nbytes for array in state(score).values())
    assert taken <= stated_bytes(name, features=features, classes=classes)


def test_all_states_together_stay_below_their_limit() -> None:
    assert sum(stated_bytes(name, features=768, classes=1000) for name in SCORES) <= STATE_BYTES


@on_logits
def test_a_flat_row_scores_above_a_peaked_row(name: str) -> None:
    score = SCORES[name].fit(10.0 * np.eye(4), np.arange(4))
    peaked, flat = score.score(np.array([[9.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.0, 0.0]]))
    assert flat > peaked


@on_logits
def test_names_and_order_of_classes_do_not_matter(name: str) -> None:
    rows, new, order = training_rows(), 3.0 * training_rows()[::-1], np.array([2, 0, 3, 1])
    renamed = SCORES[name].fit(rows[:, order], rows[:, order].argmax(axis=1))
    np.testing.assert_allclose(renamed.score(new[:, order]), fitted(name).score(new), rtol=1e-9, atol=1e-12)


@on_logits
def test_what_needs_probabilities_ignores_a_constant_of_the_row(name: str) -> None:
    if SCORES[name].needs != "probabilities":
        pytest.skip("for raw logits only")
    rows = training_rows()
    for constant in (5.0, -300.0, np.linspace(-50.0, 50.0, N)[:, None]):
        np.testing.assert_allclose(fitted(name).score(rows + constant), fitted(name).score(rows), rtol=1e-9, atol=1e-11)


@on_logits
def test_what_needs_probabilities_takes_log_probabilities_as_well_as_logits(name: str) -> None:
    if SCORES[name].needs != "probabilities":
        pytest.skip("for raw logits only")
    rows = training_rows()
    np.testing.assert_allclose(fitted(name).score(log_softmax(rows)), fitted(name).score(rows), rtol=1e-9, atol=1e-11)


@on_logits
def test_for_two_classes_no_temperature_changes_the_separation(name: str) -> None:
    if SCORES[name].needs != "probabilities" or SCORES[name].stateful:
        pytest.skip("reads the level of logits, or remembers rows")
    rng = np.random.default_rng(3)
    score = SCORES[name].fit(np.eye(2), np.arange(2))
    inside, outside = 3.0 * rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    as_nll = separation_score(Nll().score(inside), Nll().score(outside))
    for t in (0.5, 1.0, 2.0, 10.0, 100.0):
        assert separation_score(score.score(inside / t), score.score(outside / t)) == as_nll


@on_features
def test_another_population_far_away_is_seen_where_a_linear_head_is_certain(name: str) -> None:
    rng = np.random.default_rng(5)
    head, basis, centres = rng.normal(size=(16, 10)), rng.normal(size=(6, 16)), rng.normal(size=(10, 6))
    labels = rng.integers(0, 10, size=3000)
    rows = (centres[labels] + 0.5 * rng.normal(size=(3000, 6))) @ basis + 0.1 * rng.normal(size=(3000, 16))
    score = SCORES[name].fit(rows[:2000], labels[:2000], logits=rows[:2000] @ head)
    near, far = rows[2000:], 20.0 * rng.normal(size=(1000, 16))
    assert separation_score(score.score(near), score.score(far)) > 0.95
    assert separation_score(Nll().score(near @ head), Nll().score(far @ head)) < 0.2


@on_features
def test_neither_units_nor_origin_of_a_feature_matter(name: str) -> None:
    rows = training_rows()
    labels, new = rows.argmax(axis=1), 3.0 * rows[::-1]
    unit, origin = np.array([1e-6, 1e6, 3.0, 0.2]), np.array([5.0, -1e3, 0.0, 1.0])
    moved = SCORES[name].fit(unit * rows + origin, labels, logits=rows)
    plain = SCORES[name].fit(rows, labels, logits=rows)
    np.testing.assert_allclose(moved.score(unit * new + origin), plain.score(new), rtol=1e-5, atol=1e-6)


@on_features
def test_a_far_row_in_any_direction_scores_above_every_near_row(name: str) -> None:
    if name in BLIND_DIRECTIONS:
        pytest.skip(BLIND_DIRECTIONS[name])
    near = fitted(name).score(training_rows())
    for direction in np.concatenate([np.eye(WIDTH), -np.eye(WIDTH)]):
        assert fitted(name).score(100.0 * direction[None])[0] > near.max()


@on_features
@pytest.mark.parametrize("constant", [0.0, 0.1, 0.5, 1e6 / 3])
def test_a_constant_feature_does_no_harm(name: str, constant: float) -> None:
    rows = training_rows()
    labels = rows.argmax(axis=1)
    rows[:, 2] = constant
    score = SCORES[name].fit(rows, labels)
    assert np.isfinite(score.score(rows)).all()
    nudged = rows.copy()
    nudged[:, 2] *= 1.0 + 1e-9
    nudged[:, 2] += 1e-9
    np.testing.assert_allclose(score.score(nudged), score.score(rows), rtol=1e-2, atol=1e-2)


@on_features
def test_few_rows_and_copied_features_do_no_harm(name: str) -> None:
    rows = np.random.default_rng(1).normal(size=(6, 3))
    wide = np.concatenate([rows, rows, rows, rows], axis=1)
    score = SCORES[name].fit(wide, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite(score.score(wide)).all()
    if name not in BLIND_DIRECTIONS:
        assert score.score(wide + 50.0).min() > score.score(wide).max()


@on_features
def test_a_class_may_be_absent_or_have_one_row(name: str) -> None:
    rows = training_rows()
    labels = np.full(N, 5)
    labels[0] = 2
    assert np.isfinite(SCORES[name].fit(rows, labels).score(rows)).all()


@on_features
def test_one_row_alone_teaches_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="one row alone"):
        SCORES[name].fit(training_rows()[:1], np.array([0]))


@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_a_spread_within_classes_needs_a_class_of_two_rows(name: str) -> None:
    rows = training_rows()[:4]
    with pytest.raises(ValueError, match="no class has two rows"):
        SCORES[name].fit(rows, np.arange(4))
    assert np.isfinite(SCORES[name].fit(rows, np.array([0, 1, 2, 2])).score(rows)).all()
