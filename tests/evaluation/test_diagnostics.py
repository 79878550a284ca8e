from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from service.bundle.repository import Repository
from service.core.decision import decide
from service.core.numerics import Array, Indices, log_softmax
from service.core.pipeline import Posterior
from service.data.dataset import Dataset
from service.evaluation import verdicts
from service.evaluation.checks import PREDICTED, CalibrationCheck, Diagnostics, Shift
from service.evaluation.diagnostics import check_flags, diagnose, shifts
from service.evaluation.measure import judge
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.reporting.terminal import render_diagnostics
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
TAIL = """\
[policies.triage]
costs.go = { ann = 0, bob = 50 }
costs.stay = { ann = 1, bob = 1 }
costs.ask = { ann = 3, bob = 3 }
"""


@pytest.fixture
def served(toy: Toy, truth: Truth, save: Callable[..., Path]) -> Callable[..., Model]:
    def make(k: int = 2, calibrator: str = "temperature", tail: str = TAIL) -> Model:
        x, y = truth(1500, k)
        repository = toy(k, tail)
        version = fit(repository, "toy", FitRequest(save(X=x, y=y), calibrator=calibrator)).version
        return load_model(repository.bundle("toy", version))

    return make


def found(model: Model, rows: Array, labels: Indices) -> Diagnostics:
    return diagnose(posterior_of(model, rows), labels, classes=model.classes, policies=model.policies)


def test_a_calibrated_model_is_within_chance_and_an_uncalibrated_one_is_not(
    served: Callable[..., Model], truth: Truth
) -> None:
    rows, labels = truth(2000, seed=5)
    assert found(served(), rows, labels).calibration.is_within_chance
    raw = found(served(calibrator="identity"), rows, labels).calibration
    assert not raw.is_within_chance
    assert raw.p_value < 0.01
    assert raw.slope is not None
    assert raw.slope < 0.7  # twice too sure


def test_slope_and_intercept_are_those_of_a_logistic_regression(served: Callable[..., Model], truth: Truth) -> None:
    model = served(calibrator="identity")
    rows, labels = truth(2000, seed=6)
    check = found(model, rows, labels).calibration
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit((rows[:, 1] - rows[:, 0])[:, None], labels)
    assert check.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert check.intercept == pytest.approx(oracle.intercept_[0], abs=1e-4)


def test_the_parts_of_the_brier_score_add_up(served: Callable[..., Model], truth: Truth) -> None:
    model = served()
    rows, labels = truth(800, seed=7)
    check = found(model, rows, labels).calibration
    said = np.exp(posterior_of(model, rows).log_probs[:, 1])
    whole = check.miscalibration - check.discrimination + check.uncertainty
    assert whole == pytest.approx(np.mean((said - labels) ** 2), abs=1e-12)
    assert check.mean_said["bob"] == pytest.approx(said.mean())
    assert check.mean_happened["bob"] == pytest.approx(labels.mean())


def test_more_than_two_classes_are_judged_by_the_predicted_one(served: Callable[..., Model], truth: Truth) -> None:
    check = found(served(4, tail=""), *truth(800, 4, seed=8)).calibration
    assert check.of == PREDICTED
    assert check.slope is not None
    assert check.slope_low is not None
    assert check.slope_high is not None
    assert check.slope_low < check.slope < check.slope_high
    assert set(check.mean_said) == {"ann", "bob", "cyd", "dee"}


def test_promises_payments_and_savings_of_a_policy_are_counted_by_hand(
    served: Callable[..., Model], truth: Truth
) -> None:
    model = served()
    rows, labels = truth(800, seed=9)
    check = found(model, rows, labels).policies["triage"]
    p = np.exp(posterior_of(model, rows).log_probs)
    cost = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])
    taken = (p @ cost.T).argmin(axis=1)
    believing = np.where(p[:, 1] > 0.5, 1, 0)
    assert check.saved == pytest.approx(np.mean(cost[believing, labels] - cost[taken, labels]))
    assert check.saved_low is not None
    assert check.saved_high is not None
    assert check.saved_low < check.saved < check.saved_high
    paid, promised = cost[taken, labels], (p @ cost.T)[np.arange(800), taken]
    assert check.excess == pytest.approx(np.mean(paid - promised))
    assert check.excess_low is not None
    assert check.excess_high is not None
    assert check.excess_low < check.excess < check.excess_high
    # No bob was let go, but he could have been: the interval allows for his 50.
    assert check.excess_high > 0.0
    assert abs(check.excess) < check.noise
    assert check.actions["go"].taken == (taken == 0).sum()
    assert check.actions["go"].paid == pytest.approx(cost[0, labels[taken == 0]].mean())
    assert check.actions["ask"].promised is None
    assert check.dominated == {"ask": "stay"}


def test_one_class_alone_leaves_undetermined_what_it_cannot_tell(served: Callable[..., Model], truth: Truth) -> None:
    rows, _ = truth(50, seed=10)
    check = found(served(), rows, np.zeros(50, dtype=np.intp)).calibration
    assert check.intercept is None or np.isfinite(check.intercept)
    assert np.isfinite([check.error, check.chance, check.uncertainty]).all()


def test_the_tables_say_what_was_found(served: Callable[..., Model], truth: Truth) -> None:
    console = Console(width=132, record=True)
    with console.capture() as capture:
        console.print(render_diagnostics(found(served(), *truth(500, seed=11))))
    text = capture.get()
    assert "calibration of bob" in text
    assert "Brier score" in text
    assert "ask is never taken for its costs" in text


@pytest.mark.parametrize("loss", ["brier", "log_loss"])
def test_murphys_parts_add_up_to_the_loss(loss: str, served: Callable[..., Model], truth: Truth) -> None:
    model = served()
    rows, labels = truth(800, seed=12)
    parts = found(model, rows, labels).calibration.binned[loss]
    said = np.exp(posterior_of(model, rows).log_probs[:, 1])
    right = np.where(labels == 1, said, 1.0 - said)
    whole = np.mean((said - labels) ** 2) if loss == "brier" else -np.mean(np.log(right))
    numbers = [parts.reliability, parts.resolution, parts.uncertainty, parts.within]
    signed = sum(sign * (number or 0.0) for sign, number in zip((1, -1, 1, 1), numbers, strict=True))
    assert parts.score == pytest.approx(whole)
    assert signed == pytest.approx(whole)


def test_a_class_predicted_too_often_is_named_and_chance_alone_names_none(
    served: Callable[..., Model], truth: Truth
) -> None:
    model = served(3, tail="")
    assert found(model, *truth(2000, 3, seed=13)).calibration.shifted == {}
    other = found(model, *truth(2000, 3, seed=13, log_ratio=(0.0, 0.0, 1.5))).calibration.shifted
    assert other["cyd"].said < other["cyd"].happened
    assert other["ann"].said > other["ann"].happened


def test_chance_names_a_class_in_one_sample_of_twenty() -> None:
    rng, named = np.random.default_rng(0), 0
    for _ in range(300):
        log_probs = log_softmax(rng.normal(size=(400, 3)))
        labels = (log_probs + rng.gumbel(size=(400, 3))).argmax(axis=1)
        named += bool(shifts(log_probs, labels, ("a", "b", "c")))
    assert named <= 27  # 15 expected at most; 27 is beyond the 99.8 % quantile


def test_what_could_be_saved_at_most_lies_between_the_policy_and_always_knowing(
    served: Callable[..., Model], truth: Truth
) -> None:
    check = found(served(), *truth(2000, seed=8)).policies["triage"]
    assert check.regret > 0.0
    assert check.savings is not None
    assert 0.0 < check.savings < 1.0


def test_the_promised_error_rate_is_kept_on_other_rows_and_a_looser_one_answers_more(
    served: Callable[..., Model], truth: Truth
) -> None:
    model, (rows, labels) = served(), truth(4000, seed=9)
    promised = found(model, *truth(4000, seed=10)).selective.at_risk
    assert promised is not None
    assert promised["0.01"].coverage <= promised["0.05"].coverage <= promised["0.1"].coverage
    log_probs = posterior_of(model, rows).log_probs
    threshold = promised["0.1"].threshold
    assert threshold is not None
    answered = np.exp(log_probs.max(axis=1)) >= threshold
    assert 0.0 < np.mean((log_probs.argmax(axis=1) != labels)[answered]) < 0.1


def test_weighted_rows_promise_nothing(served: Callable[..., Model], truth: Truth) -> None:
    model, (rows, labels) = served(), truth(500)
    posterior = posterior_of(model, rows)
    weighted = diagnose(
        posterior, labels, classes=model.classes, policies=model.policies, weights=np.linspace(1.0, 2.0, 500)
    )
    assert weighted.selective.at_risk is None
    assert weighted.selective.excess_area >= 0.0


def test_one_convention_of_the_brier_score_holds_wherever_it_is_said(
    served: Callable[..., Model], truth: Truth
) -> None:
    model, (rows, labels) = served(), truth(400, seed=14)
    measured = judge(model, Dataset(rows, labels, None, None, ""), posterior_of(model, rows))
    check, brier = measured.diagnostics.calibration, measured.report.metrics["brier_loss"]
    assert brier == pytest.approx(sklearn.metrics.brier_score_loss(labels, np.exp(measured.posterior.log_probs[:, 1])))
    assert check.squared_error == pytest.approx(brier)
    assert check.miscalibration - check.discrimination + check.uncertainty == pytest.approx(brier)
    assert check.binned["brier"].score == pytest.approx(brier)
    before = measured.report.uncalibrated_metrics["brier_loss"]
    assert check.uncalibrated.squared_error == pytest.approx(before)


def test_flags_beyond_the_promise_are_noticed(served: Callable[..., Model], truth: Truth) -> None:
    model, (x, _) = served(), truth(1000, seed=5)
    here, far = posterior_of(model, x), posterior_of(model, -x[:, ::-1] / 1e3)
    assert verdicts.flags(check_flags(here, None, expected=0.05, calibrated_on=300)).mood == "good"
    assert verdicts.flags(check_flags(far, None, expected=0.05, calibrated_on=300)).mood == "caution"
    assert verdicts.flags(check_flags(far, None, expected=None, calibrated_on=0)).mood == "note"


def test_labels_drawn_from_the_probabilities_exceed_the_noise_of_a_policy_in_at_most_1_of_20_samples(
    served: Callable[..., Model], truth: Truth
) -> None:
    model, (x, y) = served(), truth(300, seed=5)
    posterior, policy = posterior_of(model, x), model.policies["triage"]
    decisions, p = decide(posterior.log_probs, policy.cost), np.exp(posterior.log_probs[:, 1])
    bob = np.random.default_rng(0).random((4000, 300)) < p
    paid = policy.cost[decisions.action, bob.astype(np.intp)].mean(axis=1)
    noise = found(model, x, y).policies["triage"].noise
    expected = decisions.risks[np.arange(300), decisions.action].mean()
    assert p[decisions.action == 0].sum() < 0.3  # a costly case is expected in fewer than every third sample
    assert (np.abs(paid - expected) > noise).mean() <= 0.05 < (np.abs(paid - expected) > 1.6 * paid.std()).mean()


def one_event(slope: float, shift: float = 0.0, n: int = 4000) -> CalibrationCheck:
    """Log-odds, and what happens when the truth is another line of them."""
    rng = np.random.default_rng(0)
    said = rng.normal(scale=2.0, size=n)
    happened = rng.random(n) < 1.0 / (1.0 + np.exp(-(slope * said + shift)))
    logits = np.stack([np.zeros(n), said], axis=1)
    nothing = np.zeros((n, 0))
    posterior = Posterior(logits, log_softmax(logits), nothing, None, None, np.zeros((n, 0), dtype=bool), None, None)
    return diagnose(posterior, happened.astype(np.intp), classes=("a", "p"), policies={}).calibration


def test_right_probabilities_are_called_calibrated_and_wrong_ones_are_not() -> None:
    right = one_event(1.0)
    assert (verdicts.calibration(right).mood, verdicts.confidence(right).mood) == ("good", "good")
    assert verdicts.calibration(one_event(0.5)).mood == "caution"
    assert verdicts.confidence(one_event(0.5)).title == "Over-confident"
    assert verdicts.confidence(one_event(2.0)).title == "Under-confident"
    assert verdicts.confidence(one_event(1.0, -0.7)).title == "Shifted: the probability of “p” is too high"
    assert verdicts.confidence(one_event(1.0, 0.7)).title == "Shifted: the probability of “p” is too low"


def test_advice_that_was_followed_is_not_given_again() -> None:
    shifted = {"a": Shift(0.7, 0.5)}
    for method in ("temperature", "identity"):
        assert "--calibrator" in verdicts.balance(shifted, 2, method=method).text
    for method in ("bcts", "vector", "matrix", "platt", "beta", "isotonic", "histogram"):
        assert "--calibrator" not in verdicts.balance(shifted, 2, method=method).text
