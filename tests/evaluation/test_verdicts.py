from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.core.numerics import Array, Indices, log_softmax
from service.evaluation import verdicts
from service.evaluation.calibration_report import CalibrationReport, ClassCalibration, calibration_report
from service.evaluation.classification_problem import ClassificationProblem, SampleDesign
from service.runtime.model import Model
from tests.evaluation.conftest import evaluated

Truth = Callable[..., tuple[Array, Indices]]


def one_event(slope: float, shift: float = 0.0, n: int = 4000) -> CalibrationReport:
    """Log-odds, and events whose true log-odds are another line of them."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(scale=2.0, size=n)
    occurred = rng.random(n) < 1.0 / (1.0 + np.exp(-(slope * log_odds + shift)))
    log_probs = log_softmax(np.stack([np.zeros(n), log_odds], axis=1))
    labels = occurred.astype(np.intp)
    return calibration_report(
        ClassificationProblem(("a", "p"), log_probs, log_probs, labels, SampleDesign(None, None), {}, {}, "identity")
    )


def test_right_probabilities_are_called_calibrated_and_wrong_ones_are_not() -> None:
    right = one_event(1.0)
    assert (verdicts.calibration(right).mood, verdicts.confidence(right).mood) == ("good", "good")
    assert verdicts.calibration(one_event(0.5)).mood == "caution"
    assert verdicts.confidence(one_event(0.5)).title == "Over-confident"
    assert verdicts.confidence(one_event(2.0)).title == "Under-confident"
    assert verdicts.confidence(one_event(1.0, -0.7)).title == "Shifted: the probability of “p” is too high"
    assert verdicts.confidence(one_event(1.0, 0.7)).title == "Shifted: the probability of “p” is too low"


def test_advice_that_was_followed_is_not_given_again() -> None:
    shifted = {"a": ClassCalibration(0.7, 0.5, 0.2, 0.1, shifted=True)}
    for method in ("temperature", "identity", "uncalibrated"):
        assert "--calibrator" in verdicts.balance(shifted, method=method).text
    for method in ("bcts", "vector", "matrix", "platt", "beta", "isotonic", "histogram"):
        assert "--calibrator" not in verdicts.balance(shifted, method=method).text


def test_more_flags_than_expected_are_noticed(served: Callable[..., Model], truth: Truth) -> None:
    model, (x, y) = served(), truth(1000, seed=5)
    same, far = (evaluated(model, rows, y).report.ood for rows in (x, -x[:, ::-1] / 1e3))
    assert verdicts.flags(same).mood == "good"
    assert verdicts.flags(far).mood == "caution"
    rules = replace(far, expected_flag_rate=None, flag_rate_limit=None, limit_reason="rules_only")
    assert verdicts.flags(rules).mood == "note"
    assert verdicts.flags(replace(rules, flagged=None, flag_rate=None)).title == "Nothing is flagged"


@pytest.mark.parametrize("about", ["calibration", "confidence", "balance", "improvement", "worth", "cost", "flags"])
def test_a_report_has_a_verdict_about_everything(about: str, served: Callable[..., Model], truth: Truth) -> None:
    found = [own for own in evaluated(served(), *truth(300, seed=5)).report.verdicts if own.about == about]
    (verdict,) = found
    assert verdict.part == (None if about == "flags" else "rows")
    assert verdict.policy == ("triage" if about in {"worth", "cost"} else None)
