"""Reports and records on a terminal."""

from collections.abc import Iterable
from typing import Final

from rich import box
from rich import table as rich_table
from rich.console import Group, RenderableType
from rich.text import Text

from service.bundle.record import Record
from service.core.ood.features import STATE_BYTES
from service.evaluation.report import EvaluationReport, Mood, Verdict
from service.reporting.record_tables import record_facts, record_tables
from service.reporting.report_sections import describe_rows, sections
from service.reporting.tables import Table

MARKS: Final[dict[Mood, str]] = {"good": "ok", "caution": "caution", "note": "note"}


def render_report(report: EvaluationReport) -> RenderableType:
    """Everything that an evaluation found: verdicts, then tables, then notes."""
    tables = [part for found in sections(report).values() for table in found for part in (render_table(table), "")]
    losses = [Text(f"{loss}: {value:.6f}") for loss, value in report.losses.items()]
    notes = [Text(f"note: {note}") for note in report.notes]
    return Group(render_verdicts(report), Text(describe_rows(report)), "", *tables, *losses, *notes)


def render_verdicts(report: EvaluationReport) -> RenderableType:
    """A paragraph for each verdict; of labels only what calls for caution."""
    return Group(*(Text(f"{_mark(report, own)}: {own.title}. {own.text}") for own in _shown(report)), "")


def render_record(record: Record) -> RenderableType:
    """What a calibration learned, and what it rests on."""
    facts = rich_table.Table(box=None, show_header=False, pad_edge=False)
    for key, value in record_facts(record):
        facts.add_row(Text(key), Text(value))
    tables = [part for table in record_tables(record) for part in (render_table(table), "")]
    notes = [Text(f"note: {text}") for text in record.provenance.warnings]
    return Group(facts, "", *tables, *notes)


def render_state(sizes: dict[str, int]) -> str:
    """What scores take in a bundle."""
    listed = ", ".join(f"{name} {size / 2**20:.2f}" for name, size in sizes.items())
    total = sum(sizes.values()) / 2**20
    return f"state of scores: {total:.2f} MiB of at most {STATE_BYTES / 2**20:g}{f' ({listed})' if listed else ''}"


def render_table(table: Table) -> RenderableType:
    """One table under its title, with its notes below."""
    drawn = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        style = "dim" if column.kind == "prose" else None
        drawn.add_column(Text(column.header), justify="left" if column.is_text else "right", style=style)
    for row in table.written():
        # Text, because rich takes brackets in a plain string (a class may be called "[b]") for markup.
        drawn.add_row(*map(Text, row))
    return Group(Text(table.title, style="bold"), drawn, *map(Text, table.notes))


def _shown(report: EvaluationReport) -> Iterable[Verdict]:
    many = report.task == "multilabel"
    return (own for own in report.verdicts if not many or own.mood == "caution" or own.part is None)


def _mark(report: EvaluationReport, verdict: Verdict) -> str:
    label = f", label {verdict.part}" if report.task == "multilabel" and verdict.part is not None else ""
    return f"{MARKS[verdict.mood]}{label}"
