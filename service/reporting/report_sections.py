"""The tables of a report, in sections: the same for terminal and page.

Tested in tests/reporting/test_agreement.py and tests/reporting/test_terminal.py.
"""

from collections.abc import Callable, Iterator
from typing import Final

from service.bundle.tasks import PRESENT
from service.evaluation.multilabel import LabelStructure
from service.evaluation.report import EvaluationReport, PartReport
from service.evaluation.sequence import Segments, SequenceStructure
from service.reporting.ood_tables import ood_tables
from service.reporting.policy_tables import horizon_table, path_table, policy_tables
from service.reporting.prequential_tables import prequential_tables
from service.reporting.probability_tables import LISTED_CLASSES, metric_table, probability_tables
from service.reporting.rate_tables import RATES, class_tables, policy_rate_tables, rate_cells
from service.reporting.tables import Column, Table

Section = Callable[[EvaluationReport], Iterator[Table]]
DISCRIMINATION, PROBABILITIES, OOD, DECISIONS = "Discrimination", "Probabilities", "Out-of-distribution", "Decisions"


def sections(report: EvaluationReport) -> dict[str, list[Table]]:
    """Tables by the heading of their section, empty sections included."""
    return {heading: list(section(report)) for heading, section in SECTIONS[report.task].items()}


def describe_rows(report: EvaluationReport) -> str:
    """How many rows there are, and of which classes."""
    if isinstance(report.structure, LabelStructure):
        return f"{report.rows:,} rows, {len(report.parts)} labels"
    (part,) = report.parts.values()
    if isinstance(report.structure, SequenceStructure):
        counted = f"{report.rows:,} sequences, {part.rows:,} positions: {_counts(part)}"
        return f"{counted}; smoother: {report.structure.smoother}"
    return f"{report.rows:,} rows: {_counts(part)}"


def policy_title(report: EvaluationReport, part: str, policy: str) -> str:
    """What a policy of a part is called."""
    return f"policy {policy}, label {part}" if report.task == "multilabel" else f"policy {policy}"


def _counts(part: PartReport) -> str:
    counts = [f"{count:,} {name}" for name, count in part.class_counts.items()]
    more = f" and {len(counts) - LISTED_CLASSES} more classes" if len(counts) > LISTED_CLASSES else ""
    return f"{', '.join(counts[:LISTED_CLASSES])}{more}"


def _discrimination(report: EvaluationReport) -> Iterator[Table]:
    for name, part in report.parts.items():
        yield from class_tables(part.probabilities)
        yield from _policy_rates(report, name, part)


def _policy_rates(report: EvaluationReport, name: str, part: PartReport) -> Iterator[Table]:
    for policy, found in part.policies.items():
        yield from policy_rate_tables(policy_title(report, name, policy), found)


def _probabilities(report: EvaluationReport) -> Iterator[Table]:
    for part in report.parts.values():
        yield from probability_tables(part.probabilities)
    yield from prequential_tables(report)


def _ood(report: EvaluationReport) -> Iterator[Table]:
    yield from ood_tables(report.ood)


def _decisions(report: EvaluationReport) -> Iterator[Table]:
    for name, part in report.parts.items():
        for policy, found in part.policies.items():
            yield from policy_tables(policy_title(report, name, policy), found)
    if isinstance(report.structure, SequenceStructure):
        yield from (path_table(policy, path) for policy, path in report.structure.paths.items())
    if report.horizon is not None:
        yield horizon_table(report.horizon)


def _label_rates(report: EvaluationReport) -> Iterator[Table]:
    heads = (Column("label", "name"), Column("AUROC", "rate"), *(Column(name, "rate") for name in RATES))
    present = {name: part.probabilities.classes[PRESENT] for name, part in report.parts.items()}
    rows = [(name, own.auroc, *rate_cells(own.label)) for name, own in present.items()]
    yield Table("labels that are more likely present than not", heads, rows)
    for name, part in report.parts.items():
        yield from _policy_rates(report, name, part)


def _label_probabilities(report: EvaluationReport) -> Iterator[Table]:
    yield metric_table("means over labels", report.uncalibrated_metrics, report.metrics)
    heads = (
        Column("label", "name"),
        Column("present", "count"),
        Column("log loss, uncalibrated", "decimal"),
        Column("served", "decimal"),
        Column("calibration error", "decimal"),
        Column("chance (95 %)", "decimal"),
    )
    yield Table("labels", heads, [_label_row(name, part) for name, part in report.parts.items()])
    if isinstance(report.structure, LabelStructure):
        yield _exact_match(report.structure)
    yield from prequential_tables(report)


def _label_row(name: str, part: PartReport) -> tuple[str, int, float | None, float | None, float, float]:
    change, check = part.probabilities.loss_change, part.probabilities.calibration
    return name, part.class_counts[PRESENT], change.uncalibrated, change.served, check.error, check.chance


def _exact_match(structure: LabelStructure) -> Table:
    found = structure.exact_match
    rows = [
        ("observed", found.observed),
        ("product of the probabilities", found.product),
        ("least under any dependence", found.low),
        ("most under any dependence", found.high),
    ]
    verdict = "differs from the observed share beyond chance" if found.product_is_wrong else "agrees with it"
    note = f"Standard error {found.standard_error:.4f}: the product {verdict}."
    return Table("whole set right", (Column("", "name"), Column("share of rows", "decimal")), rows, (note,))


def _structure(report: EvaluationReport) -> Iterator[Table]:
    if isinstance(report.structure, SequenceStructure):
        found = report.structure
        note = f"Log loss of the positions without a smoother: {found.unsmoothed_log_loss:.4f}."
        heads = (Column("segments", "name"), Column("predicted", "count"), Column("true", "count"))
        overlap = f"Segment overlap (SOV'99) of the most probable labels: {found.segment_overlap_score:.4f}."
        yield Table("structure of the sequences", heads, list(_segments(found.predicted, found.true)), (note, overlap))


def _segments(predicted: Segments, true: Segments) -> Iterator[tuple[str, int | str, int | str]]:
    yield "how many", predicted.count, true.count
    yield "mean length", f"{predicted.mean_length:.2f}", f"{true.mean_length:.2f}"
    divergence = "" if predicted.adjacent_jsd is None else f"{predicted.adjacent_jsd:.4g}"
    yield "mean divergence of neighbours (JSD)", divergence, ""
    for length in sorted({*predicted.lengths, *true.lengths}, key=lambda name: (len(name), name)):
        yield f"of length {length}", predicted.lengths.get(length, 0), true.lengths.get(length, 0)


ONE_PART: Final[dict[str, Section]] = {
    DISCRIMINATION: _discrimination,
    PROBABILITIES: _probabilities,
    OOD: _ood,
    DECISIONS: _decisions,
}
SECTIONS: Final[dict[str, dict[str, Section]]] = {
    "multiclass": ONE_PART,
    "sequence": {**ONE_PART, "Structure": _structure},
    "multilabel": {
        PROBABILITIES: _label_probabilities,
        DISCRIMINATION: _label_rates,
        OOD: _ood,
        DECISIONS: _decisions,
    },
}
