"""What was answered of the rows that enter alarms, read back from their records.

Calibrated probabilities are computed again from the recorded logits, by the version and for the prevalence that the
request stated, whichever verb answered it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson

from service.bundle.record import restore_inverse
from service.bundle.repository import Bundle
from service.core import multilabel
from service.core.multilabel import shares_of
from service.core.numerics import Array, Indices, log_softmax
from service.core.pipeline import at_prevalence
from service.prediction.record_reader import Recorded, read_records
from service.record_errors import StoreDamaged
from service.store.engine import Store
from service.store.entries import Context, Prediction

SCORE: Final = "ood.scores.{}.score"


@dataclass(frozen=True, slots=True)
class Picked:
    """A row of a record, and what turned out to be true of it.

    Attributes
    ----------
    record : Prediction
    context : Context
    row : int
    labels : tuple of int
        Place of the true class of every part; -1 where it is not known.
    """

    record: Prediction
    context: Context
    row: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """What was answered of a row.

    Attributes
    ----------
    log_probs : ndarray of shape (M, K)
        For the prevalence of the request, by part: one of a multiclass model, each label of a multilabel model, none of
        a sequence, whose positions depend on each other.
    scores : mapping of str to float
    site : str or None
    """

    log_probs: Array
    scores: Mapping[str, float]
    site: str | None


@dataclass(frozen=True, slots=True)
class RecordedRows:
    """Reads records of one version.

    Attributes
    ----------
    bundle : Bundle
        Calibrated.
    """

    bundle: Bundle

    def rows(self, store: Store, picked: Sequence[Picked]) -> list[AnsweredRow | None]:
        """What was answered, in order; None of a row of which not all classes are kept.

        Raises
        ------
        StoreUnavailable, StoreDamaged
        """
        found: list[AnsweredRow | None] = [None] * len(picked)
        by_context: dict[bytes, list[int]] = {}
        for place, pick in enumerate(picked):
            by_context.setdefault(pick.record.context, []).append(place)
        for places in by_context.values():
            answered = self._alike(store, [picked[place] for place in places])
            for place, row in zip(places, answered, strict=True):
                found[place] = row
        return found

    def _alike(self, store: Store, picked: Sequence[Picked]) -> Sequence[AnsweredRow | None]:
        context = picked[0].context
        schema = None if context.schema is None else store.document(context.schema)
        if schema is None:
            raise StoreDamaged("a record lacks its schema; `temperance audit verify` shows where")
        records = {pick.record.request_id: pick.record for pick in picked}
        recorded = read_records(list(records.values()), schema)
        if recorded.layout.kept is not None:
            return [None] * len(picked)
        starts = dict(zip(records, np.concatenate([[0], np.cumsum(recorded.sizes)]).tolist(), strict=False))
        return self._answered(recorded, context, np.array([starts[p.record.request_id] + p.row for p in picked]))

    def _answered(self, recorded: Recorded, context: Context, at: Indices) -> list[AnsweredRow]:
        log_probs = self._log_probs(recorded, context, at)
        scores = {name: recorded.values(SCORE.format(name))[at].tolist() for name in self._scores(recorded)}
        sites = recorded.texts("site") if "site" in recorded else None
        return [
            AnsweredRow(
                log_probs[i],
                {name: values[i] for name, values in scores.items()},
                context.site if sites is None else sites[int(at[i])],
            )
            for i in range(len(at))
        ]

    def _scores(self, recorded: Recorded) -> list[str]:
        named = [] if self.bundle.record is None else list(self.bundle.record.scores)
        return [name for name in named if SCORE.format(name) in recorded]

    def _log_probs(self, recorded: Recorded, context: Context, at: Indices) -> Array:
        if self.bundle.record is None:
            raise TypeError("an uncalibrated version has no alarms")
        of_task = _LOG_PROBS.get(context.task)
        return np.empty((len(at), 0, 2)) if of_task is None else of_task(self.bundle, recorded, context, at)


def _of_classes(bundle: Bundle, recorded: Recorded, context: Context, at: Indices) -> Array:
    record, classes = bundle.record, bundle.manifest.graph.classes
    logits = recorded.values("logits")[at].astype(np.float64)
    inverse = None if record is None else record.inverse
    undone = logits if inverse is None else restore_inverse(inverse).apply(log_softmax(logits))
    own = None if record is None else record.source.prevalence
    source = None if own is None else np.array([own[name] for name in classes])
    if "prevalence" in recorded:
        target: Array | None = recorded.values("prevalence")[at]
    else:
        target = _target(context, classes)
    return at_prevalence(_calibrated(bundle, undone), source=source, target=target)[:, None]


def _of_labels(bundle: Bundle, recorded: Recorded, context: Context, at: Indices) -> Array:
    record, classes = bundle.record, bundle.manifest.graph.classes
    own = None if record is None else record.source.prevalence
    source = None if own is None else shares_of(np.array([own[name] for name in classes]))
    present = _target(context, classes)
    target = None if present is None else shares_of(present)
    calibrated = _calibrated(bundle, recorded.values("logits")[at].astype(np.float64))
    return multilabel.at_prevalence(calibrated, source=source, target=target)


def _calibrated(bundle: Bundle, logits: Array) -> Array:
    if bundle.record is None:
        raise TypeError("an uncalibrated version has no alarms")
    return bundle.record.restored_calibrator().apply(logits)


def _target(context: Context, classes: tuple[str, ...]) -> Array | None:
    stated = None if context.prevalence is None else orjson.loads(context.prevalence)
    return None if stated is None else np.array([stated[name] for name in classes])


_LOG_PROBS: Final[dict[str, Callable[[Bundle, Recorded, Context, Indices], Array]]] = {
    "multiclass": _of_classes,
    "multilabel": _of_labels,
}
