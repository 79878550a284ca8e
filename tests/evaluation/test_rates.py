"""Rates are counts of the confusion matrix; their intervals are tested in tests/core/assessment/test_confusion.py."""

import numpy as np
import pytest

from service.evaluation.rates import MOST_CLASSES, POINTS, acted, class_reports, label_confusion, shown_classes

CLASSES = ("ann", "bob")
LABELS = np.array([0, 0, 0, 1, 1])
LOG_PROBS = np.log([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])


def test_confusion_counts_predicted_by_true_class() -> None:
    assert label_confusion(LOG_PROBS, LABELS, CLASSES) == {"ann": {"ann": 2, "bob": 1}, "bob": {"ann": 1, "bob": 1}}


def test_weights_count_in_the_confusion_matrix() -> None:
    found = label_confusion(LOG_PROBS, LABELS, CLASSES, weights=np.array([1.0, 2.0, 0.5, 1.0, 4.0]))
    assert found == {"ann": {"ann": 3.0, "bob": 1.0}, "bob": {"ann": 0.5, "bob": 4.0}}


def test_rates_of_a_class_are_shares_of_the_confusion_matrix() -> None:
    found = class_reports(LOG_PROBS, LABELS, CLASSES)["bob"]
    assert found.rows == 2
    assert found.label.sensitivity.value == pytest.approx(1 / 2)
    assert found.label.specificity.value == pytest.approx(2 / 3)
    assert found.label.positive_predictive_value.value == pytest.approx(1 / 2)
    assert found.label.negative_predictive_value.value == pytest.approx(2 / 3)
    assert found.auroc.value == pytest.approx(5 / 6)  # pairs of a bob and an ann that are ranked right


def test_a_class_without_rows_has_no_rate_and_no_curve() -> None:
    found = class_reports(LOG_PROBS, np.zeros(5, dtype=np.intp), CLASSES)["bob"]
    assert (found.roc, found.label.sensitivity.value, found.label.sensitivity.reason) == (None, None, "no_rows")


def test_an_action_acts_on_the_classes_in_which_it_costs_least() -> None:
    cost = np.array([[0.0, 9.0], [1.0, 0.0], [0.0, 5.0]])
    found = acted(np.array([0, 2, 1, 1, 0]), ("wait", "treat", "look"), cost, LABELS, CLASSES)
    assert found.acts_on == {"ann": ["wait", "look"], "bob": ["treat"]}
    assert found.confusion == {
        "wait": {"ann": 1, "bob": 1},
        "treat": {"ann": 1, "bob": 1},
        "look": {"ann": 1, "bob": 0},
    }
    assert found.rates["ann"].sensitivity.value == pytest.approx(2 / 3)
    assert found.rates["bob"].sensitivity.value == pytest.approx(1 / 2)


def test_of_many_classes_the_most_frequent_are_shown_and_no_matrix() -> None:
    k = MOST_CLASSES + 5
    classes = tuple(f"c{i}" for i in range(k))
    labels = np.repeat(np.arange(k), np.arange(1, k + 1))
    log_probs = np.log(np.full((len(labels), k), 1.0 / k))
    assert shown_classes(labels, classes) == list(range(5, k))
    assert label_confusion(log_probs, labels, classes) is None


def test_a_curve_of_many_rows_has_few_points() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    log_probs = np.log(np.stack([1.0 - p, p], axis=1))
    roc = class_reports(log_probs, (rng.random(5000) < p).astype(np.intp), CLASSES)["bob"].roc
    assert roc is not None
    assert len(roc.sensitivity) <= POINTS + 2
