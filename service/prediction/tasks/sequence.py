"""Sequence models: every position of a row has one class of several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior, at_prevalence
from service.core.sequence import SequencePlan, decide_positions, flat, lengths_of, padded
from service.prediction.answer import Answer, Decided, Part
from service.prediction.answer_member import AnswerScope, Group, Member
from service.prediction.answer_members import decisions, of_answer
from service.prediction.options import Options, choose_policy, choose_smoother, choose_target
from service.prediction.tasks.stages import Task
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class SequenceStages:
    """Stages D and E, position by position or along a path.

    Attributes
    ----------
    model : Model
    policy : Policy or None
    smoother : str
    strength : float
    target : ndarray of shape (K,), or None
    """

    model: Model
    policy: Policy | None
    smoother: str
    strength: float
    target: Array | None
    labels: tuple[()] = ()

    @classmethod
    def of(cls, model: Model, options: Options) -> "SequenceStages":
        """A policy, the price of changing the action, and the smoother."""
        policy = None
        if options.decide and not isinstance(options.policy, tuple):
            policy = choose_policy(model, options.policy)
            policy = policy if options.switch is None else replace(policy, switch=options.switch)
        return cls(model, policy, choose_smoother(model, options), options.strength, choose_target(model, options))

    @property
    def chosen(self) -> tuple[Policy, ...]:
        """The policy that decides."""
        return () if self.policy is None else (self.policy,)

    def shift(self, posterior: Posterior) -> Array:
        """Smoothed over neighbours, or moved to another prevalence: the request has one of the two."""
        if self.target is None:
            return self.model.smoothed(posterior, self.smoother, strength=self.strength)
        lengths = lengths_of(posterior)
        moved = at_prevalence(flat(posterior.log_probs, lengths), source=self.model.source, target=self.target)
        return padded(moved, lengths, length=posterior.log_probs.shape[1])

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E."""
        if self.policy is None:
            return ()
        plan = decide_positions(log_probs, self.policy, lengths=lengths_of(posterior), flagged=flagged)
        return (Decided(self.policy, np.arange(len(log_probs)), plan.decisions, plan=plan),)


@dataclass(frozen=True, slots=True)
class Path:
    """A policy's path through N sequences: the price of a switch, and the plan."""

    switch: float
    plan: SequencePlan


def _positions(answer: Answer, parts: Sequence[Part], place: int) -> Array:
    del parts, place
    return flat(answer.log_probs, lengths_of(answer.posterior))


def _logits(answer: Answer, parts: Sequence[Part], place: int) -> Array:
    del parts, place
    return flat(answer.posterior.logits, lengths_of(answer.posterior))


def _path(answer: Answer, parts: Sequence[Part], place: int) -> Path:
    del parts
    decided = answer.decided[place]
    if decided.plan is None or decided.policy.switch is None:
        raise ValueError("this policy puts no price on changing the action")
    return Path(decided.policy.switch, decided.plan)


def _switches(scope: AnswerScope) -> bool:
    return any(policy.switch is not None for policy in scope.policies)


POSITIONS: Final[Group[Array]] = Group(
    "",
    (
        Member(
            "label[]",
            "name",
            "The most probable class of every unpadded position.",
            lambda log_probs: log_probs.argmax(axis=1),
            of="class",
            tensor="label",
        ),
        Member(
            "probabilities[].{class}",
            "number",
            "Probability of every class at every unpadded position.",
            np.exp,
            tensor="probabilities",
        ),
    ),
    _positions,
    positions=True,
)
POSITION_LOGITS: Final[Group[Array]] = Group(
    "",
    (
        Member(
            "logits[].{class}",
            "number",
            "Raw output of the model as logits, before calibration, at every unpadded position.",
            lambda logits: logits,
            tensor="logits",
            single=True,
        ),
    ),
    _logits,
    positions=True,
)
PATH: Final[Group[Path]] = Group(
    "path",
    (
        Member("switch", "number", "Price of changing the action between neighbours.", attrgetter("switch")),
        Member("switches", "count", "How often the action changes.", attrgetter("plan.switches")),
        Member(
            "total_risk",
            "number",
            "Expected cost of the whole sequence, changes included.",
            attrgetter("plan.total"),
        ),
    ),
    _path,
    {"path": "The actions of a sequence as a whole, where the policy puts a price on changing the action."},
    when=_switches,
    optional=True,
)
LENGTHS: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "lengths",
            "count",
            "Unpadded positions of every sequence.",
            lambda answer: lengths_of(answer.posterior),
            tensor="lengths",
        ),
    ),
    of_answer,
)

SEQUENCE: Final = Task(
    SequenceStages,
    {
        "probabilities": (POSITIONS,),
        "decision": (decisions("decision[]", positions=True), PATH),
        "tensors": (POSITION_LOGITS, LENGTHS),
    },
)
