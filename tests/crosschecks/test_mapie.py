"""MAPIE: label sets member by member; calibration errors to rounding (science.md 3.5)."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.metrics.calibration import expected_calibration_error, kolmogorov_smirnov_statistic, top_label_ece
from sklearn.base import BaseEstimator, ClassifierMixin

from service.core.assessment.metrics import METRICS
from service.core.assessment.miscalibration import BINS, favourite
from service.core.label_sets import fit
from service.core.numerics import log_softmax

EDGES = BINS + 1  # MAPIE counts edges as bins
HALF = 1000


class Given(ClassifierMixin, BaseEstimator):
    """A fitted classifier that says its input."""

    def fit(self, rows, labels):
        self.classes_ = np.arange(rows.shape[1])
        self.n_rows_ = len(labels)
        return self

    def predict_proba(self, rows):
        return rows

    def predict(self, rows):
        return rows.argmax(axis=1)


def conformalised(p, y, *, method: str, coverage: float):
    model = SplitConformalClassifier(
        Given().fit(p, y), confidence_level=coverage, conformity_score=method, prefit=True, random_state=0
    )
    return model.conformalize(p[:HALF], y[:HALF])


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_least_ambiguous_sets(coverage, rows) -> None:
    z, y = rows()
    log_p = log_softmax(z)
    _, theirs = conformalised(np.exp(log_p), y, method="lac", coverage=coverage).predict_set(np.exp(log_p[HALF:]))
    fitted = fit(log_p[:HALF], y[:HALF], method="lac", conditional=False)
    ours = fitted.predict(log_p[HALF:], coverage=coverage, allow_empty=True)
    np.testing.assert_array_equal(ours.members, theirs[:, :, 0])


def test_calibration_errors(rows) -> None:
    z, y = rows()
    log_p = log_softmax(z)
    p, (confidence, right) = np.exp(log_p), favourite(log_p, y)
    theirs = {
        "calibration_error": expected_calibration_error(right.astype(int), confidence, num_bins=EDGES),
        "classwise_calibration_error": expected_calibration_error(
            right.astype(int), p, num_bins=EDGES, classwise=True, class_labels=y
        ),
    }
    assert {name: METRICS[name](log_p, y) for name in theirs} == pytest.approx(theirs, rel=1e-10)


def test_conditioning_on_the_predicted_class_is_another_error(rows) -> None:
    """Theirs averages the classes' errors evenly, ours by how often each is predicted, as Gupta & Ramdas do."""
    z, y = rows()
    log_p = log_softmax(z)
    predicted = log_p.argmax(axis=1)
    each = []
    for k in range(4):
        mine = predicted == k
        each.append(expected_calibration_error((y[mine] == k).astype(int), np.exp(log_p[mine, k]), num_bins=EDGES))
    shares = np.bincount(predicted) / len(y)
    assert METRICS["top_label_calibration_error"](log_p, y) == pytest.approx(shares @ each, rel=1e-10)
    assert top_label_ece(y, np.exp(log_p), num_bins=EDGES) == pytest.approx(np.mean(each), rel=1e-10)


def test_kolmogorov_smirnov(rows) -> None:
    z, y = rows()
    confidence, right = favourite(log_softmax(z), y)
    unit = np.sqrt(np.sum(confidence * (1.0 - confidence))) / len(confidence)
    theirs = unit * kolmogorov_smirnov_statistic(right.astype(int), confidence)  # after a jitter of 1e-8
    assert METRICS["ks_calibration_error"](log_softmax(z), y) == pytest.approx(theirs, abs=1e-7)
