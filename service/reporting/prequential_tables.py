"""Calibrators compared by prequential code length, as tables.

Tested in tests/reporting/test_terminal.py and tests/reporting/test_agreement.py.
"""

from collections.abc import Iterator
from typing import Final

from service.evaluation.prequential import FIXED, PrequentialReport
from service.evaluation.report import EvaluationReport
from service.reporting.tables import Column, Table

ALONE: Final = (
    "This compares calibrators alone: the classifier is fixed, and its own description is not counted. It cannot "
    "choose between classifiers."
)
UNIT: Final = {"multiclass": "row", "multilabel": "label", "sequence": "position"}
"""What has one label, by task."""
IDENTITY: Final = "identity"


def prequential_tables(report: EvaluationReport) -> Iterator[Table]:
    """What the labels cost each calibrator; of several labels also each by itself."""
    if report.prequential is not None:
        yield _by_calibrator(report.prequential, UNIT[report.task])
        if report.task == "multilabel":
            yield _by_label(report.prequential)


def _by_calibrator(found: PrequentialReport, unit: str) -> Table:
    heads = (
        Column("calibrator", "name"),
        Column("parameters", "count"),
        Column("bits in all", "weight"),
        Column(f"bits per {unit}", "decimal"),
        Column("more than the shortest", "decimal"),
        Column("standard error", "decimal"),
    )
    rows = [
        (_called(name), own.parameters, own.bits, own.bits_per_label, own.excess, own.standard_error)
        for name, own in found.calibrators.items()
    ]
    return Table(f"prequential code length, bits per {unit}", heads, rows, tuple(_notes(found, unit)))


def _notes(found: PrequentialReport, unit: str) -> Iterator[str]:
    yield ALONE
    blocks, counted = ", ".join(f"{rows:,}" for rows in found.blocks), "position" if unit == "position" else "row"
    yield (
        f"Each calibrator codes blocks of {blocks} {counted}s, in an order of seed {found.seed}, with what it learned "
        "from the blocks before; the first block has the classifier's own probabilities."
    )
    if FIXED in found.calibrators:
        yield "The version's own calibrator is not refitted: what it learned from its calibration rows costs nothing."
    if found.left_out:
        yield f"Left out, with more parameters than {counted}s: {', '.join(found.left_out)}."


def _by_label(found: PrequentialReport) -> Table:
    compared = [name for name in (IDENTITY, FIXED) if name in found.calibrators]
    heads = (
        Column("label", "name"),
        *(Column(_called(name), "decimal") for name in compared),
        Column("shortest", "decimal"),
        Column("calibrator", "name"),
    )
    rows = []
    for label, bits in found.parts.items():
        known = {name: value for name, value in bits.items() if value is not None}
        shortest = min(known, key=known.__getitem__)
        rows.append((label, *(bits[name] for name in compared), bits[shortest], _called(shortest)))
    return Table("prequential code length of every label, bits per row", heads, rows)


def _called(name: str) -> str:
    return "the version's own, fixed" if name == FIXED else name
