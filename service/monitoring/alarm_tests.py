"""Which tests a version has, and which share of its one per cent each may spend.

Half of the level goes to calibration, half to scores. Within calibration, the slope has half and the intercepts of the
classes the other half; scores have equal shares. Where the manifest names sites, all rows together have half of every
share, and the sites the other half. Shares add up: evidence of different tests belongs to different sequences of rows,
for which an average of e-processes would not be valid.

Tested in tests/monitoring/test_alarms.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.record import CalibratorRecord, Record
from service.bundle.repository import Bundle
from service.bundle.scores import restore_reference
from service.core.sequential import SequentialTest
from service.core.sequential.calibration_drift import Intercept, Slope
from service.core.sequential.errors_of_fit import intercept_errors, slope_error
from service.core.sequential.rank_drift import Ranks

LEVEL: Final = 0.01
"""Chance that a sound version ever raises an alarm: all tests and sites together, over its whole life."""

HALF: Final = 0.5
MOST_CLASSES: Final = 20
"""With more, intercepts are not tested one by one."""

MOST_SITES: Final = 50


@dataclass(frozen=True, slots=True)
class VersionTest:
    """A test of all rows of a version, or of those of one site.

    Attributes
    ----------
    name : str
        ``slope``, ``intercept:CLASS`` or ``score:NAME``; of a multilabel model ``slope:LABEL``.
    site : str or None
    share : float
        Of `LEVEL`.
    test : SequentialTest
    part : int
        Of the row's parts (`AnsweredRow`), the one that it is about.
    """

    name: str
    site: str | None
    share: float
    test: SequentialTest
    part: int = 0

    @property
    def key(self) -> str:
        """Unique within a version."""
        return self.name if self.site is None else f"{self.name}@{self.site}"

    @property
    def log_threshold(self) -> float:
        """Logarithm of the evidence that raises an alarm."""
        return float(-np.log(LEVEL * self.share))


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    share: float
    test: SequentialTest
    part: int = 0


def tests_of(bundle: Bundle) -> list[VersionTest]:
    """The tests of a version; none of one without calibration.

    Parameters
    ----------
    bundle : Bundle
    """
    if bundle.record is None:
        return []
    named = [*_CALIBRATION[bundle.manifest.graph.task](bundle, bundle.record), *_scores(bundle, bundle.record)]
    sites = list(bundle.manifest.sites)[:MOST_SITES]
    together = HALF if sites else 1.0
    found = [VersionTest(one.name, None, together * one.share, one.test, one.part) for one in named]
    return found + [
        VersionTest(one.name, site, HALF * one.share / len(sites), one.test, one.part)
        for site in sites
        for one in named
    ]


def _of_classes(bundle: Bundle, record: Record) -> Iterator[_Named]:
    classes = bundle.manifest.graph.classes
    counts = np.array([record.provenance.class_counts[name] for name in classes], dtype=np.float64)
    brier = record.provenance.after_out_of_fold["brier_loss"]
    brier *= 2.0 if len(classes) == 2 else 1.0  # of two classes, the metric is of one
    errors = intercept_errors(brier, counts / max(counts.sum(), 1.0), units=record.provenance.units)
    yield _Named("slope", HALF * HALF, Slope.of(_slope_error(record.calibrator, float(errors.min()))))
    if len(classes) <= MOST_CLASSES:
        for k, name in enumerate(classes):
            if len(classes) > 2 or k == 1:  # of two classes, one says it all
                share = HALF * HALF / (1 if len(classes) == 2 else len(classes))
                yield _Named(f"intercept:{name}", share, Intercept.of(float(errors[k]), k))


def _of_labels(bundle: Bundle, record: Record) -> Iterator[_Named]:
    del bundle
    if len(record.labels) > MOST_CLASSES:
        return
    share = HALF * HALF / len(record.labels)
    for m, (name, label) in enumerate(record.labels.items()):
        brier = 2.0 * label.after_out_of_fold["brier_loss"]
        error = float(intercept_errors(brier, np.array([0.5, 0.5]), units=record.provenance.units)[1])
        yield _Named(f"slope:{name}", share, Slope.of(_slope_error(label.calibrator, error)), m)
        yield _Named(f"intercept:{name}", share, Intercept.of(error, 1), m)


def _of_sequences(bundle: Bundle, record: Record) -> Iterator[_Named]:
    del bundle, record
    yield from ()


def _slope_error(calibrator: CalibratorRecord, otherwise: float) -> float:
    interval, temperature = calibrator.interval.get("temperature"), calibrator.params.get("temperature")
    if interval is None or not isinstance(temperature, float):
        return otherwise  # log-odds beyond 1, which most rows have, determine a slope better than an intercept
    low, high = interval
    return slope_error(temperature, low, np.inf if high is None else high)


def _scores(bundle: Bundle, record: Record) -> Iterator[_Named]:
    for name, score in record.scores.items():
        ranks = Ranks.of(restore_reference(name, bundle.state), threshold=score.threshold)
        yield _Named(f"score:{name}", HALF / len(record.scores), ranks)


_CALIBRATION: Final[dict[str, Callable[[Bundle, Record], Iterator[_Named]]]] = {
    "multiclass": _of_classes,
    "multilabel": _of_labels,
    "sequence": _of_sequences,
}
"""Tests of calibration by task. Positions of a sequence depend on each other, so only its scores are tested."""
