"""Log loss against expectation: how often a sound model is out of range, how often a wrong one is found."""

import numpy as np
import pytest

from service.core.assessment.expected_loss import entropies, expected_log_loss
from service.core.numerics import log_softmax


def out_of_range(repeats, n, classes, temperature, rows=1):
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(repeats):
        z = rng.normal(0.0, 2.0, (n // rows, classes)).repeat(rows, axis=0)
        truth = log_softmax(z * temperature)
        u = rng.random((n // rows, 1)).repeat(rows, axis=0)
        labels = np.minimum((np.exp(truth).cumsum(axis=1) < u).sum(axis=1), classes - 1)
        groups = None if rows == 1 else np.arange(n) // rows
        found += expected_log_loss(log_softmax(z), labels, groups=groups).beyond_chance
    return found / repeats


@pytest.mark.parametrize(("n", "classes", "rows"), [(100, 2, 1), (500, 4, 1), (500, 3, 5)])
def test_a_sound_model_is_out_of_range_once_in_twenty_at_most(n, classes, rows):
    assert out_of_range(500, n, classes, 1.0, rows) <= 0.07


def test_probabilities_that_are_too_sure_are_found():
    assert out_of_range(50, 500, 3, 1.0 / 1.5) >= 0.9


def test_an_impossible_class_that_never_occurs_changes_nothing():
    log_probs = np.array([[np.log(0.5), np.log(0.5)]] * 10)
    more = np.concatenate([log_probs, np.full((10, 1), -np.inf)], axis=1)
    labels = np.arange(10) % 2
    one, other = expected_log_loss(log_probs, labels), expected_log_loss(more, labels)
    assert [one.observed, one.expected] == pytest.approx([other.observed, other.expected])
    assert entropies(more) == pytest.approx(entropies(log_probs))


def test_an_impossible_class_that_occurs_is_beyond_chance():
    assert expected_log_loss(np.array([[0.0, -np.inf]] * 10), np.ones(10, dtype=int)).beyond_chance
