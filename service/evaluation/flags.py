"""What an evaluation says of whole rows, where beliefs are said label by label or position by position."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from service.core.numerics import Array
from service.core.pipeline import Chain, Posterior
from service.evaluation.report import Report, ScoreReport, rate, score_report


@dataclass(frozen=True, slots=True)
class Trust:
    """Flags and OOD scores; attributes as in `report.Report`."""

    flag_rate: float | None
    range_rate: float
    ood_rows: int
    ood_flag_rate: float | None
    scores: dict[str, ScoreReport]


def trust_of(chain: Chain, posterior: Posterior, elsewhere: Posterior | None, *, weights: Array | None = None) -> Trust:
    """How often rows were flagged, here and elsewhere."""
    return Trust(
        flag_rate=rate(posterior.flagged, weights=weights),
        range_rate=float(np.average(np.any(posterior.outside, axis=1), weights=weights)),
        ood_rows=0 if elsewhere is None else len(elsewhere.logits),
        ood_flag_rate=None if elsewhere is None else rate(elsewhere.flagged),
        scores={
            d.name: score_report(i, d, posterior, elsewhere, (), weights=weights) for i, d in enumerate(chain.detectors)
        },
    )


def beliefs_json(report: Report) -> dict[str, Any]:
    """A report without what is said of whole rows."""
    whole = {"rows", *(field.name for field in fields(Trust))}
    return {key: value for key, value in report.as_json().items() if key not in whole}
