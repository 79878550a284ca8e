import numpy as np
import pytest

from service.core.calibration.bcts import Bcts
from service.core.calibration.vector import Vector


def test_it_recovers_the_slopes_and_biases_behind_the_labels(truth) -> None:
    slope, bias = np.array([0.4, 0.6, 0.8, 1.0]), np.array([0.5, -0.5, 0.2, -0.2])
    fitted = Vector.fit(*truth(4, slope=slope, bias=bias).draw(100_000, seed=0))
    np.testing.assert_allclose(fitted.slope, slope, rtol=0, atol=0.03)
    np.testing.assert_allclose(fitted.bias, bias, rtol=0, atol=0.06)


def test_its_price_is_that_of_the_reference(truth) -> None:
    right = truth(10)
    fresh, _ = right.draw(5000, seed=1000)
    draws = [right.draw(1000, seed=seed) for seed in range(10)]
    price = np.mean([right.excess(Vector.fit(*rows).apply(fresh), fresh) for rows in draws])
    assert 0.0099 / 2 < price < 0.0099 * 2


def test_it_beats_one_slope_where_the_slopes_differ(truth) -> None:
    right = truth(4, slope=np.array([0.3, 0.6, 0.9, 1.2]))
    fresh, _ = right.draw(5000, seed=1)
    rows = right.draw(3000, seed=2)
    assert right.excess(Vector.fit(*rows).apply(fresh), fresh) < 0.01
    assert right.excess(Bcts.fit(*rows).apply(fresh), fresh) > 0.03


def test_many_classes_may_still_correct_their_prevalence(truth) -> None:
    bias = 0.7 * np.random.default_rng(99).normal(size=50)
    right = truth(50, bias=bias - bias.mean())
    fresh, _ = right.draw(1000, seed=1)
    assert right.excess(Vector.fit(*right.draw(2500, seed=2)).apply(fresh), fresh) < 2 * 50 / (2 * 2500) * 2


def test_an_absent_class_keeps_the_common_slope_and_no_bias(truth) -> None:
    logits, labels = truth(4).draw(500, seed=3)
    seen = labels != 1
    fitted = Vector.fit(logits[seen], labels[seen])
    common = 1.0 / Bcts.fit(logits[seen], labels[seen]).temperature
    assert fitted.bias[1] == 0.0
    assert fitted.slope[1] == pytest.approx(common, rel=1e-12)
