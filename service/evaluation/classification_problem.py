"""What an evaluation compares: labelled answers, and the classification problems that they consist of.

Tested in tests/evaluation/test_evaluate.py.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.core.assessment.chance import chance_bound
from service.core.assessment.utility import paired_difference
from service.core.decision import Decisions
from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy, Posterior
from service.core.sampling import informative
from service.prediction.answer import Answer


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference per row, with its 95 % interval.

    Attributes
    ----------
    mean : float or None
        The difference.
    low : float or None
        Lower end of its interval.
    high : float or None
        Upper end of its interval.
    reason : str or None
        A key of `reasons.REASONS` where there is no interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """A model's answer for rows whose labels are known.

    Attributes
    ----------
    answer : Answer
        Under the prevalence, or with the smoother, at which it is evaluated.
    labels : ndarray of shape (N,)
        Class indices. Multilabel: presences of shape (N, M). Sequence: class indices of shape (N, L), -1 for padding.
    weights, groups : ndarray of shape (N,), optional
        Weights are positive. Rows of a group depend on each other: a group is one draw.
    ood_posterior : Posterior, optional
        Stages A to C for out-of-distribution data.
    policies : dict of str to Policy, optional
        What is evaluated of a multiclass or sequence model; by default all policies of the model.
    label_policies : dict of str to dict of int to Policy, optional
        The same of a multilabel model, by the label's index.
    """

    answer: Answer
    labels: Indices
    weights: Array | None = None
    groups: Indices | None = None
    ood_posterior: Posterior | None = None
    policies: dict[str, Policy] | None = None
    label_policies: dict[str, dict[int, Policy]] | None = None

    @property
    def chosen_policies(self) -> dict[str, Policy]:
        """Policies that are evaluated, multiclass and sequence."""
        return self.answer.model.policies if self.policies is None else self.policies

    @property
    def chosen_label_policies(self) -> dict[str, dict[int, Policy]]:
        """Policies that are evaluated, multilabel."""
        return self.answer.model.label_policies if self.label_policies is None else self.label_policies


@dataclass(frozen=True, slots=True)
class SampleDesign:
    """How rows count: weights, groups, and the seed of what is simulated from them."""

    weights: Array | None
    groups: Indices | None
    seed: int = 0

    @classmethod
    def of(cls, weights: Array | None, groups: Indices | None) -> "SampleDesign":
        """Weights and groups; equal weights and groups of one row each are left out."""
        return cls(*informative(weights, groups))

    @property
    def uneven(self) -> str | None:
        """Why statistics of independent, equal rows do not apply: a key of `reasons.REASONS`; None where they do."""
        return "groups" if self.groups is not None else "weights" if self.weights is not None else None

    def too_few(self, rows: int) -> str | None:
        """Why the rows give no interval of a difference: a single unit shows no spread; None where there are more."""
        if rows < 2:
            return "one_row"
        return "one_group" if self.groups is not None and self.groups.min() == self.groups.max() else None

    def difference(self, costs: Array, others: Array, bounds: tuple[Array, Array]) -> Difference:
        """`paired_difference` of two values per row, whose difference lies within bounds whatever the row's class."""
        least, most = bounds
        found = paired_difference(costs, others, least=least, most=most, weights=self.weights, groups=self.groups)
        return Difference(found.mean, finite(found.low), finite(found.high), self.too_few(len(costs)))

    def noise(self, costs: Array, log_probs: Array, rows: Flags | slice = slice(None)) -> float:
        """How far chance carries the mean over some rows of costs by class, either way; not a number without rows."""
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        own = costs[rows]
        return chance_bound(own, np.exp(log_probs[rows]), weights=weights, groups=groups) if len(own) else math.nan


@dataclass(frozen=True, slots=True)
class ClassificationProblem:
    """Rows with one true class each: those of a multiclass model, of one label, or the positions of sequences.

    Attributes
    ----------
    classes : tuple of str
    log_probs, uncalibrated : ndarray of shape (N, K)
        Log-probabilities as served, and of the model alone, both at one prevalence.
    labels : ndarray of shape (N,)
    sample : SampleDesign
    policies : dict of str to Policy
    decisions : dict of str to Decisions
        What each policy decided, once for every table, chart and sentence.
    calibrator : str
        Method by its registry name, or "uncalibrated".
    """

    classes: tuple[str, ...]
    log_probs: Array
    uncalibrated: Array
    labels: Indices
    sample: SampleDesign
    policies: dict[str, Policy]
    decisions: dict[str, Decisions]
    calibrator: str


def finite(value: float | np.floating) -> float | None:
    """A number as a report holds it: None where it is infinite or not a number."""
    return float(value) if math.isfinite(value) else None
