"""scikit-learn: temperatures to seven digits (science.md, finding 7), everything with a closed form to rounding."""

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from service.core.assessment.metrics import METRICS, separation_score
from service.core.assessment.miscalibration import favourite
from service.core.assessment.ranking import Positive, area_under_precision_recall, fpr_at_tpr
from service.core.assessment.reliability import reliability_curve
from service.core.calibration.platt import Platt
from service.core.calibration.temperature import Temperature
from service.core.numerics import Array, Indices, log_softmax


class Logits(LogisticRegression):
    """A fitted estimator whose decision function is its input."""

    def decision_function(self, rows):
        return rows


def calibrated(method: str, rows, labels, scores):
    return CalibratedClassifierCV(FrozenEstimator(Logits().fit(rows, labels)), method=method).fit(scores, labels)


@pytest.mark.parametrize("k", [3, 10])
def test_temperature(k, rows) -> None:
    z, y = rows(k=k)
    theirs = calibrated("temperature", z, y, z).predict_proba(z)
    np.testing.assert_allclose(np.exp(Temperature.fit(z, y).apply(z)), theirs, atol=1e-7)


def test_temperature_of_one_logit_is_twice_theirs(rows) -> None:
    """Ours is [0, z]; theirs makes (-z, z) of it and so finds half the inverse temperature (science.md 3.3)."""
    z, y = rows(k=2)
    gap = z[:, 1] - z[:, 0]
    model = calibrated("temperature", gap[:, None], y, gap[:, None])
    (theirs,) = (1.0 / c.beta_ for c in model.calibrated_classifiers_[0].calibrators)
    assert Temperature.fit(z, y).temperature == pytest.approx(theirs / 2.0, rel=1e-7)


def test_platt(rows) -> None:
    z, y = rows(k=2)
    gap = z[:, 1] - z[:, 0]
    theirs = calibrated("sigmoid", gap[:, None], y, gap[:, None]).predict_proba(gap[:, None])
    np.testing.assert_allclose(np.exp(Platt.fit(z, y).apply(z)), theirs, atol=1e-6)


def test_reliability_curve(rows) -> None:
    z, y = rows()
    confidence, right = favourite(log_softmax(z), y)
    curve = reliability_curve(confidence, right, draws=1)
    observed, predicted = calibration_curve(right, confidence, n_bins=15)
    np.testing.assert_allclose(curve.observed, observed, rtol=1e-12)
    np.testing.assert_allclose(curve.predicted, predicted, rtol=1e-12)


@pytest.mark.parametrize("k", [2, 5])
def test_metrics(k, rows) -> None:
    z, y = rows(k=k)
    log_p, one_hot, classes = log_softmax(z), np.eye(k)[y], list(range(k))
    p = np.exp(log_p)
    score = p[:, 1] if k == 2 else p
    theirs = {
        "log_loss": sklearn.metrics.log_loss(y, p),
        "brier_loss": sklearn.metrics.brier_score_loss(y, p, labels=classes),
        "accuracy_score": sklearn.metrics.accuracy_score(y, p.argmax(axis=1)),
        "auroc_score": sklearn.metrics.roc_auc_score(y, score, multi_class="ovr", average="macro"),
        "average_precision_score": sklearn.metrics.average_precision_score(one_hot, p, average="macro"),
        "compression_score": sklearn.metrics.d2_log_loss_score(y, p),
    }
    assert {name: METRICS[name](log_p, y) for name in theirs} == pytest.approx(theirs, rel=1e-11)


def test_out_of_distribution_data() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=400).round(1), rng.normal(1.0, 1.5, size=300).round(1)
    scores, strange = np.concatenate([inside, outside]), np.repeat([0, 1], [400, 300])
    assert separation_score(inside, outside) == pytest.approx(sklearn.metrics.roc_auc_score(strange, scores), rel=1e-12)
    kinds: dict[Positive, tuple[Indices, Array]] = {"out": (strange, scores), "in": (1 - strange, -scores)}
    for positive, (truth, score) in kinds.items():
        area = sklearn.metrics.average_precision_score(truth, score)
        assert area_under_precision_recall(inside, outside, positive=positive) == pytest.approx(area, rel=1e-12)
        fpr, tpr, _ = sklearn.metrics.roc_curve(truth, score, drop_intermediate=False)
        expected = fpr[tpr >= 0.95 - 1e-12][0]
        assert fpr_at_tpr(inside, outside, positive=positive) == pytest.approx(expected, rel=1e-12)
