"""Chains between a network and its probabilities, on data whose posterior is known."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from service.core.numerics import Array, Indices
from service.training.chains import CHAINS, MEASURES, binary_measures, log_probs_by_chain
from service.training.example_sets import Examples
from service.training.loop import Trained
from service.training.objectives import CrossEntropy, Focal, LabelSmoothing, Objective, Weighted

COST = np.array([[0.0, 10.0], [1.0, 0.0]])


def logistic(rows: int, *, seed: int) -> Examples:
    """P(1 | x) is the logistic function of x - 2, x of deviation 2: about one in five is positive."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(0.0, 2.0, (rows, 1))
    return Examples(inputs.astype(np.float32), (rng.random(rows) < 1 / (1 + np.exp(2 - inputs[:, 0]))).astype(np.int64))


class Optimum(nn.Module):
    """Logits of the posterior, with a bias and a factor: what a loss made of it."""

    def __init__(self, *, bias: float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.bias, self.factor = bias, factor

    def forward(self, rows: Tensor) -> Tensor:
        odds = self.factor * (rows[:, 0] - 2.0) + self.bias
        logits: Tensor = torch.stack([torch.zeros_like(odds), odds], dim=1)
        return logits


def served(network: nn.Module, objective: Objective) -> dict[str, dict[str, float]]:
    trained = Trained(network, objective, np.array([0.8, 0.2]), (), 0)
    calibration, test = logistic(4000, seed=1), logistic(8000, seed=2)
    found = log_probs_by_chain(trained, calibration, test)
    return {name: binary_measures(log_probs, test.labels, COST) for name, log_probs in found.items()}


def truth() -> dict[str, float]:
    return served(Optimum(), CrossEntropy())["as trained"]


@pytest.mark.parametrize("chain", CHAINS)
def test_no_chain_harms_a_network_that_reports_the_posterior(chain: str) -> None:
    assert served(Optimum(), CrossEntropy())[chain]["log_loss"] == pytest.approx(truth()["log_loss"], abs=0.002)


def test_temperature_alone_leaves_class_weights_in_the_probabilities() -> None:
    found = served(Optimum(bias=np.log(4.0)), Weighted((1.0, 4.0)))
    assert found["temperature"]["log_loss"] > truth()["log_loss"] + 0.05
    assert found["temperature"]["event_bias"] > 0.08
    for chain in ("inverse", "inverse, temperature", "temperature and biases"):
        assert found[chain]["log_loss"] == pytest.approx(truth()["log_loss"], abs=0.002)
        assert found[chain]["least_cost"] < found["temperature"]["least_cost"] - 0.02


def test_temperature_repairs_a_network_that_is_too_sure() -> None:
    found = served(Optimum(factor=3.0), CrossEntropy())
    assert found["as trained"]["log_loss"] > truth()["log_loss"] + 0.05
    assert found["temperature"]["log_loss"] == pytest.approx(truth()["log_loss"], abs=0.002)


@pytest.mark.parametrize("objective", [Focal(2.0), LabelSmoothing(0.1)])
def test_the_inverse_of_a_loss_that_left_no_trace_does_harm(objective: Objective) -> None:
    found = served(Optimum(), objective)
    assert found["inverse"]["log_loss"] > found["as trained"]["log_loss"] + 0.01


def test_every_measure_has_a_title() -> None:
    assert binary_measures(*by_hand(), COST).keys() == MEASURES.keys()


def by_hand() -> tuple[Array, Indices]:
    return np.log([[0.95, 0.05], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]), np.array([0, 1, 1, 0])


def test_measures_of_four_rows_are_those_by_hand() -> None:
    found = binary_measures(*by_hand(), COST)
    assert found["recall"] == 0.5
    assert found["argmax_cost"] == pytest.approx(10 / 4)
    assert found["least_cost"] == pytest.approx(1 / 4)
    assert found["event_bias"] == pytest.approx((0.05 + 0.2 + 0.7 + 0.4) / 4 - 0.5)
    assert found["event_calibration_error"] == pytest.approx((0.05 + 0.8 + 0.3 + 0.4) / 4)
    assert found["log_loss"] == pytest.approx(-np.log([0.95, 0.2, 0.7, 0.6]).mean())
