"""What every task provides.

Tested in tests/prediction/tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior
from service.prediction.answer import Decided
from service.prediction.answer_member import Group
from service.prediction.options import Options
from service.runtime.model import Model


class Stages(Protocol):
    """Stages D and E under a request's options, which were checked against the model."""

    @property
    def target(self) -> Array | None:
        """Requested prevalence; None leaves it as calibrated."""

    @property
    def smoother(self) -> str | None:
        """Of a sequence model: how neighbouring positions are smoothed."""

    @property
    def chosen(self) -> tuple[Policy, ...]:
        """Policies that decide."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of a multilabel model: the labels that they belong to."""

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """Check the options; what is wrong with them is raised here."""

    def shift(self, posterior: Posterior) -> Array:
        """Log-probabilities under the options, of the posterior's own shape."""

    def decide(self, log_probs: Array, posterior: Posterior, *, flagged: Flags | None) -> tuple[Decided, ...]:
        """Decisions, if any were requested."""


@dataclass(frozen=True, slots=True)
class Task:
    """What differs between tasks when requests are answered.

    Attributes
    ----------
    stages : type of Stages
    groups : dict of str to tuple of Group
        Members of an answer by topic: ``probabilities``, ``decision`` and ``tensors``.
    """

    stages: type[Stages]
    groups: Mapping[str, tuple[Group[Any], ...]]
