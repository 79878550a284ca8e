"""What a request's choices come to for each task: beliefs under them, and decisions."""

from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

import numpy as np

from service.core import multilabel as labels
from service.core.decision import Decisions
from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy, Posterior, at_prevalence, choose
from service.core.sequence import Plan, decide_positions, flat, lengths_of, padded
from service.prediction.options import (
    Options,
    choose_label_policies,
    choose_policies,
    choose_policy,
    choose_smoother,
    choose_target,
)
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Decided:
    """What one policy decided.

    Attributes
    ----------
    policy : Policy
    rows : ndarray of shape (n,)
        The rows that it decided, ascending; all of them unless the request names a policy per row.
    decisions : Decisions
        Of these n rows, or of their unpadded positions.
    label : str or None
        Of labels: which one.
    plan : Plan or None
        Of sequences: what each costs as a whole.
    """

    policy: Policy
    rows: Indices
    decisions: Decisions
    label: str | None = None
    plan: Plan | None = None

    def part(self, rows: slice, places: slice) -> Self:
        """What was decided of some rows, where every row was decided by this policy.

        Parameters
        ----------
        rows : slice
        places : slice
            Of the same rows among the decisions.
        """
        decisions = _some(self.decisions, places)
        plan = None if self.plan is None else Plan(decisions, self.plan.switches[rows], self.plan.total[rows])
        return replace(self, rows=np.arange(len(self.rows[rows])), decisions=decisions, plan=plan)


def _some(taken: Decisions, places: slice) -> Decisions:
    return Decisions(
        taken.action[places],
        taken.risks[places],
        taken.margin[places],
        taken.reason[places],
        taken.least_cost[places],
        taken.information[places],
        None if taken.deferral is None else taken.deferral[places],
    )


class Approach(Protocol):
    """A request's choices, checked against the model before any row is judged."""

    @property
    def target(self) -> Array | None:
        """Prevalence asked for; None leaves it as calibrated."""

    @property
    def smoother(self) -> str | None:
        """Of sequences: what lets neighbours speak."""

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """Check the choices; what is wrong with them is raised here."""

    def believe(self, posterior: Posterior) -> Array:
        """Log-probabilities under the choices, of the posterior's own shape."""

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """What is to be done, if an action was wanted."""


@dataclass(frozen=True, slots=True)
class ByClass:
    """Rows of one class of several."""

    model: Model
    policies: list[tuple[Policy, Indices | None]]
    target: Array | None
    smoother: None = None

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """Policies and a prevalence, of all rows or row by row."""
        policies = choose_policies(model, options.policy) if options.decide else []
        return cls(model, policies, choose_target(model, options))

    def believe(self, posterior: Posterior) -> Array:
        """Stage D."""
        return at_prevalence(posterior.log_probs, source=self.model.source, target=self.target)

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E."""
        return tuple(_decided(policy, rows, log_probs, posterior, flagged) for policy, rows in self.policies)


@dataclass(frozen=True, slots=True)
class ByLabel:
    """Rows of labels that may hold together."""

    model: Model
    policies: dict[int, Policy]
    target: Array | None
    smoother: None = None

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """What every label costs, and its share elsewhere."""
        policies = choose_label_policies(model, options) if options.decide else {}
        shares = choose_target(model, options)
        return cls(model, policies, None if shares is None else labels.shares_of(shares))

    def believe(self, posterior: Posterior) -> Array:
        """Stage D, label by label."""
        return labels.at_prevalence(posterior.log_probs, source=self.model.source, target=self.target)

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E, label by label."""
        del posterior
        made, rows = labels.decide_labels(log_probs, self.policies, flagged=flagged), np.arange(len(log_probs))
        return tuple(Decided(self.policies[m], rows, taken, self.model.classes[m]) for m, taken in made.items())


@dataclass(frozen=True, slots=True)
class ByPosition:
    """Sequences: every position has a class, and its neighbours a say in it."""

    model: Model
    policy: Policy | None
    smoother: str
    strength: float
    target: Array | None

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """A policy, its price on change, and who lets neighbours speak."""
        policy = None
        if options.decide and not isinstance(options.policy, tuple):
            policy = choose_policy(model, options.policy)
            policy = policy if options.switch is None else replace(policy, switch=options.switch)
        return cls(model, policy, choose_smoother(model, options), options.strength, choose_target(model, options))

    def believe(self, posterior: Posterior) -> Array:
        """Neighbours' evidence, or another prevalence: the request has one of the two."""
        if self.target is None:
            return self.model.smoothed(posterior, self.smoother, strength=self.strength)
        lengths = lengths_of(posterior)
        moved = at_prevalence(flat(posterior.log_probs, lengths), source=self.model.source, target=self.target)
        return padded(moved, lengths, length=posterior.log_probs.shape[1])

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E, position by position or along a path."""
        if self.policy is None:
            return ()
        plan = decide_positions(log_probs, self.policy, lengths=lengths_of(posterior), flagged=flagged)
        return (Decided(self.policy, np.arange(len(log_probs)), plan.decisions, plan=plan),)


def _decided(
    policy: Policy, rows: Indices | None, log_probs: Array, posterior: Posterior, flagged: Flags | None
) -> Decided:
    if rows is None:  # what is big is not copied
        chosen = choose(log_probs, policy, flagged=flagged, known=posterior.known(log_probs))
        return Decided(policy, np.arange(len(log_probs)), chosen)
    own = None if flagged is None else flagged[rows]
    return Decided(policy, rows, choose(log_probs[rows], policy, flagged=own))


APPROACHES: Final[dict[str, type[Approach]]] = {
    "multiclass": ByClass,
    "multilabel": ByLabel,
    "sequence": ByPosition,
}
