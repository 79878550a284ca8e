"""Multilabel models: a row has any of several labels."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core import multilabel
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior
from service.prediction.answer import Answer, Decided
from service.prediction.answer_member import Group, Member
from service.prediction.answer_members import LOGITS, decisions, of_answer
from service.prediction.options import Options, choose_label_policies, choose_target
from service.prediction.tasks.stages import Task
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class MultilabelStages:
    """Stages D and E, label by label.

    Attributes
    ----------
    model : Model
    policies : dict of int to Policy
        By the label's index.
    target : ndarray of shape (M, 2), or None
    """

    model: Model
    policies: dict[int, Policy]
    target: Array | None
    smoother: None = None

    @classmethod
    def of(cls, model: Model, options: Options) -> "MultilabelStages":
        """Costs and prevalence of every label."""
        policies = choose_label_policies(model, options) if options.decide else {}
        shares = choose_target(model, options)
        return cls(model, policies, None if shares is None else multilabel.shares_of(shares))

    @property
    def chosen(self) -> tuple[Policy, ...]:
        """Policies that decide, one for every label that has costs."""
        return tuple(self.policies.values())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that they belong to."""
        return tuple(self.model.classes[m] for m in self.policies)

    def shift(self, posterior: Posterior) -> Array:
        """Stage D."""
        return multilabel.at_prevalence(posterior.log_probs, source=self.model.source, target=self.target)

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Stage E."""
        del posterior
        made = multilabel.decide_labels(log_probs, self.policies, flagged=flagged)
        rows = np.arange(len(log_probs))
        return tuple(Decided(self.policies[m], rows, taken, self.model.classes[m]) for m, taken in made.items())


LABELS: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "labels",
            "names",
            "Labels that are more likely present than absent; this is not the most likely set of labels.",
            lambda answer: answer.log_probs[..., 1] >= answer.log_probs[..., 0],
            of="class",
            tensor="labels",
        ),
        Member(
            "probabilities.{class}",
            "number",
            "Calibrated probability that each label is present, under the target prevalence.",
            lambda answer: np.exp(answer.log_probs[..., 1]),
            tensor="probabilities",
        ),
    ),
    of_answer,
)

MULTILABEL: Final = Task(
    MultilabelStages, {"probabilities": (LABELS,), "decision": (decisions("decisions.{label}"),), "tensors": (LOGITS,)}
)
