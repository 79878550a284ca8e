"""How a version was made of another one's outcomes, as `calibration.json` keeps it.

Tested in tests/monitoring/test_refit.py.
"""

from typing import Literal

from service.bundle.record_section import Count, Finite, Positive, RecordSection, Share, Units


class ImprovementRecord(RecordSection):
    """A loss out of fold, less that of the version before on the same rows, with its 95 % interval, in nats."""

    before: Finite
    after: Finite
    difference: Finite
    low: Finite
    high: Finite


class StepRecord(RecordSection):
    """What the closed test chose, of the model or of one label.

    ``p_values`` are those of the simpler steps that were tested, against the last one. ``slope`` and ``bias`` are those
    of the change; ``total_slope`` and ``total_bias`` those of all refits since the last `fit`.
    """

    step: Literal["none", "intercept", "slope", "calibrator"]
    p_values: dict[str, Share]
    slope: Finite
    bias: tuple[Finite, ...]
    total_slope: Finite
    total_bias: tuple[Finite, ...]


class RefitRecord(RecordSection):
    """Where a refit came from; its window is that of the answers, in microseconds since 1970."""

    version: Units
    digest: str
    rows: Units
    events: Count
    since: Count
    until: Count
    level: Positive
    steps: dict[str, StepRecord]
    improvement: dict[str, ImprovementRecord]
    flag_rate: Share
    coverage: Share | None = None
