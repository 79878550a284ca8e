"""Where temperature alone fails, from fit to report: a model trained with class weights (science.md 2.6)."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.special import log_softmax

from service.bundle.record import Record
from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.fitting.fit import FitRequest, fit
from service.reporting import page
from service.reporting.terminal import render_record, render_report
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Save = Callable[..., Path]
PRIOR = {2: np.array([0.9, 0.1]), 3: np.array([0.8, 0.15, 0.05])}
COSTS = {
    2: """\
[policies.act]
costs.wait = { ann = 0, bob = 6 }
costs.treat = { ann = 1, bob = 0 }
""",
    3: """\
[policies.act]
costs.wait = { ann = 0, bob = 6, cyd = 9 }
costs.treat = { ann = 1, bob = 0, cyd = 3 }
costs.move = { ann = 3, bob = 2, cyd = 0 }
""",
}
REMEDY = "A temperature cannot move that, a bias can: fit on rows of this population"


def weighted_model(k: int, n: int, *, seed: int) -> tuple[Array, Indices, Array]:
    """Logits at the optimum of a loss weighted by one over the prevalence, labels, and the true log-posterior."""
    rng = np.random.default_rng(seed)
    y = rng.choice(k, size=n, p=PRIOR[k])
    point = rng.normal(size=(n, k)) + 1.4 * np.eye(k)[y]
    evidence = (1.4 * point).astype(np.float32).astype(np.float64)
    return evidence, y, log_softmax(evidence + np.log(PRIOR[k]), axis=1)


@pytest.fixture
def chain(toy: Toy, save: Save) -> Callable[[int, str], tuple[Record, Model, Evaluation]]:
    """The whole way: fit with a calibrator, publish, load, evaluate on other rows."""

    def run(k: int, calibrator: str) -> tuple[Record, Model, Evaluation]:
        z, y, _ = weighted_model(k, 6000, seed=0)
        repository = toy(k, COSTS[k])
        result = fit(repository, "toy", FitRequest(save("cal", X=z, y=y), calibrator=calibrator))
        model = load_model(repository.bundle("toy", result.version))
        z, y, _ = weighted_model(k, 6000, seed=1)
        return result.record, model, evaluate_file(model, EvaluateRequest(save("test", X=z, y=y)))

    return run


def printed(renderable: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=400).print(renderable, highlight=False)
    return stream.getvalue()


@pytest.mark.parametrize("k", [2, 3])
def test_with_a_temperature_fit_and_report_point_at_the_bias(
    k: int, chain: Callable[[int, str], tuple[Record, Model, Evaluation]]
) -> None:
    record, model, found = chain(k, "temperature")
    *_, rarest = model.classes
    assert "a temperature cannot move that mean, a bias can (--calibrator auto or bcts)" in printed(
        render_record(record)
    )
    mean = found.report.parts["rows"].probabilities.calibration.classes[rarest]
    assert mean.shifted
    assert mean.mean_predicted_probability > 1.5 * mean.observed_frequency
    assert "is predicted too" in printed(render_report(found.report))
    assert REMEDY in printed(render_report(found.report))
    _, y, truth = weighted_model(k, 6000, seed=1)
    assert found.report.metrics["log_loss"] > -truth[np.arange(len(y)), y].mean() + 0.1
    # The weights count twice, once in training and once in the costs: acting on the label is cheaper.
    assert (found.report.parts["rows"].policies["act"].saved.high or np.inf) < 0.0


@pytest.mark.parametrize("k", [2, 3])
def test_auto_takes_the_bias_and_expected_cost_beats_the_most_probable_class_again(
    k: int, chain: Callable[[int, str], tuple[Record, Model, Evaluation]]
) -> None:
    record, _, found = chain(k, "auto")
    assert record.chain == ("bcts",)
    assert "(chosen)" in printed(render_record(record))
    assert not any(own.shifted for own in found.report.parts["rows"].probabilities.calibration.classes.values())
    assert REMEDY not in printed(render_report(found.report))
    _, y, truth = weighted_model(k, 6000, seed=1)
    assert found.report.metrics["log_loss"] == pytest.approx(-truth[np.arange(len(y)), y].mean(), abs=0.005)
    assert (found.report.parts["rows"].policies["act"].saved.low or -np.inf) > 0.0
    policy = found.report.parts["rows"].policies["act"]
    assert policy.realised_cost < min(policy.label_cost, policy.constant_cost)


def test_the_page_points_at_the_bias_too(chain: Callable[[int, str], tuple[Record, Model, Evaluation]]) -> None:
    _, _, found = chain(2, "temperature")
    text = page.build(found)
    assert "Biased: “" in text
    assert REMEDY in text
