"""Paired differences of log loss and cost: values, coverage."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from service.core.assessment.comparison import cost_difference, log_loss_difference
from service.core.decision import decide

COST = np.array([[0.0, 20.0], [1.0, 1.0]])


def two_models(rng, n):
    x = rng.normal(-1.0, 1.5, n)
    models = [np.log(np.stack([sigmoid(-z), sigmoid(z)], axis=1)) for z in (x, 0.5 * x + 0.5)]
    return models, (rng.random(n) < sigmoid(x)).astype(int)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def test_the_difference_is_that_of_two_log_losses():
    (p, q), y = two_models(np.random.default_rng(0), 500)
    found = log_loss_difference(p, q, y)
    assert found.mean == pytest.approx(log_loss(y, np.exp(p)) - log_loss(y, np.exp(q)))
    again = log_loss_difference(q, p, y)
    assert [found.low, found.high] == pytest.approx([-again.high, -again.low])


def test_both_cover_the_difference_of_a_large_sample():
    rng = np.random.default_rng(1)
    truth = _both(rng, 400_000)
    means = [found.mean for found in truth]
    found = [
        [one.low <= mean <= one.high for one, mean in zip(_both(rng, 200), means, strict=True)] for _ in range(500)
    ]
    assert (np.mean(found, axis=0) >= 0.93).all()


def _both(rng, n):
    (p, q), y = two_models(rng, n)
    one, other = (decide(log_probs, COST).action for log_probs in (p, q))
    return log_loss_difference(p, q, y), cost_difference(one, other, COST, y)
