"""What a policy cost: expected against realised cost, other strategies, each action, and actions by the true class."""

from dataclasses import dataclass

import numpy as np

from service.core.assessment.metrics import realised_cost
from service.core.assessment.utility import (
    cost_calibration,
    difference_bounds,
    dominated_actions,
    oracle_regret,
    savings_score,
)
from service.core.costs import class_ranges
from service.core.decision import Decisions, best_action
from service.core.numerics import Array, Indices
from service.core.pipeline import Policy
from service.evaluation.classification_problem import ClassificationProblem, Difference, finite
from service.evaluation.rates import Acted, acted


@dataclass(frozen=True, slots=True)
class ActionReport:
    """Expected and realised cost of the rows on which one action was taken.

    Attributes
    ----------
    taken : int
        Rows on which the action was taken.
    expected_cost, realised_cost : float or None
        Per row; None where the action was never taken.
    noise : float or None
        How far the two may differ, either way, in 19 of 20 samples, if the probabilities are right.
    reason : str or None
        "never_taken" where they are None.
    """

    taken: int
    expected_cost: float | None
    realised_cost: float | None
    noise: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What a policy cost, per row.

    Attributes
    ----------
    expected_cost : float
        Of the actions taken, by the probabilities.
    realised_cost : float
        Of the same actions, by the true classes.
    excess : Difference
        Realised minus expected cost.
    noise : float
        How far ``excess`` may lie from 0, either way, in 19 of 20 samples, if the probabilities are right.
    label_cost : float
        Of the action that is cheapest for the most probable class.
    saved : Difference
        ``label_cost`` minus the realised cost.
    constant_action : str
        The single action that is cheapest for all rows.
    constant_cost : float
        Of that action.
    saved_of_constant : Difference
        ``constant_cost`` minus the realised cost.
    regret : float
        Realised cost beyond that of always knowing the class.
    savings : float or None
        Share of ``constant_cost`` that was saved; None unless that cost is positive.
    actions : dict of str to ActionReport
        Every action, by name.
    on_ood : str or None
        The action that flagged rows get.
    overruled : int
        Rows where an OOD flag replaced another action.
    dominated : dict of str to str
        Actions that another one, the value, beats in every class: they are never worth taking.
    decided : Acted
        The actions by the true class, and how well acting on each class does.
    """

    expected_cost: float
    realised_cost: float
    excess: Difference
    noise: float
    label_cost: float
    saved: Difference
    constant_action: str
    constant_cost: float
    saved_of_constant: Difference
    regret: float
    savings: float | None
    actions: dict[str, ActionReport]
    on_ood: str | None
    overruled: int
    dominated: dict[str, str]
    decided: Acted


def policy_report(problem: ClassificationProblem, name: str) -> PolicyReport:
    """Compare what a policy decided with the labels.

    Parameters
    ----------
    problem : ClassificationProblem
    name : str
        Of one of its policies.
    """
    policy, taken = problem.policies[name], problem.decisions[name]
    labels, weights = problem.labels, problem.sample.weights
    cost, constant = policy.cost, _constant(policy.cost, labels, weights)
    label = _of_label(cost, problem.log_probs)
    return PolicyReport(
        expected_cost=float(np.average(_expected(taken), weights=weights)),
        realised_cost=realised_cost(taken.action, cost, labels, weights=weights),
        excess=_excess(problem, policy, taken),
        noise=problem.sample.noise(cost[taken.action], problem.log_probs),
        label_cost=realised_cost(label, cost, labels, weights=weights),
        saved=_saved(problem, policy, taken, label),
        constant_action=policy.actions[constant],
        constant_cost=float(np.average(cost[constant, labels], weights=weights)),
        saved_of_constant=_saved(problem, policy, taken, np.full_like(label, constant)),
        regret=oracle_regret(taken.action, cost, labels, weights=weights),
        savings=finite(savings_score(taken.action, cost, labels, weights=weights)),
        actions=_actions(problem, policy, taken),
        on_ood=None if policy.on_ood is None else policy.actions[policy.on_ood],
        overruled=int((taken.action != taken.least_cost).sum()),
        dominated={policy.actions[worse]: policy.actions[better] for worse, better in dominated_actions(cost)},
        decided=_acted(problem, policy, taken),
    )


def _constant(cost: Array, labels: Indices, weights: Array | None) -> int:
    """The cheapest single action."""
    return int(np.average(cost[:, labels], axis=1, weights=weights).argmin())


def _of_label(cost: Array, log_probs: Array) -> Indices:
    """The cheapest action of the most probable class, shape (N,)."""
    cheapest, _ = best_action(cost.T, scale=class_ranges(cost))
    chosen: Indices = cheapest[log_probs.argmax(axis=1)]
    return chosen


def _expected(taken: Decisions) -> Array:
    expected: Array = taken.risks[np.arange(len(taken.action)), taken.action]
    return expected


def _excess(problem: ClassificationProblem, policy: Policy, taken: Decisions) -> Difference:
    cost, expected = policy.cost, _expected(taken)
    # the least and the most that any class of a row would have cost beyond what was expected
    bounds = cost.min(axis=1)[taken.action] - expected, cost.max(axis=1)[taken.action] - expected
    return problem.sample.difference(cost[taken.action, problem.labels], expected, bounds)


def _saved(problem: ClassificationProblem, policy: Policy, taken: Decisions, other: Indices) -> Difference:
    """Cost of another strategy minus the policy's."""
    cost, labels = policy.cost, problem.labels
    bounds = difference_bounds(other, taken.action, cost)
    return problem.sample.difference(cost[other, labels], cost[taken.action, labels], bounds)


def _actions(problem: ClassificationProblem, policy: Policy, taken: Decisions) -> dict[str, ActionReport]:
    held = cost_calibration(taken.risks, taken.action, policy.cost, problem.labels, weights=problem.sample.weights)
    of_row = policy.cost[taken.action]
    noise = (problem.sample.noise(of_row, problem.log_probs, taken.action == a) for a in range(len(policy.actions)))
    columns = zip(policy.actions, held.count, held.expected, held.realised, noise, strict=True)
    return {
        name: ActionReport(
            int(count), finite(expected), finite(realised), finite(within), None if count else "never_taken"
        )
        for name, count, expected, realised, within in columns
    }


def _acted(problem: ClassificationProblem, policy: Policy, taken: Decisions) -> Acted:
    weights, groups = problem.sample.weights, problem.sample.groups
    return acted(
        taken.action, policy.actions, policy.cost, problem.labels, problem.classes, weights=weights, groups=groups
    )
