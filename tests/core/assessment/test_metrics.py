from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from service.core.assessment.metrics import (
    METRICS,
    accuracy_score,
    all_metrics,
    auroc_score,
    average_precision_score,
    brier_loss,
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
    # information theory's own words, lower is better, are kept as they are
    assert name.endswith(("_score", "_loss", "_error")) or name in {"bits_per_label", "perplexity"}
    assert METRICS[name].function.__name__ == name


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
        sklearn.metrics.brier_score_loss(labels, p, labels=classes, scale_by_half="auto"), rel=1e-12
    )


def test_for_two_classes_brier_is_that_of_one_probability() -> None:
    log_p, labels = drawn(500, 2, seed=3)
    half = sklearn.metrics.brier_score_loss(labels, np.exp(log_p[:, 1]))
    assert brier_loss(log_p, labels) == pytest.approx(half, rel=1e-12)


def test_a_flat_posterior_costs_the_logarithm_of_the_classes() -> None:
    assert log_loss(FLAT, LABELS) == pytest.approx(np.log(3.0), rel=1e-14)
    assert brier_loss(FLAT, LABELS) == pytest.approx(2.0 / 3.0, rel=1e-14)


def test_a_class_ruled_out_that_was_true_costs_infinity() -> None:
    assert log_loss(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf


def test_of_equally_probable_classes_the_first_is_predicted() -> None:
    assert accuracy_score(np.log([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])) == 0.5


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


def test_nothing_can_be_ranked_where_all_labels_are_equal() -> None:
    labels = np.zeros(60, dtype=np.intp)
    for metric in (auroc_score, average_precision_score):
        assert np.isnan(metric(FLAT, labels))


def test_two_classes_have_one_area_under_the_roc_curve() -> None:
    log_p, labels = drawn(400, 2, seed=8)
    oracle = sklearn.metrics.roc_auc_score(labels, log_p[:, 1] - log_p[:, 0])
    assert auroc_score(log_p, labels) == pytest.approx(oracle, rel=1e-12)


@pytest.mark.parametrize("k", [3, 6])
def test_ranking_scores_of_many_classes_agree_with_scikit_learns_macro_average(k: int) -> None:
    log_p, labels = drawn(500, k, seed=k)
    log_p = log_softmax(np.round(log_p, 1))  # ties
    p, one_hot = np.exp(log_p), np.eye(k)[labels]
    roc = sklearn.metrics.roc_auc_score(labels, p, multi_class="ovr", average="macro", labels=list(range(k)))
    assert auroc_score(log_p, labels) == pytest.approx(roc, rel=1e-12)
    precision = sklearn.metrics.average_precision_score(one_hot, p, average="macro")
    assert average_precision_score(log_p, labels) == pytest.approx(precision, rel=1e-12)


def test_a_class_without_rows_is_left_out_of_the_average() -> None:
    log_p, labels = drawn(300, 3, seed=9)
    rows = labels != 2
    parts = [sklearn.metrics.roc_auc_score(labels[rows] == k, log_p[rows, k]) for k in (0, 1)]
    assert auroc_score(log_p[rows], labels[rows]) == pytest.approx(np.mean(parts), rel=1e-12)


def test_rows_that_all_round_to_certainty_are_still_ranked() -> None:
    log_p = log_softmax(np.array([[40.0, 0.0], [50.0, 0.0]]))
    assert METRICS["aurc_loss"](log_p, np.array([1, 0])) == pytest.approx((0.0 + 0.5) / 2)


@every_metric
def test_probabilities_of_exactly_zero_and_one_are_measured_without_a_warning(name: str) -> None:
    with np.errstate(divide="ignore"):
        hard = np.log(np.eye(3)[(LABELS + (np.arange(60) % 5 == 0)) % 3])
    assert not np.isnan(METRICS[name](hard, LABELS))


# -------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.weighted])
def test_a_weight_of_two_is_the_row_twice(name: str) -> None:
    log_p, labels = drawn(300, 3, seed=10)
    log_p = log_softmax(np.round(log_p, 1))  # ties
    copies = np.random.default_rng(10).integers(1, 4, size=300)
    rows, weights = np.repeat(np.arange(300), copies), copies.astype(np.float64)
    repeated = METRICS[name](log_p[rows], labels[rows])
    assert METRICS[name](log_p, labels, weights=weights) == pytest.approx(repeated, rel=1e-11)
    assert METRICS[name](log_p, labels, weights=7.0 * weights) == pytest.approx(repeated, rel=1e-11)
    assert repeated != pytest.approx(METRICS[name](log_p, labels), rel=1e-6)  # the weights say something here


@every_metric
def test_a_metric_says_what_it_means_in_one_line(name: str) -> None:
    assert 20 < len(METRICS[name].meaning) < 110
    assert "\n" not in METRICS[name].meaning


def test_a_metric_without_a_meaning_for_weights_is_left_out_for_weighted_rows() -> None:
    log_p, labels = drawn(50, 3, seed=10)
    found = all_metrics(log_p, labels, weights=np.linspace(1.0, 2.0, 50))
    assert set(found) == {name for name, metric in METRICS.items() if metric.weighted}


def test_weighted_ranking_scores_agree_with_scikit_learn() -> None:
    log_p, labels = drawn(400, 2, seed=11)
    weights = np.random.default_rng(11).exponential(size=400)
    predicted = log_p[:, 1] - log_p[:, 0]
    roc = sklearn.metrics.roc_auc_score(labels, predicted, sample_weight=weights)
    assert auroc_score(log_p, labels, weights=weights) == pytest.approx(roc, rel=1e-11)
    pairs = ((predicted, labels == 1), (-predicted, labels == 0))
    precision = [sklearn.metrics.average_precision_score(y, z, sample_weight=weights) for z, y in pairs]
    assert average_precision_score(log_p, labels, weights=weights) == pytest.approx(np.mean(precision), rel=1e-11)


def test_a_weighted_cost_is_the_population_s() -> None:
    cost = np.array([[0.0, 50.0], [1.0, 2.0]])
    taken, truth = np.array([0, 1]), np.array([1, 1])
    assert realised_cost(taken, cost, truth, weights=np.array([1.0, 3.0])) == (50.0 + 3 * 2.0) / 4
