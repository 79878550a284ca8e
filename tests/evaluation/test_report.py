import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score, roc_curve

from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS
from service.core.numerics import Array, Indices
from service.evaluation.report import Report, evaluate
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
TAIL = """\
[ood]
scores = ["nll", "mahalanobis"]
gate = ["mahalanobis", "range"]
[features.f0]
plausible = [-12.0, 12.0]
[policies.triage]
default = true
on_ood = "ask"
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
costs.ask = { ann = 3, bob = 3 }
[policies.plain]
costs.go = { ann = 0, bob = 1 }
costs.stay = { ann = 1, bob = 0 }
"""


@pytest.fixture
def model(toy: Toy, truth: Truth, save: Callable[..., Path]) -> Model:
    x, y = truth(600)
    repository = toy(2, TAIL)
    version = fit(repository, "toy", FitRequest(save(X=x, y=y))).version
    return load_model(repository.bundle("toy", version))


def report(model: Model, rows: Array, labels: Indices, elsewhere: Array | None = None) -> Report:
    posterior = posterior_of(model, rows)
    return evaluate(
        model.chain,
        posterior,
        posterior.log_probs,
        labels,
        classes=model.classes,
        policies=model.policies,
        elsewhere=None if elsewhere is None else posterior_of(model, elsewhere),
    )


def test_metrics_are_those_of_the_served_and_of_the_raw_probabilities(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    found = report(model, x, y)
    probabilities = np.exp(posterior_of(model, x).log_probs)
    raw = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    assert found.metrics["log_loss"] == pytest.approx(log_loss(y, probabilities))
    assert found.metrics["accuracy_score"] == pytest.approx(accuracy_score(y, probabilities.argmax(axis=1)))
    assert found.uncalibrated_metrics["log_loss"] == pytest.approx(log_loss(y, raw))
    assert found.metrics["log_loss"] < found.uncalibrated_metrics["log_loss"]
    assert set(found.metrics) == set(found.uncalibrated_metrics) == set(METRICS)
    assert (found.rows, found.class_counts) == (500, {"ann": int((y == 0).sum()), "bob": int((y == 1).sum())})


def test_flag_rates_are_shares_of_flagged_rows(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    posterior = posterior_of(model, x)
    found = report(model, x, y)
    assert posterior.flagged is not None
    assert posterior.flags is not None
    assert found.flag_rate == posterior.flagged.mean()
    assert found.range_rate == pytest.approx((np.abs(x[:, 0]) > 12.0).mean())
    assert {name: score.flag_rate for name, score in found.scores.items()} == {
        "nll": posterior.flags[:, 0].mean(),
        "mahalanobis": posterior.flags[:, 1].mean(),
    }


def test_rows_from_elsewhere_are_told_apart_as_scikit_learn_says(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=7)
    far = truth(200, seed=8)[0] + 6.0
    found = report(model, x, y, far)
    here, there = posterior_of(model, x), posterior_of(model, far)
    assert there.flagged is not None
    assert (found.ood_rows, found.ood_flag_rate) == (200, there.flagged.mean())
    for i, name in enumerate(("nll", "mahalanobis")):
        scores = np.concatenate([here.scores[:, i], there.scores[:, i]])
        expected = roc_auc_score(np.repeat([0, 1], [300, 200]), scores)
        assert found.scores[name].auroc == pytest.approx(expected)
        strange = np.repeat([0, 1], [300, 200])
        assert found.scores[name].aupr_out == pytest.approx(average_precision_score(strange, scores))
        assert found.scores[name].aupr_in == pytest.approx(average_precision_score(1 - strange, -scores))
        fpr, tpr, _ = roc_curve(strange, scores, drop_intermediate=False)
        assert found.scores[name].detection_error == pytest.approx(((fpr + 1.0 - tpr) / 2.0).min())
        natives, strangers = np.sort(here.scores[:, i]), np.sort(there.scores[:, i])
        assert found.scores[name].fpr95_ood_positive == np.mean(natives >= strangers[200 - 190])
        assert found.scores[name].fpr95_id_positive == np.mean(strangers <= natives[285 - 1])


def test_without_rows_from_elsewhere_nothing_is_claimed_about_them(model: Model, truth: Truth) -> None:
    found = report(model, *truth(100, seed=7))
    assert (found.ood_rows, found.ood_flag_rate) == (0, None)
    for score in found.scores.values():
        assert [value for value in astuple(score)[2:] if value is not None] == []


def test_costs_are_those_that_the_labels_charge(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    posterior, found = posterior_of(model, x), report(model, x, y).policies["triage"]
    cost = np.array([[0.0, 5.0], [2.0, 0.0], [3.0, 3.0]])
    risks = np.exp(posterior.log_probs) @ cost.T
    assert posterior.flagged is not None
    taken = np.where(posterior.flagged, 2, risks.argmin(axis=1))
    assert found.realised_cost == pytest.approx(cost[taken, y].mean())
    assert found.expected_cost == pytest.approx(risks[np.arange(500), taken].mean())
    believed = np.array([0, 1])[posterior.log_probs.argmax(axis=1)]  # ann -> go, bob -> stay
    assert found.label_cost == pytest.approx(cost[believed, y].mean())
    assert found.constant_cost == pytest.approx(cost[:, y].mean(axis=1).min())
    assert found.constant_action == ("go", "stay", "ask")[int(cost[:, y].mean(axis=1).argmin())]
    assert found.actions == {name: int((taken == i).sum()) for i, name in enumerate(("go", "stay", "ask"))}
    assert found.overruled == int((posterior.flagged & (risks.argmin(axis=1) != 2)).sum())
    assert found.overruled > 0


def test_a_policy_that_only_flags_is_never_overruled(model: Model, truth: Truth) -> None:
    assert report(model, *truth(500, seed=7)).policies["plain"].overruled == 0


def test_an_uncalibrated_model_claims_no_flags(toy: Toy, truth: Truth) -> None:
    x, y = truth(100)
    found = report(load_model(toy(2, TAIL).draft("toy")), x, y, x)
    assert (found.flag_rate, found.ood_flag_rate) == (None, None)
    assert found.scores["nll"].threshold is None
    assert found.scores["nll"].auroc == 0.5
    assert found.metrics == found.uncalibrated_metrics


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_report_is_strict_json(elsewhere: bool, model: Model, truth: Truth) -> None:  # noqa: FBT001  # a case
    x, y = truth(100, seed=7)
    text = json.dumps(report(model, x, y, x + 1e30 if elsewhere else None).as_json(), allow_nan=False)
    assert json.loads(text)["policies"]["triage"]["actions"].keys() == {"go", "stay", "ask"}


def test_a_label_ruled_out_leaves_a_code_length_that_is_infinite_and_a_report_that_is_json(
    toy: Toy, truth: Truth
) -> None:
    x, y = truth(100)
    x[0] = [-1000.0, 1000.0]
    model = load_model(toy(2, TAIL).draft("toy"))
    posterior = posterior_of(model, x)
    log_probs = posterior.log_probs.copy()
    y[0], log_probs[0] = 0, [-np.inf, 0.0]
    found = evaluate(model.chain, posterior, log_probs, y, classes=model.classes, policies={})
    assert found.code_length.bits is None
    assert [part for part, bits in found.code_length.per_label.items() if bits is None] == ["1"]
    json.dumps(found.as_json(), allow_nan=False)
