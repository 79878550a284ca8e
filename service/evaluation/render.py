"""Records and reports as tables for a terminal."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.bundle.record import Record
from service.evaluation.report import Report

MEANINGS = {
    "accuracy_score": "share of rows whose most probable class is true; higher is better",
    "log_loss": "surprise at the true class, in nats; lower is better",
    "brier_loss": "squared error of the probabilities; lower is better",
    "calibration_error": "gap between confidence and success (15 bins, biased up when rows are few)",
    "classwise_calibration_error": "the same for every class' own probability; what costs feel",
}


def render_record(record: Record) -> RenderableType:
    """What a calibration learned, and how far to trust it."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    for key, value in _facts(record):
        _add(facts, key, value)
    provenance = record.provenance
    metrics = _metric_table("", "before", "after, out of fold")
    for name, before in provenance.before.items():
        _add(metrics, name, f"{before:.4f}", f"{provenance.after_out_of_fold[name]:.4f}", MEANINGS.get(name, ""))
    scores = _table("out-of-distribution score", "threshold", "at false alarm", "from rows", "learned from")
    for name, score in record.scores.items():
        _add(
            scores,
            name,
            f"{score.threshold:.4g}",
            f"{score.false_alarm:g}",
            str(score.rows),
            score.trained_on.replace("_", " "),
        )
    warnings = [Text(f"note: {text}") for text in provenance.warnings]
    return Group(facts, "", metrics, "", scores, *warnings)


def render_report(report: Report) -> RenderableType:
    """How well a version did, for somebody who has to answer for it."""
    counts = ", ".join(f"{count} {name}" for name, count in report.class_counts.items())
    metrics = _metric_table("probabilities", "uncalibrated", "served")
    for name, value in report.metrics.items():
        _add(metrics, name, f"{report.uncalibrated_metrics[name]:.4f}", f"{value:.4f}", MEANINGS.get(name, ""))
    parts: list[RenderableType] = [Text(f"{report.rows} rows: {counts}"), "", metrics, "", *_ood(report)]
    for name, policy in report.policies.items():
        table = _table(f"policy {name}: cost per row", "expected", "realised")
        _add(table, "as decided", f"{policy.expected_cost:.4f}", f"{policy.realised_cost:.4f}")
        _add(table, "cheapest action of the most probable class", "", f"{policy.label_cost:.4f}")
        _add(table, f"always {policy.constant_action}, the best single action", "", f"{policy.constant_cost:.4f}")
        taken = ", ".join(f"{action} {count}" for action, count in policy.actions.items())
        parts += ["", table, Text(f"taken: {taken}; overruled by a flag: {policy.overruled}")]
    return Group(*parts)


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    yield "calibration", f"{record.calibrator.method}, {record.status}"
    for name, value in record.calibrator.params.items():
        low, high = record.calibrator.interval.get(name, (value, value))
        yield name, f"{value:.4f}  ({100 * record.calibrator.level:g} % interval {low:.3f} to {high:.3f})"
    shares = record.source.prevalence or {}
    said = ", ".join(f"{name} {share:.4f}" for name, share in shares.items()) or "nobody knows"
    yield "speaks of prevalence", f"{said} ({record.source.basis.replace('_', ' ')})"
    counts = ", ".join(f"{count} {name}" for name, count in record.provenance.class_counts.items())
    yield "fitted on", f"{record.provenance.rows} rows: {counts}"
    yield (
        "flagged of them",
        f"{record.provenance.flag_rate:.4f} by the gate; {record.provenance.range_rate:.4f} outside a range",
    )


def _ood(report: Report) -> list[RenderableType]:
    table = _table("out of distribution", "threshold", "flagged here", "flagged elsewhere", "AUROC")
    for name, score in report.scores.items():
        _add(table, name, *map(_number, (score.threshold, score.flag_rate, score.ood_flag_rate, score.auroc)))
    _add(table, "range (rule)", "", _number(report.range_rate), "", "")
    _add(table, "the gate", "", _number(report.flag_rate), _number(report.ood_flag_rate), "")
    note = (
        f"elsewhere: {report.ood_rows} rows of --ood-data" if report.ood_rows else "elsewhere: no --ood-data was given"
    )
    return [table, Text(note)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _metric_table(title: str, *columns: str) -> Table:
    table = _table(title, *columns)
    table.add_column("meaning", style="dim")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(title))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _add(table: Table, *cells: str) -> None:
    # Text, because rich takes brackets in a plain string (a class may be called "[b]") for markup.
    table.add_row(*map(Text, cells))
