"""What was computed for rows: an answer as columns over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np

from service.core.decision import Decisions
from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy, Posterior
from service.core.sequence import SequencePlan
from service.prediction.sessions import Monitored
from service.runtime.model import Model


class Sender(NamedTuple):
    """Who sent a request, and when.

    Attributes
    ----------
    caller : str
    request_id, traceparent : str or None
        The caller's own, checked.
    started : float
        When its head had come, on the monotonic clock.
    """

    caller: str = ""
    request_id: str | None = None
    traceparent: str | None = None
    started: float = 0.0


UNKNOWN_SENDER: Final = Sender()


class Part(NamedTuple):
    """The rows of an answer that belong to one request.

    Attributes
    ----------
    request_id : str
    rows : int
        How many; they follow those of the parts before.
    ids : sequence of str or None
        The caller's names of these rows.
    places : sequence of int or None
        Places of these rows in the request, where they are not all of its rows.
    subjects, groups : sequence of str or None
        Whose rows these are, and what they are grouped by; no answer repeats them.
    sender : Sender
    is_apart : bool
        Whether it is recorded by itself, together with the reply that its caller may ask for again.
    """

    request_id: str
    rows: int
    ids: Sequence[str] | None = None
    places: Sequence[int] | None = None
    subjects: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    sender: Sender = UNKNOWN_SENDER
    is_apart: bool = False

    def of(self, places: Sequence[int]) -> Self:
        """Some of the rows of a whole request."""
        ids, subjects, groups = (_chosen(given, places) for given in (self.ids, self.subjects, self.groups))
        return self._replace(rows=len(places), ids=ids, places=places, subjects=subjects, groups=groups)


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
        Of a multilabel model: which one.
    plan : SequencePlan or None
        Of a sequence model: switches and the cost of every sequence.
    """

    policy: Policy
    rows: Indices
    decisions: Decisions
    label: str | None = None
    plan: SequencePlan | None = None

    def part(self, rows: slice, places: slice) -> Self:
        """What was decided of some rows, where every row was decided by this policy.

        Parameters
        ----------
        rows : slice
        places : slice
            Of the same rows among the decisions.
        """
        decisions = _some(self.decisions, places)
        plan = None if self.plan is None else SequencePlan(decisions, self.plan.switches[rows], self.plan.total[rows])
        return replace(self, rows=np.arange(len(self.rows[rows])), decisions=decisions, plan=plan)


@dataclass(frozen=True, slots=True)
class RowSets:
    """Label sets of N rows.

    Attributes
    ----------
    members : ndarray of shape (N, K)
    valid : ndarray of shape (N,)
        Whether the coverage holds: the row is not flagged, and there were calibration rows enough.
    coverage : float
    method : str
        Score and kind, as in ``lac_class_conditional``.
    """

    members: Flags
    valid: Flags
    coverage: float
    method: str

    def __getitem__(self, rows: slice | Indices) -> Self:
        """The same of some of the rows."""
        return replace(self, members=self.members[rows], valid=self.valid[rows])


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that was computed for rows.

    Attributes
    ----------
    model : Model
    posterior : Posterior
        Under the source prevalence.
    log_probs : ndarray of shape (N, K)
        Under the target prevalence. Of a multilabel model (N, M, 2); of a sequence model (N, L, K), smoothed.
    target : ndarray of shape (K,) or (N, K), or None
        Prevalence of ``log_probs``; None when it is not known. Of a multilabel model (M, 2).
    site : str or tuple of str or None
    decided : tuple of Decided
        Every row belongs to one (of every label that has costs); empty where no decision was requested.
    sets : RowSets or None
        None where no coverage was requested.
    fdr : float or None
    discovered : ndarray of shape (N,) or None
        Rows out of distribution at that rate of false discoveries; None where there are no p-values.
    monitored : Monitored or None
        The session after these rows; None where none was sent.
    smoother : str or None
        Of a sequence model: how neighbouring positions were smoothed.
    top_k : int or None
        How many of the most probable classes stand in for all probabilities.
    """

    model: Model
    posterior: Posterior
    log_probs: Array
    target: Array | None
    site: str | tuple[str, ...] | None
    decided: tuple[Decided, ...] = ()
    sets: RowSets | None = None
    fdr: float | None = None
    discovered: Flags | None = None
    monitored: Monitored | None = None
    smoother: str | None = None
    top_k: int | None = None

    def __len__(self) -> int:
        """Rows."""
        return len(self.log_probs)

    @property
    def probabilities(self) -> Array:
        """Of every class, under the target prevalence."""
        known = self.posterior.known(self.log_probs)
        return np.exp(self.log_probs) if known is None else known

    def __getitem__(self, rows: slice) -> Self:
        """The same of some of the rows, of a query that `joins`.

        Raises
        ------
        ValueError
            If there is a session or a rate of false discoveries: both are of all rows.
        """
        if self.monitored is not None or self.discovered is not None:
            raise ValueError("a session and a rate of false discoveries are of all rows of a request")
        places, posterior = _places(self.posterior, rows), self.posterior[rows]
        return replace(
            self,
            posterior=posterior,
            log_probs=self._shifted(posterior, rows),
            decided=tuple(decided.part(rows, places) for decided in self.decided),
            sets=None if self.sets is None else self.sets[rows],
        )

    def by_policy(self) -> Iterator[Self]:
        """An answer for each policy, of the rows that it decided, where a request names one per row."""
        for decided in self.decided:
            rows, monitored = decided.rows, self.monitored
            posterior = self.posterior[rows]
            yield replace(
                self,
                posterior=posterior,
                log_probs=self._shifted(posterior, rows),
                decided=(decided,),
                sets=None if self.sets is None else self.sets[rows],
                discovered=None if self.discovered is None else self.discovered[rows],
                monitored=None if monitored is None else replace(monitored, alarm=monitored.alarm[rows]),
            )

    def _shifted(self, posterior: Posterior, rows: slice | Indices) -> Array:
        # What no prevalence moved stays the posterior's own, whose probabilities are known to the last digit.
        return posterior.log_probs if self.log_probs is self.posterior.log_probs else self.log_probs[rows]


def parted(answer: Answer, parts: Sequence[Part]) -> Iterator[tuple[Answer, Part]]:
    """Every request's own part of an answer."""
    if len(parts) == 1:
        yield answer, parts[0]
        return
    end = 0
    for part in parts:
        start, end = end, end + part.rows
        yield answer[start:end], part


def _chosen(given: Sequence[str] | None, places: Sequence[int]) -> list[str] | None:
    return None if given is None else [given[place] for place in places]


def _places(posterior: Posterior, rows: slice) -> slice:
    # Where the decisions of these rows stand: those of sequences are one per unpadded position.
    if posterior.lengths is None:
        return rows
    ends = np.concatenate([[0], np.cumsum(posterior.lengths)])
    start, stop, _ = rows.indices(len(posterior.lengths))
    return slice(int(ends[start]), int(ends[max(start, stop)]))


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
