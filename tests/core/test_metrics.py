import itertools
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from service.core.metrics import (
    METRICS,
    accuracy_score,
    binned_gap,
    brier_loss,
    calibration_error,
    classwise_calibration_error,
    log_loss,
    realised_cost,
    separation_score,
)
from service.core.numerics import Array, Indices, log_softmax

LABELS = np.arange(60) % 3
PERFECT = log_softmax(800.0 * np.eye(3)[LABELS])
FLAT = np.log(np.full((60, 3), 1 / 3))
WRONG = PERFECT[:, [1, 2, 0]]

every_metric = pytest.mark.parametrize("name", METRICS)


def drawn(n: int, k: int, *, seed: int) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    log_p = log_softmax(2.0 * rng.normal(size=(n, k)))
    cumulative = np.exp(log_p).cumsum(axis=1)
    return log_p, (cumulative > rng.random((n, 1)) * cumulative[:, -1:]).argmax(axis=1)


# ------------------------------------------------------------------------------------------------ the whole registry


@every_metric
def test_a_name_tells_which_way_is_better(name: str) -> None:
    assert name.endswith(("_score", "_loss", "_error"))
    assert METRICS[name].__name__ == name


@every_metric
def test_perfect_predictions_are_at_least_as_good_as_flat_ones_and_better_than_wrong_ones(name: str) -> None:
    sign = 1.0 if name.endswith("_score") else -1.0
    perfect, flat, wrong = (sign * METRICS[name](log_p, LABELS) for log_p in (PERFECT, FLAT, WRONG))
    assert perfect >= flat - 1e-12
    assert perfect > wrong


@every_metric
def test_the_order_of_rows_changes_nothing(name: str) -> None:
    log_p, labels = drawn(200, 4, seed=0)
    order = np.random.default_rng(0).permutation(200)
    assert METRICS[name](log_p[order], labels[order]) == pytest.approx(METRICS[name](log_p, labels), rel=1e-12)


@every_metric
def test_the_names_of_classes_change_nothing(name: str) -> None:
    log_p, labels = drawn(200, 4, seed=1)
    order = np.array([2, 0, 3, 1])
    renamed = METRICS[name](log_p[:, order], np.argsort(order)[labels])
    assert renamed == pytest.approx(METRICS[name](log_p, labels), rel=1e-12)


@every_metric
def test_a_metric_is_a_float_and_leaves_its_arguments_alone(name: str) -> None:
    log_p, labels = drawn(50, 3, seed=2)
    before = log_p.copy(), labels.copy()
    assert type(METRICS[name](log_p, labels)) is float
    np.testing.assert_array_equal(log_p, before[0])
    np.testing.assert_array_equal(labels, before[1])


# ---------------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize("k", [2, 3, 10])
def test_log_loss_accuracy_and_brier_agree_with_scikit_learn(k: int) -> None:
    log_p, labels = drawn(500, k, seed=k)
    p, classes = np.exp(log_p), list(range(k))
    assert log_loss(log_p, labels) == pytest.approx(sklearn.metrics.log_loss(labels, p, labels=classes), rel=1e-12)
    assert accuracy_score(log_p, labels) == sklearn.metrics.accuracy_score(labels, p.argmax(axis=1))
    assert brier_loss(log_p, labels) == pytest.approx(
        sklearn.metrics.brier_score_loss(labels, p, labels=classes, scale_by_half=False), rel=1e-12
    )


def test_for_two_classes_brier_is_twice_scikit_learns() -> None:
    log_p, labels = drawn(500, 2, seed=3)
    half = sklearn.metrics.brier_score_loss(labels, np.exp(log_p[:, 1]))
    assert brier_loss(log_p, labels) == pytest.approx(2.0 * half, rel=1e-12)


def test_a_flat_posterior_costs_the_logarithm_of_the_classes() -> None:
    assert log_loss(FLAT, LABELS) == pytest.approx(np.log(3.0), rel=1e-14)
    assert brier_loss(FLAT, LABELS) == pytest.approx(2.0 / 3.0, rel=1e-14)


def test_a_class_ruled_out_that_was_true_costs_infinity() -> None:
    assert log_loss(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf


def test_of_equally_probable_classes_the_first_is_predicted() -> None:
    assert accuracy_score(np.log([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])) == 0.5


def test_bins_are_closed_on_the_right() -> None:
    said, happened = np.array([0.5, 0.4, 0.7, 0.75]), np.array([1, 0, 0, 1])
    assert binned_gap(said, happened, bins=4) == pytest.approx(0.1375, rel=1e-12)
    assert binned_gap(said, happened, bins=4) != pytest.approx(0.2125, abs=0.01)  # closed on the left


def test_zero_and_one_fall_into_the_outer_bins() -> None:
    assert binned_gap(np.array([0.0, 1.0]), np.array([0, 1])) == 0.0
    assert binned_gap(np.array([0.0, 1.0]), np.array([1, 0])) == 1.0


def test_calibration_error_is_that_of_the_favourite() -> None:
    log_p, labels = drawn(2000, 5, seed=4)
    confidence, right = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, 16)
    by_hand = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            by_hand += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error(log_p, labels) == pytest.approx(by_hand, rel=1e-10)


@pytest.mark.parametrize(("n", "bias"), [(200, 0.0736), (1000, 0.0336), (5000, 0.0154)])
def test_even_a_perfect_predictor_shows_some_calibration_error(n: int, bias: float) -> None:
    rng = np.random.default_rng(n)
    measured = []
    for _ in range(100):
        said = rng.random(n)
        measured.append(binned_gap(said, rng.random(n) < said))
    assert np.mean(measured) == pytest.approx(bias, rel=0.25)


def test_an_over_confident_posterior_has_more_calibration_error() -> None:
    log_p, labels = drawn(5000, 4, seed=5)
    for metric in (calibration_error, classwise_calibration_error):
        assert metric(log_softmax(3.0 * log_p), labels) > metric(log_p, labels) + 0.02


def test_classwise_error_sees_two_classes_mixed_up_below_the_favourite() -> None:
    n = 1000
    log_p = np.log(np.tile([0.6, 0.3, 0.1], (n, 1)))
    labels = np.repeat([0, 1, 2], [600, 100, 300])
    assert calibration_error(log_p, labels) == pytest.approx(0.0, abs=1e-12)
    assert classwise_calibration_error(log_p, labels) == pytest.approx(0.4 / 3, rel=1e-12)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_separation_is_the_area_under_the_roc_curve_ties_counting_half(inside: list[int], outside: list[int]) -> None:
    inner, outer = np.array(inside, dtype=np.float64), np.array(outside, dtype=np.float64)
    oracle = sklearn.metrics.roc_auc_score(np.repeat([0, 1], [len(inner), len(outer)]), np.concatenate([inner, outer]))
    assert separation_score(inner, outer) == pytest.approx(oracle, abs=1e-12)
    assert separation_score(outer, inner) == pytest.approx(1.0 - oracle, abs=1e-12)


@pytest.mark.parametrize("monotone", [np.exp, np.arctan, lambda s: 5.0 * s - 2.0, np.cbrt])
def test_no_monotone_map_of_a_score_changes_its_separation(monotone: Callable[[Array], Array]) -> None:
    rng = np.random.default_rng(6)
    inside, outside = rng.normal(size=300), rng.normal(size=200) + 1.0
    assert separation_score(monotone(inside), monotone(outside)) == separation_score(inside, outside)


def test_realised_cost_reads_rows_as_actions_and_columns_as_truth() -> None:
    cost = np.array([[0.0, 50.0], [1.0, 2.0], [3.0, 4.0]])
    assert realised_cost(np.array([0, 0, 1, 2]), cost, np.array([0, 1, 1, 0])) == (0.0 + 50.0 + 2.0 + 3.0) / 4
