"""Promises of every OOD score; those on logits and those on features are asked the questions that fit them."""

import dataclasses

import numpy as np
import pytest

from service.core.numerics import Array
from service.core.ood import RULES, SCORES, Score

N, WIDTH = 400, 4

every_score = pytest.mark.parametrize("name", SCORES)
on_logits = pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].needs != "features"])
on_features = pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].needs == "features"])


def training_rows() -> Array:
    return 2.0 * np.random.default_rng(0).normal(size=(N, WIDTH))


def fitted(name: str) -> Score:
    rows = training_rows()
    return SCORES[name].fit(rows, rows.argmax(axis=1))


@every_score
def test_what_it_needs_is_known_and_its_name_is_no_rules(name: str) -> None:
    assert SCORES[name].needs in ("logits", "probabilities", "features")
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
    assert dataclasses.is_dataclass(score)
    state = {field.name: getattr(score, field.name) for field in dataclasses.fields(score)}
    assert all(isinstance(value, np.ndarray) for value in state.values())
    assert bool(state) == SCORES[name].stateful
    np.testing.assert_array_equal(SCORES[name](**state).score(training_rows()), score.score(training_rows()))


@every_score
def test_fitting_and_scoring_leave_their_rows_alone(name: str) -> None:
    rows = training_rows()
    SCORES[name].fit(rows, rows.argmax(axis=1)).score(rows)
    np.testing.assert_array_equal(rows, training_rows())


@every_score
def test_the_same_rows_give_the_same_score(name: str) -> None:
    np.testing.assert_array_equal(fitted(name).score(training_rows()), fitted(name).score(training_rows()))


@on_logits
def test_a_flat_row_scores_above_a_peaked_row(name: str) -> None:
    peaked, flat = SCORES[name].fit(np.eye(2), np.arange(2)).score(np.array([[9.0, 0.0], [0.1, 0.0]]))
    assert flat > peaked


@on_logits
def test_it_does_not_care_what_the_classes_are_called(name: str) -> None:
    if SCORES[name].stateful:
        pytest.skip("remembers classes")
    rows = training_rows()
    np.testing.assert_allclose(fitted(name).score(rows[:, ::-1]), fitted(name).score(rows), rtol=1e-12)


@on_logits
def test_what_needs_probabilities_ignores_a_constant_of_the_row(name: str) -> None:
    if SCORES[name].needs != "probabilities":
        pytest.skip("reads the level of logits")
    rows = training_rows()
    np.testing.assert_allclose(fitted(name).score(rows + 5.0), fitted(name).score(rows), rtol=1e-9)


@on_features
def test_a_far_row_scores_above_a_near_row(name: str) -> None:
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
    assert score.score(wide + 50.0).min() > score.score(wide).max()


@on_features
def test_a_class_may_be_absent_or_have_one_row(name: str) -> None:
    rows = training_rows()
    labels = np.full(N, 5)
    labels[0] = 2
    assert np.isfinite(SCORES[name].fit(rows, labels).score(rows)).all()
