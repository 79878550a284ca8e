from collections.abc import Callable

import numpy as np
import pytest

from service.core.decision import decide
from service.core.numerics import Array, Indices
from service.evaluation.classification_problem import Difference
from service.evaluation.policy_report import PolicyReport
from service.prediction.bulk import posterior_of
from service.runtime.model import Model
from tests.evaluation.conftest import evaluated

Served = Callable[..., Model]
Truth = Callable[..., tuple[Array, Indices]]


def policy(model: Model, rows: Array, labels: Indices, name: str = "triage") -> PolicyReport:
    return evaluated(model, rows, labels).report.parts["rows"].policies[name]


def ends(found: Difference) -> tuple[float, float, float]:
    low, mean, high = found.low, found.mean, found.high
    assert low is not None
    assert mean is not None
    assert high is not None
    return low, mean, high


def test_costs_are_those_that_the_labels_charge(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    posterior, found = posterior_of(model, x), policy(model, x, y)
    cost = np.array([[0.0, 5.0], [2.0, 0.0], [3.0, 3.0]])
    risks = np.exp(posterior.log_probs) @ cost.T
    assert posterior.flagged is not None
    taken = np.where(posterior.flagged, 2, risks.argmin(axis=1))
    assert found.realised_cost == pytest.approx(cost[taken, y].mean())
    assert found.expected_cost == pytest.approx(risks[np.arange(500), taken].mean())
    of_label = np.array([0, 1])[posterior.log_probs.argmax(axis=1)]  # ann -> go, bob -> stay
    assert found.label_cost == pytest.approx(cost[of_label, y].mean())
    assert found.constant_cost == pytest.approx(cost[:, y].mean(axis=1).min())
    assert found.constant_action == ("go", "stay", "ask")[int(cost[:, y].mean(axis=1).argmin())]
    counts = {name: int((taken == i).sum()) for i, name in enumerate(("go", "stay", "ask"))}
    assert {name: own.taken for name, own in found.actions.items()} == counts
    assert found.overruled == int((posterior.flagged & (risks.argmin(axis=1) != 2)).sum())
    assert found.overruled > 0


def test_a_policy_that_only_flags_is_never_overruled(model: Model, truth: Truth) -> None:
    assert policy(model, *truth(500, seed=7), "plain").overruled == 0


def test_expected_and_realised_costs_and_savings_are_counted_by_hand(served: Served, truth: Truth) -> None:
    model = served()
    rows, labels = truth(800, seed=9)
    found = policy(model, rows, labels)
    p = np.exp(posterior_of(model, rows).log_probs)
    cost = np.array([[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])
    taken = (p @ cost.T).argmin(axis=1)
    of_label = np.where(p[:, 1] > 0.5, 1, 0)
    assert found.saved.mean == pytest.approx(np.mean(cost[of_label, labels] - cost[taken, labels]))
    low, mean, high = ends(found.saved)
    assert low < mean < high
    realised, expected = cost[taken, labels], (p @ cost.T)[np.arange(800), taken]
    excess = found.excess
    assert excess.mean == pytest.approx(np.mean(realised - expected))
    low, mean, high = ends(excess)
    # No bob was let go, but he could have been: the interval allows for his 50.
    assert low < mean < high
    assert high > 0.0
    assert abs(mean) < found.noise
    assert found.actions["go"].taken == (taken == 0).sum()
    assert found.actions["go"].realised_cost == pytest.approx(cost[0, labels[taken == 0]].mean())
    assert found.actions["ask"].expected_cost is None
    assert found.actions["ask"].reason == "never_taken"
    assert found.dominated == {"ask": "stay"}


def test_what_could_be_saved_at_most_lies_between_the_policy_and_always_knowing(served: Served, truth: Truth) -> None:
    found = policy(served(), *truth(2000, seed=8))
    assert found.regret > 0.0
    assert found.savings is not None
    assert 0.0 < found.savings < 1.0


def test_labels_drawn_from_the_probabilities_exceed_the_noise_of_a_policy_in_at_most_1_of_20_samples(
    served: Served, truth: Truth
) -> None:
    model, (x, y) = served(), truth(300, seed=5)
    posterior, costs = posterior_of(model, x), model.policies["triage"].cost
    decisions, p = decide(posterior.log_probs, costs), np.exp(posterior.log_probs[:, 1])
    bob = np.random.default_rng(0).random((4000, 300)) < p
    realised = costs[decisions.action, bob.astype(np.intp)].mean(axis=1)
    noise = policy(model, x, y).noise
    expected = decisions.risks[np.arange(300), decisions.action].mean()
    assert p[decisions.action == 0].sum() < 0.3  # a costly case is expected in fewer than every third sample
    beyond = np.abs(realised - expected)
    assert (beyond > noise).mean() <= 0.05 < (beyond > 1.6 * realised.std()).mean()
