"""What was computed for rows: an answer as columns over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Self

import numpy as np

from service.core.numerics import Array, Flags
from service.core.pipeline import Posterior
from service.prediction.call import Call
from service.prediction.sessions import Watched
from service.prediction.tasks import Decided
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of an answer that belong to one request.

    Attributes
    ----------
    request_id : str
    rows : int
        How many; they follow those of the parts before.
    ids : sequence of str or None
        The caller's names of these rows.
    """

    request_id: str
    rows: int
    ids: Sequence[str] | None = None


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

    def __getitem__(self, rows: slice) -> Self:
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
        Under the target prevalence. Of labels (N, M, 2), of sequences (N, L, K) and smoothed.
    target : ndarray of shape (K,) or (N, K), or None
        Prevalence that ``log_probs`` speak of; None when it is not known. Of labels (M, 2).
    site : str or tuple of str or None
    decided : tuple of Decided
        Every row belongs to one (of every label that has costs); empty where no action was wanted.
    sets : RowSets or None
        None where no coverage was asked for.
    fdr : float or None
    discovered : ndarray of shape (N,) or None
        Rows out of distribution at that rate of false discoveries; None where there are no p-values.
    watched : Watched or None
        The session after these rows; None where none was sent.
    smoother : str or None
        Of sequences: what let neighbours speak.
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
    watched: Watched | None = None
    smoother: str | None = None

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
        if self.watched is not None or self.discovered is not None:
            raise ValueError("a session and a rate of false discoveries are of all rows of a request")
        places = _places(self.posterior, rows)
        return replace(
            self,
            posterior=self.posterior[rows],
            log_probs=self.log_probs[rows],
            decided=tuple(decided.part(rows, places) for decided in self.decided),
            sets=None if self.sets is None else self.sets[rows],
        )


def parted(answer: Answer, parts: Sequence[Part]) -> Iterator[tuple[Answer, Part]]:
    """Every request's own part of an answer."""
    if len(parts) == 1:
        yield answer, parts[0]
        return
    end = 0
    for part in parts:
        start, end = end, end + part.rows
        yield answer[start:end], part


def _places(posterior: Posterior, rows: slice) -> slice:
    # Where the decisions of these rows stand: those of sequences are one per unpadded position.
    if posterior.lengths is None:
        return rows
    ends = np.concatenate([[0], np.cumsum(posterior.lengths)])
    start, stop, _ = rows.indices(len(posterior.lengths))
    return slice(int(ends[start]), int(ends[max(start, stop)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Answer):
    """The judgement of one call's rows; an audit needs nothing else.

    Attributes
    ----------
    call : Call
    created : datetime
    """

    call: Call
    created: datetime

    @classmethod
    def of(cls, judgement: Answer, *, call: Call, created: datetime) -> Self:
        """What a call is answered."""
        computed = {field.name: getattr(judgement, field.name) for field in fields(judgement)}
        return cls(**computed, call=call, created=created)
