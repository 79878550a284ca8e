"""What is asked of a model, checked against it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from service.core.conformal import benjamini_hochberg
from service.core.label_sets import LabelSets, own_log_probs
from service.core.numerics import Array, Flags
from service.core.pipeline import Posterior
from service.core.trajectory import Monitor
from service.prediction.answer import Answer, RowSets
from service.prediction.options import Options, choose_sets
from service.prediction.sessions import handed_over, watch
from service.prediction.tasks import APPROACHES, Approach
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a model, checked against it; nothing in it depends on how many rows come, unless a list per row.

    Attributes
    ----------
    model : Model
    options : Options
    approach : Approach
    sets : LabelSets or None
    """

    model: Model
    options: Options
    approach: Approach
    sets: LabelSets | None

    @property
    def target(self) -> Array | None:
        """Prevalence that answers speak of; None when it is not known."""
        return self.model.source if self.approach.target is None else self.approach.target

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
        approach, coverage = APPROACHES[model.task].of(model, options), options.coverage
        sets = None if coverage is None else choose_sets(model, coverage, target=approach.target)
        return cls(model, options, approach, sets)

    def conclude(self, posterior: Posterior, *, monitor: Monitor | None = None) -> Answer:
        """Stages D and E, and what else was asked for, of rows that went through A to C."""
        model, options, approach = self.model, self.options, self.approach
        session = options.session
        watched = None if session is None or monitor is None else watch(session, posterior, monitor=monitor)
        log_probs = approach.believe(posterior)
        return Answer(
            model,
            posterior,
            log_probs,
            self.target,
            options.site,
            approach.decide(log_probs, posterior, flagged=handed_over(posterior, watched)),
            _row_sets(self.sets, posterior, options.coverage),
            options.fdr,
            _discovered(posterior, options.fdr),
            watched,
            approach.smoother,
        )


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
