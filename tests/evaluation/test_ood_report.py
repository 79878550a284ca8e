from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from tests.evaluation.conftest import TAIL, evaluated

Truth = Callable[..., tuple[Array, Indices]]


def test_flag_rates_are_shares_of_flagged_rows(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    posterior = posterior_of(model, x)
    found = evaluated(model, x, y).report.ood
    assert posterior.flagged is not None
    assert posterior.flags is not None
    assert (found.rows, found.flagged) == (500, posterior.flagged.sum())
    assert found.flag_rate == posterior.flagged.mean()
    assert found.range_rate == pytest.approx((np.abs(x[:, 0]) > 12.0).mean())
    assert found.gate == ["mahalanobis", "range"]
    assert {name: score.flag_rate for name, score in found.scores.items()} == {
        "nll": posterior.flags[:, 0].mean(),
        "mahalanobis": posterior.flags[:, 1].mean(),
    }


def test_ood_data_is_separated_as_scikit_learn_says(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=7)
    far = truth(200, seed=8)[0] + 6.0
    found = evaluated(model, x, y, ood=far).report.ood
    labelled, ood = posterior_of(model, x), posterior_of(model, far)
    assert ood.flagged is not None
    assert (found.ood_rows, found.ood_flag_rate) == (200, ood.flagged.mean())
    for i, name in enumerate(("nll", "mahalanobis")):
        scores = np.concatenate([labelled.scores[:, i], ood.scores[:, i]])
        positive = np.repeat([0, 1], [300, 200])
        own = found.scores[name]
        assert own.auroc == pytest.approx(roc_auc_score(positive, scores))
        assert own.aupr_out == pytest.approx(average_precision_score(positive, scores))
        assert own.aupr_in == pytest.approx(average_precision_score(1 - positive, -scores))
        fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
        assert own.detection_error == pytest.approx(((fpr + 1.0 - tpr) / 2.0).min())
        known, unknown = np.sort(labelled.scores[:, i]), np.sort(ood.scores[:, i])
        assert own.fpr95_ood_positive == np.mean(known >= unknown[200 - 190])
        assert own.fpr95_id_positive == np.mean(unknown <= known[285 - 1])


def test_without_ood_data_nothing_is_reported_about_it(model: Model, truth: Truth) -> None:
    found = evaluated(model, *truth(100, seed=7)).report.ood
    assert (found.ood_rows, found.ood_flag_rate) == (0, None)
    for score in found.scores.values():
        assert [value for value in astuple(score)[2:] if value is not None] == []


def test_an_uncalibrated_model_reports_no_flags(toy: Callable[..., Repository], truth: Truth) -> None:
    x, y = truth(100)
    report = evaluated(load_model(toy(2, TAIL).draft("toy")), x, y, ood=x).report
    found = report.ood
    assert (found.flagged, found.flag_rate, found.ood_flag_rate, found.flag_rate_limit) == (None, None, None, None)
    assert found.limit_reason == "uncalibrated"
    assert found.scores["nll"].threshold is None
    assert found.scores["nll"].auroc == 0.5
    assert report.metrics == report.uncalibrated_metrics


def test_the_limit_allows_for_chance_and_not_for_another_population(served: Callable[..., Model], truth: Truth) -> None:
    model, (x, y) = served(), truth(1000, seed=5)
    same, far = (evaluated(model, rows, y).report.ood for rows in (x, -x[:, ::-1] / 1e3))
    assert same.flag_rate_limit is not None
    assert same.flag_rate is not None
    assert far.flag_rate is not None
    assert same.expected_flag_rate == 0.05
    assert same.flag_rate <= same.flag_rate_limit < far.flag_rate
