"""Multiclass models: a row has one class of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags, Indices, largest
from service.core.pipeline import Policy, Posterior, at_prevalence, choose
from service.prediction.answer import Answer, Decided, Part, RowSets
from service.prediction.answer_member import AnswerScope, Group, Member
from service.prediction.answer_members import LOGITS, decisions, of_answer
from service.prediction.options import Options, choose_policies, choose_target
from service.prediction.tasks.stages import Task
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class MulticlassStages:
    """Stages D and E for rows of one class of several.

    Attributes
    ----------
    model : Model
    policies : list of Policy and rows
        A policy for all rows (None), or several, each with its rows.
    target : ndarray of shape (K,) or (N, K), or None
    """

    model: Model
    policies: list[tuple[Policy, Indices | None]]
    target: Array | None
    smoother: None = None
    labels: tuple[()] = ()

    @classmethod
    def of(cls, model: Model, options: Options) -> "MulticlassStages":
        """Policies and a prevalence, of all rows or row by row."""
        policies = choose_policies(model, options.policy) if options.decide else []
        return cls(model, policies, choose_target(model, options))

    @property
    def chosen(self) -> tuple[Policy, ...]:
        """Policies that decide."""
        return tuple(policy for policy, _ in self.policies)

    def shift(self, posterior: Posterior) -> Array:
        """Stage D."""
        return at_prevalence(posterior.log_probs, source=self.model.source, target=self.target)

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E."""
        return tuple(_decided(policy, rows, log_probs, posterior, flagged) for policy, rows in self.policies)


def _decided(
    policy: Policy, rows: Indices | None, log_probs: Array, posterior: Posterior, flagged: Flags | None
) -> Decided:
    if rows is None:  # what is big is not copied
        chosen = choose(log_probs, policy, flagged=flagged, known=posterior.known(log_probs))
        return Decided(policy, np.arange(len(log_probs)), chosen)
    own = None if flagged is None else flagged[rows]
    return Decided(policy, rows, choose(log_probs[rows], policy, flagged=own))


@dataclass(frozen=True, slots=True)
class Top:
    """The most probable classes, shape (N, k) each, most probable first."""

    index: Indices
    probability: Array


def _top(answer: Answer, parts: Sequence[Part], place: int) -> Top:
    del parts, place
    probabilities = answer.probabilities
    index = largest(probabilities, answer.top_k or 1)
    return Top(index, np.take_along_axis(probabilities, index, axis=1))


def _sets(answer: Answer, parts: Sequence[Part], place: int) -> RowSets:
    del parts, place
    if answer.sets is None:
        raise ValueError("no coverage was requested")
    return answer.sets


def _with_coverage(scope: AnswerScope) -> bool:
    return scope.options.coverage is not None


def _with_top(scope: AnswerScope) -> bool:
    return scope.options.top_k is not None


CLASSES: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "label",
            "name",
            "The most probable class.",
            lambda answer: answer.log_probs.argmax(axis=1),
            of="class",
            tensor="label",
        ),
        Member(
            "probabilities.{class}",
            "number",
            "Calibrated probability of every class, under the target prevalence.",
            attrgetter("probabilities"),
            when=lambda scope: scope.options.top_k is None,
            tensor="probabilities",
        ),
    ),
    of_answer,
)
TOP: Final[Group[Top]] = Group(
    "top[]",
    (
        Member("label", "name", "A class.", attrgetter("index"), of="class"),
        Member("probability", "number", "Its calibrated probability.", attrgetter("probability")),
    ),
    _top,
    {"top[]": "The most probable classes, most probable first; in place of `probabilities`."},
    when=_with_top,
    optional=True,
)
SETS: Final[Group[RowSets]] = Group(
    "set",
    (
        Member("labels", "names", "The classes of the set.", attrgetter("members"), of="class"),
        Member("coverage", "number", "Probability that was requested.", attrgetter("coverage")),
        Member("method", "text", "Conformity score, and what the coverage is stated for.", attrgetter("method")),
        Member("valid", "flag", "Whether the coverage holds for this row.", attrgetter("valid")),
    ),
    _sets,
    {"set": "Classes that hold the true one with the requested probability."},
    when=_with_coverage,
    optional=True,
)

MULTICLASS: Final = Task(
    MulticlassStages,
    {"probabilities": (CLASSES, TOP, SETS), "decision": (decisions("decision"),), "tensors": (LOGITS,)},
)
