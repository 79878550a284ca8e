"""Which tests a version has, and which share of its one per cent each may spend.

Half of the level goes to calibration, half to scores. Within calibration, the slope has half and the intercepts of the
classes the other half; scores have equal shares. Where the manifest names sites, all rows together have half of every
share, and the sites the other half. Shares add up: evidence of different tests belongs to different sequences of rows,
for which an average of e-processes would not be valid.

Tested in tests/monitoring/test_alarms.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.record import Record
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
        ``slope``, ``intercept:CLASS`` or ``score:NAME``.
    site : str or None
    share : float
        Of `LEVEL`.
    test : SequentialTest
    """

    name: str
    site: str | None
    share: float
    test: SequentialTest

    @property
    def key(self) -> str:
        """Unique within a version."""
        return self.name if self.site is None else f"{self.name}@{self.site}"

    @property
    def log_threshold(self) -> float:
        """Logarithm of the evidence that raises an alarm."""
        return float(-np.log(LEVEL * self.share))


def tests_of(bundle: Bundle) -> list[VersionTest]:
    """The tests of a version; none of one without calibration, or of a task whose rows have several labels.

    Parameters
    ----------
    bundle : Bundle
    """
    record = bundle.record
    if record is None or bundle.manifest.graph.task != "multiclass":
        return []
    named = [*_calibration(record, bundle.manifest.graph.classes), *_scores(bundle, record)]
    sites = list(bundle.manifest.sites)[:MOST_SITES]
    together = HALF if sites else 1.0
    found = [VersionTest(name, None, together * share, test) for name, share, test in named]
    return found + [
        VersionTest(name, site, HALF * share / len(sites), test) for site in sites for name, share, test in named
    ]


def _calibration(record: Record, classes: tuple[str, ...]) -> Iterator[tuple[str, float, SequentialTest]]:
    counts = np.array([record.provenance.class_counts[name] for name in classes], dtype=np.float64)
    brier = record.provenance.after_out_of_fold["brier_loss"] * (
        2.0 if len(classes) == 2 else 1.0
    )  # summed over classes
    errors = intercept_errors(brier, counts / max(counts.sum(), 1.0), units=record.provenance.units)
    yield "slope", HALF * HALF, Slope.of(_slope_error(record, float(errors.min())))
    if len(classes) <= MOST_CLASSES:
        for k, name in enumerate(classes):
            if len(classes) > 2 or k == 1:  # of two classes, one says it all
                yield f"intercept:{name}", HALF * HALF / max(len(classes) - 1, 1), Intercept.of(float(errors[k]), k)


def _slope_error(record: Record, otherwise: float) -> float:
    interval = record.calibrator.interval.get("temperature")
    temperature = record.calibrator.params.get("temperature")
    if interval is None or not isinstance(temperature, float):
        return otherwise  # log-odds beyond 1, which most rows have, determine a slope better than an intercept
    low, high = interval
    return slope_error(temperature, low, np.inf if high is None else high)


def _scores(bundle: Bundle, record: Record) -> Iterator[tuple[str, float, SequentialTest]]:
    for name, score in record.scores.items():
        ranks = Ranks.of(restore_reference(name, bundle.state), threshold=score.threshold)
        yield f"score:{name}", HALF / len(record.scores), ranks
