import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.numerics import Array, Indices, log_softmax
from service.core.prior import (
    confusion,
    expectation_maximisation,
    mean_agrees,
    returns_source,
    shift,
)

log_probs = arrays(np.float64, (4, 3), elements=st.floats(-20.0, 20.0)).map(log_softmax)
prevalences = arrays(np.float64, 3, elements=st.floats(0.01, 1.0)).map(lambda weights: weights / weights.sum())


@given(log_probs, prevalences)
def test_equal_prevalences_change_not_one_bit(log_p: Array, prevalence: Array) -> None:
    assert shift(log_p, source=prevalence, target=prevalence.copy()).tobytes() == log_p.tobytes()


@given(log_probs, prevalences, prevalences, prevalences)
def test_two_shifts_in_a_row_are_one(log_p: Array, first: Array, second: Array, third: Array) -> None:
    through = shift(shift(log_p, source=first, target=second), source=second, target=third)
    np.testing.assert_allclose(through, shift(log_p, source=first, target=third), rtol=0, atol=1e-11)


@given(log_probs, prevalences, prevalences)
def test_there_and_back_is_where_one_was(log_p: Array, first: Array, second: Array) -> None:
    back = shift(shift(log_p, source=first, target=second), source=second, target=first)
    np.testing.assert_allclose(back, log_p, rtol=0, atol=1e-11)


@given(log_probs, prevalences, prevalences)
def test_shifted_probabilities_sum_to_one(log_p: Array, first: Array, second: Array) -> None:
    assert np.abs(np.exp(shift(log_p, source=first, target=second)).sum(axis=1) - 1.0).max() <= 1e-12


def test_elkans_two_class_formula_is_reproduced() -> None:
    p, b, b_new = 0.8, 0.5, 0.1
    shifted = shift(np.log([[1 - p, p]]), source=np.array([1 - b, b]), target=np.array([1 - b_new, b_new]))
    assert np.exp(shifted[0, 1]) == pytest.approx(b_new * (p - p * b) / (b - p * b + b_new * p - b * b_new), rel=1e-13)
    assert np.exp(shifted[0, 1]) == pytest.approx(0.3076923076923077, rel=1e-13)


def test_a_shifted_posterior_is_that_of_the_other_population() -> None:
    x = np.linspace(-4.0, 4.0, 9)
    likelihood = np.stack([-0.5 * (x + 1.0) ** 2, -0.5 * (x - 1.0) ** 2], axis=1)
    source, target = np.array([0.9, 0.1]), np.array([0.3, 0.7])
    here, there = log_softmax(likelihood + np.log(source)), log_softmax(likelihood + np.log(target))
    np.testing.assert_allclose(shift(here, source=source, target=target), there, rtol=0, atol=1e-13)


def test_a_class_ruled_out_stays_ruled_out() -> None:
    shifted = shift(np.array([[0.0, -np.inf]]), source=np.array([0.5, 0.5]), target=np.array([0.1, 0.9]))
    np.testing.assert_array_equal(np.exp(shifted), [[1.0, 0.0]])


def test_a_calibrated_posterior_agrees_with_the_labels_drawn_from_it() -> None:
    rng = np.random.default_rng(0)
    log_p = log_softmax(2.0 * rng.normal(size=(500, 4)))
    labels = (np.exp(log_p).cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    assert mean_agrees(log_p, np.bincount(labels, minlength=4) / 500)


def test_a_posterior_trained_on_balanced_classes_does_not_agree_with_rare_ones() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(500) < 0.1).astype(np.intp)
    half = rng.normal(size=500) + 2.0 * labels - 1.0  # its slope and prevalence are those of equal classes
    log_p = log_softmax(np.stack([-half, half], axis=1))
    assert not mean_agrees(log_p, np.bincount(labels, minlength=2) / 500)


def test_a_certain_posterior_agrees_only_with_its_own_counts() -> None:
    log_p = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert mean_agrees(log_p, np.array([0.5, 0.5]))
    assert not mean_agrees(log_p, np.array([0.6, 0.4]))


# -------------------------------------------------------------------------------------------------------- estimates

HALF = np.array([0.5, 0.5])


def discrete(likelihood: Array, source: Array) -> tuple[Array, Array]:
    """Exact posteriors, one row per value of x, and their confusion; ``likelihood[x, y]``."""
    posterior = likelihood * source / (likelihood @ source)[:, None]
    return np.log(posterior), posterior.T @ likelihood


def gaussian(n: int, prevalence: Array, *, seed: int, source: Array, scale: float = 1.0) -> tuple[Array, Indices]:
    """Rows of three overlapping classes, and their posterior under ``source`` (its logits times ``scale``)."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    labels = rng.choice(3, size=n, p=prevalence)
    x = centres[labels] + rng.normal(size=(n, 2))
    distances = ((x[:, None, :] - centres) ** 2).sum(axis=2)
    return log_softmax(scale * (-0.5 * distances + np.log(source))), labels


@pytest.mark.parametrize(("m", "expected"), [(0.6, 0.6), (0.45, 0.3), (0.9, 1.0), (0.2, 0.0)])
def test_a_coin_seen_through_a_test_is_estimated_exactly(m: float, expected: float) -> None:
    log_p, matrix = discrete(np.array([[0.7, 0.2], [0.3, 0.8]]), HALF)
    rows = np.repeat(log_p, np.round([1000 * (1 - m), 1000 * m]).astype(np.intp), axis=0)
    em = expectation_maximisation(rows, source=HALF, confusion=matrix)
    assert em.settled
    assert em.prevalence[1] == pytest.approx(expected, abs=1e-6)


def test_three_classes_are_found() -> None:
    likelihood = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
    truth, source = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.3, 0.2])
    log_p, matrix = discrete(likelihood, source)
    rows = np.repeat(log_p, np.round(1000 * likelihood @ truth).astype(np.intp), axis=0)
    em = expectation_maximisation(rows, source=source, confusion=matrix)
    np.testing.assert_allclose(em.prevalence, truth, rtol=0, atol=1e-6)
    assert em.condition == pytest.approx(np.linalg.cond(matrix))


def test_em_finds_the_prevalence_of_drawn_rows_within_its_standard_error() -> None:
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.15, 0.25, 0.6])
    matrix = confusion(*gaussian(60_000, source, seed=0, source=source))
    drawn = (gaussian(400, target, seed=seed, source=source)[0] for seed in range(1, 151))
    found = [expectation_maximisation(rows, source=source, confusion=matrix, tolerance=1e-9) for rows in drawn]
    gaps = np.array([one.prevalence - target for one in found])
    spread = gaps.std(axis=0)
    assert (np.abs(gaps.mean(axis=0)) <= 4.0 * spread / np.sqrt(150) + 0.005).all()
    np.testing.assert_allclose(np.mean([one.standard_error for one in found], axis=0), spread, rtol=0.25)


def test_em_is_a_fixed_point_at_the_mean_of_the_posterior_that_it_shifts() -> None:
    source = np.array([0.5, 0.3, 0.2])
    rows, labels = gaussian(2000, np.array([0.2, 0.2, 0.6]), seed=3, source=source)
    found = expectation_maximisation(rows, source=source, confusion=confusion(rows, labels)).prevalence
    np.testing.assert_allclose(np.exp(shift(rows, source=source, target=found)).mean(axis=0), found, rtol=0, atol=1e-9)


def test_em_needs_a_calibrated_model() -> None:
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.15, 0.25, 0.6])
    matrix = confusion(*gaussian(60_000, source, seed=0, source=source, scale=3.0))
    rows, _ = gaussian(60_000, target, seed=1, source=source, scale=3.0)
    em = expectation_maximisation(rows, source=source, confusion=matrix)
    assert np.abs(em.prevalence - target).max() > 0.03


def test_classes_that_look_alike_are_refused_with_the_condition_number() -> None:
    log_p = log_softmax(np.random.default_rng(4).normal(size=(100, 2)))
    twins = np.concatenate([log_p - np.log([1.0, 2.0]), log_p[:, 1:] - np.log(2.0)], axis=1)
    matrix = np.array([[0.6, 0.2, 0.2], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]])
    with pytest.raises(ValueError, match=r"condition number .* more than 1e\+06 is refused"):
        expectation_maximisation(twins, source=np.full(3, 1 / 3), confusion=matrix)


def test_a_class_without_rows_has_no_confusion() -> None:
    with pytest.raises(ValueError, match="class 1"):
        confusion(np.log(np.full((4, 3), 1 / 3)), np.array([0, 0, 2, 2]))


def test_rows_that_the_model_is_certain_of_are_counted() -> None:
    rows = np.array([[0.0, -np.inf]] * 30 + [[-np.inf, 0.0]] * 70)
    em = expectation_maximisation(rows, source=HALF, confusion=np.eye(2))
    np.testing.assert_allclose(em.prevalence, [0.3, 0.7], rtol=1e-12)
    np.testing.assert_allclose(em.standard_error, np.sqrt(0.3 * 0.7 / 100), rtol=1e-6)


def test_a_calibrated_model_returns_the_source_on_its_calibration_rows() -> None:
    source = np.array([0.5, 0.3, 0.2])
    held = [returns_source(*gaussian(400, source, seed=seed, source=source), source=source) for seed in range(60)]
    assert np.mean(held) > 0.95


def test_a_model_trained_on_balanced_classes_does_not_return_the_declared_source() -> None:
    source = np.array([0.8, 0.1, 0.1])
    rows, labels = gaussian(2000, source, seed=5, source=np.full(3, 1 / 3))
    assert not returns_source(rows, labels, source=np.full(3, 1 / 3))
    assert not returns_source(rows, labels, source=source)


def test_the_source_is_returned_by_the_weights_that_the_calibration_used() -> None:
    rng = np.random.default_rng(6)
    rows = np.log(np.repeat([[0.9, 0.1], [0.2, 0.8]], [2000, 2000], axis=0))
    rare = np.repeat([0.4, 0.8], 2000)  # of the first rows twice as many are of the second class as weights of 1 say
    labels = (rng.random(4000) < rare).astype(np.intp)
    weights = np.where((labels == 1) & (np.arange(4000) < 2000), 0.1 / 0.9 * 0.6 / 0.4, 1.0)
    shares = np.bincount(labels, weights) / weights.sum()
    assert returns_source(rows, labels, source=np.exp(rows).T @ weights / weights.sum(), weights=weights)
    assert np.abs(np.exp(rows).T @ weights / weights.sum() - shares).max() < 0.03
    assert returns_source(rows, labels, source=shares, weights=weights)
    assert not returns_source(rows, labels, source=shares)


@pytest.mark.parametrize("copies", [4, 20])
def test_copies_of_rows_in_one_group_return_what_the_rows_do(copies: int) -> None:
    source = np.array([0.5, 0.3, 0.2])
    rows, labels = gaussian(200, source, seed=7, source=source)
    index = np.repeat(np.arange(200), copies)
    plain = expectation_maximisation(rows, source=source, confusion=confusion(rows, labels))
    matrix = confusion(rows[index], labels[index])
    grouped = expectation_maximisation(rows[index], source=source, confusion=matrix, groups=index)
    np.testing.assert_allclose(grouped.standard_error, plain.standard_error, rtol=1e-6)
    weighted = expectation_maximisation(rows, source=source, confusion=matrix, weights=np.full(200, 3.0))
    np.testing.assert_allclose(weighted.standard_error, plain.standard_error, rtol=1e-6)


def test_prevalences_row_by_row_move_every_row_by_its_own_and_none_where_nothing_moves() -> None:
    rng = np.random.default_rng(20)
    log_p, source = log_softmax(rng.normal(size=(30, 3))), np.array([0.5, 0.3, 0.2])
    targets = rng.dirichlet(np.ones(3), size=30)
    targets[::3] = source
    moved = shift(log_p, source=source, target=targets)
    alone = [shift(log_p[i : i + 1], source=source, target=targets[i])[0] for i in range(30)]
    np.testing.assert_array_equal(moved, alone)
    np.testing.assert_array_equal(moved[::3], log_p[::3])
