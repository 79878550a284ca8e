"""Flags and OOD scores as tables.

Tested in tests/reporting/test_agreement.py and tests/reporting/test_terminal.py.
"""

from collections.abc import Iterator
from typing import Final

from service.evaluation.ood_report import OodReport, ScoreReport
from service.reporting.tables import Column, Kind, Table

SEPARATION: Final = (
    "AUROC: probability that a row of the OOD data scores above a labelled one. OOD +: OOD data is the positive class; "
    "ID +: the labelled rows are. AUPR depends on the mix of the two. Detection error: the least of any threshold, if "
    "both are equally frequent."
)


def ood_tables(found: OodReport) -> Iterator[Table]:
    """What is flagged; how well scores separate OOD data, where there is some."""
    yield _flags(found)
    if found.ood_rows:
        yield _separation(found)


def _flags(found: OodReport) -> Table:
    heads = (
        Column("score", "name"),
        Column("threshold", "number"),
        Column("labelled rows flagged", "share"),
        Column("OOD data flagged", "share"),
    )
    rows = [row for name in found.scores for row in _score(found, name)]
    rows.append(("range (rule)", None, found.range_rate, None))
    rows.append(("the gate", None, found.flag_rate, found.ood_flag_rate))
    data = f"{found.ood_rows:,} rows of --ood-data" if found.ood_rows else "no --ood-data was given"
    return Table(
        "out of distribution", heads, rows, (f"The gate flags a row: {', '.join(found.gate)}. OOD data: {data}.",)
    )


def _score(found: OodReport, name: str) -> Iterator[tuple[str, float | None, float | None, float | None]]:
    own = found.scores[name]
    yield name, own.threshold, own.flag_rate, own.ood_flag_rate
    for label, threshold in (own.class_thresholds or {}).items():
        yield f"  predicted {label}", threshold, None, None


def _separation(found: OodReport) -> Table:
    kinds: dict[str, Kind] = {
        "AUROC": "number",
        "FPR@95, OOD +": "share",
        "FPR@95, ID +": "share",
        "AUPR, OOD +": "number",
        "AUPR, ID +": "number",
        "detection error": "share",
    }
    heads = (Column("score", "name"), *(Column(header, kind) for header, kind in kinds.items()))
    rows = [(name, *_separations(own)) for name, own in found.scores.items()]
    return Table("how well do scores separate the OOD data?", heads, rows, (SEPARATION,))


def _separations(own: ScoreReport) -> tuple[float | None, ...]:
    fprs = own.fpr95_ood_positive, own.fpr95_id_positive
    return own.auroc, *fprs, own.aupr_out, own.aupr_in, own.detection_error
