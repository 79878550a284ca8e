"""An evaluation as one HTML file: verdicts, figures, tables; no script, nothing to load, no measurement of a row."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import jinja2

from service.evaluation.evaluate import Evaluation
from service.evaluation.report import EvaluationReport
from service.reporting import report_sections as headings
from service.reporting.figures import (
    CHARTED_CLASSES,
    Charted,
    Figure,
    decision_figures,
    probability_figures,
    roc_curves,
    score_figures,
)
from service.reporting.report_sections import describe_rows, sections


def write(path: Path, evaluation: Evaluation) -> None:
    """Write the page of an evaluation to a file.

    Parameters
    ----------
    path : Path
    evaluation : Evaluation
    """
    path.write_text(build(evaluation), encoding="utf-8")


def build(evaluation: Evaluation) -> str:
    """Text of the page, the same for the same evaluation; parameters as `write`."""
    model, report = evaluation.labelled.answer.model, evaluation.report
    tables = sections(report)
    return _template().render(
        title=f"{model.name} version {model.version}",
        subtitle=model.manifest.title,
        facts=_facts(evaluation),
        verdicts=report.verdicts,
        labelled=report.task == "multilabel",
        sections={heading: (list(_figures(evaluation, heading)), tables[heading]) for heading in tables},
    )


def _figures(evaluation: Evaluation, heading: str) -> Iterator[Figure]:
    if heading == headings.OOD:
        yield from score_figures(evaluation)
    if heading in FIGURES:
        for name in list(evaluation.problems)[:CHARTED_CLASSES]:
            case = Charted(evaluation, evaluation.problems[name], evaluation.report.parts[name])
            yield from (_named(figure, name, evaluation.report) for figure in FIGURES[heading](case))


def _named(figure: Figure, part: str, report: EvaluationReport) -> Figure:
    return replace(figure, title=f"Label {part}: {figure.title}") if report.task == "multilabel" else figure


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def _facts(evaluation: Evaluation) -> dict[str, str]:
    model, report, origin = evaluation.labelled.answer.model, evaluation.report, evaluation.origin
    return {
        "Model": f"{model.name}, version {model.version}",
        "Digest": model.bundle.digest or "none: a draft",
        "Calibration": model.status if model.status == "uncalibrated" else f"{model.method} ({model.status})",
        "Rows": describe_rows(report),
        "Date": origin.created or "not given",
        "File": origin.file or "not given",
        "Data": origin.data or "not given",
        "OOD data": f"{report.ood.ood_rows:,} rows" if report.ood.ood_rows else "none given",
        **({"OOD file": origin.ood_file} if origin.ood_file else {}),
        **_notes(report),
        "Written by": origin.tool,
    }


def _notes(report: EvaluationReport) -> dict[str, str]:
    losses = {f"Loss {name}": f"{value:.6f}" for name, value in report.losses.items()}
    notes = {f"Note {i}" if i > 1 else "Note": text for i, text in enumerate(report.notes, start=1)}
    return {**losses, **notes}


FIGURES: Final = {
    headings.DISCRIMINATION: roc_curves,
    headings.PROBABILITIES: probability_figures,
    headings.DECISIONS: decision_figures,
}
"""Of one part, by the section that they stand in."""
