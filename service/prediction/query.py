"""The query of a request: its options, checked against the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from service.core.conformal import benjamini_hochberg
from service.core.label_sets import LabelSets, own_log_probs
from service.core.numerics import Array, Flags
from service.core.pipeline import Posterior
from service.core.trajectory import Monitor
from service.prediction.answer import Answer, RowSets
from service.prediction.answer_member import AnswerScope, Group, Plan, plan
from service.prediction.answer_members import TOPICS
from service.prediction.options import Options, choose_sets
from service.prediction.sessions import flagged_or_alarmed, monitor_steps
from service.prediction.tasks import TASKS
from service.prediction.tasks.stages import Stages
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Query:
    """Options of a request, checked against the model. A query fits any number of rows, unless an option varies by row.

    Attributes
    ----------
    model : Model
    options : Options
    stages : Stages
        D and E under these options.
    sets : LabelSets or None
    """

    model: Model
    options: Options
    stages: Stages
    sets: LabelSets | None

    @property
    def target(self) -> Array | None:
        """Prevalence of the answers' probabilities; None when it is not known."""
        return self.model.source if self.stages.target is None else self.stages.target

    @property
    def joins(self) -> bool:
        """Whether requests with this query can be answered together.

        False where an answer depends on all rows of one request (a session, a rate of false discoveries), or an option
        is given for every row.
        """
        options = self.options
        return options.session is None and options.fdr is None and not options.vary_by_row

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """Check the options.

        Raises
        ------
        InvalidParameters, PolicyRequired, PrevalenceUnavailable, CoverageUnavailable
        """
        stages, coverage = TASKS[model.task].stages.of(model, options), options.coverage
        sets = None if coverage is None else choose_sets(model, coverage, target=stages.target)
        return cls(model, options, stages, sets)

    def by_policy(self) -> list[Self]:
        """Queries of one policy each, where the request names one per row; otherwise the query itself."""
        if not isinstance(self.options.policy, tuple):
            return [self]
        names = dict.fromkeys(self.options.policy)
        return [self.of(self.model, replace(self.options, policy=name)) for name in names]

    def plan(self, topics: Sequence[str]) -> Plan:
        """Members of the answers.

        Parameters
        ----------
        topics : sequence of str
            In `answer_members.TOPICS` or the task's groups.
        """
        return plan(groups_of(self.model.task, topics), scope_of(self))

    def conclude(self, posterior: Posterior, *, monitor: Monitor | None = None) -> Answer:
        """Stages D and E, and what else was requested, of rows that went through A to C."""
        model, options, stages = self.model, self.options, self.stages
        session = options.session
        monitored = None if session is None or monitor is None else monitor_steps(session, posterior, monitor=monitor)
        log_probs = stages.shift(posterior)
        return Answer(
            model,
            posterior,
            log_probs,
            self.target,
            options.site,
            stages.decide(log_probs, posterior, flagged=flagged_or_alarmed(posterior, monitored)),
            _row_sets(self.sets, posterior, options.coverage),
            options.fdr,
            _discovered(posterior, options.fdr),
            monitored,
            stages.smoother,
            options.top_k,
        )


def scope_of(query: Query) -> AnswerScope:
    """What is known of a query's answers before there are rows."""
    stages = query.stages
    return AnswerScope(query.model, query.options, stages.chosen, stages.labels)


def groups_of(task: str, topics: Sequence[str]) -> list[Group[Any]]:
    """Descriptions of a task's members.

    Parameters
    ----------
    task : str
    topics : sequence of str
        ``identity``, ``probabilities``, ``ood``, ``decision`` or ``tensors``, in the order of the members.
    """
    own = TASKS[task].groups
    return [group for topic in topics for group in (*TOPICS.get(topic, ()), *own.get(topic, ()))]


def _row_sets(sets: LabelSets | None, posterior: Posterior, coverage: float | None) -> RowSets | None:
    if sets is None or coverage is None:
        return None
    top = posterior.log_probs.argmax(axis=1)
    found = sets.predict(own_log_probs(posterior.logits), coverage=coverage, top=top)
    unflagged = np.ones(len(found.members), dtype=np.bool_) if posterior.flagged is None else ~posterior.flagged
    return RowSets(found.members, unflagged & found.valid, coverage, f"{sets.method}_{sets.kind}")


def _discovered(posterior: Posterior, fdr: float | None) -> Flags | None:
    if fdr is None or posterior.p_value is None:
        return None
    found: Flags = benjamini_hochberg(posterior.p_value) <= fdr
    return found
