import numpy as np
import pytest

from service.core.calibration.bcts import Bcts
from service.core.calibration.matrix import Matrix
from service.core.calibration.vector import Vector
from service.core.numerics import log_softmax


def test_it_recovers_a_confusion_between_two_classes() -> None:
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(20_000, 3))
    weight = np.array([[0.8, 0.3, 0.0], [0.3, 0.8, 0.0], [0.0, 0.0, 0.8]])
    true = np.exp(log_softmax(log_softmax(logits) @ weight.T))
    labels = (true.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    errors = {
        method: float(np.abs(np.exp(method.fit(logits, labels).apply(logits)) - true).mean())
        for method in (Bcts, Vector, Matrix)
    }
    assert errors[Matrix] < 0.006
    assert errors[Matrix] < 0.2 * min(errors[Bcts], errors[Vector])


def test_regularisation_halves_the_price_of_its_many_parameters(truth) -> None:
    right = truth(10)
    fresh, _ = right.draw(5000, seed=1000)
    draws = [right.draw(1000, seed=seed) for seed in range(4)]
    price = np.mean([right.excess(Matrix.fit(*rows).apply(fresh), fresh) for rows in draws])
    assert price < 0.0543 / 1.5


def test_two_hundred_rows_do_not_explode(truth) -> None:
    right = truth(10)
    fresh, _ = right.draw(5000, seed=1000)
    assert right.excess(Matrix.fit(*right.draw(200, seed=0)).apply(fresh), fresh) < 0.1


def test_the_row_of_an_absent_class_is_that_of_one_temperature(truth) -> None:
    logits, labels = truth(4).draw(500, seed=3)
    seen = labels != 1
    fitted = Matrix.fit(logits[seen], labels[seen])
    common = 1.0 / Bcts.fit(logits[seen], labels[seen]).temperature
    assert fitted.bias[1] == 0.0
    assert fitted.weight[1] == pytest.approx([0.0, common, 0.0, 0.0], rel=1e-12)
