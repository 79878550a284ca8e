"""An evaluation as one HTML file: verdicts, charts, tables; no script, nothing to load, nobody's measurements."""

from pathlib import Path

import jinja2

from service.evaluation.measure import Measured
from service.reporting import exhibits, outlook
from service.reporting.exhibits import LISTED_CLASSES, Case
from service.runtime.model import Model


def write(path: Path, model: Model, found: Measured) -> None:
    """Write the page of an evaluation to a file.

    Parameters
    ----------
    path : Path
    model : Model
    found : Measured
        What `measure` made of it; of the rows only labels, groups, weights and digest are used.
    """
    path.write_text(build(model, found), encoding="utf-8")


def build(model: Model, found: Measured) -> str:
    """Text of the page, the same for the same evaluation; parameters as `write`."""
    case = Case(model, found)
    return _template().render(
        title=f"{model.name} version {model.version}",
        subtitle=model.manifest.title,
        facts=_facts(case),
        verdicts=found.verdicts,
        sections={
            "Who is found": (list(exhibits.class_charts(case)), list(exhibits.class_tables(case))),
            "Probabilities": (exhibits.probability_charts(case), list(exhibits.probability_tables(case))),
            "Flags": (list(exhibits.score_charts(case)), list(exhibits.score_tables(case))),
            "Decisions": (list(outlook.decision_charts(case)), list(outlook.decision_tables(case))),
        },
    )


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def _facts(case: Case) -> dict[str, str]:
    model, report, origin = case.model, case.report, case.found.origin
    counts = [f"{count:,} {name}" for name, count in report.class_counts.items()]
    more = f" and {len(counts) - LISTED_CLASSES} more classes" if len(counts) > LISTED_CLASSES else ""
    return {
        "Model": f"{model.name}, version {model.version}",
        "Digest": model.bundle.digest or "none: a draft",
        "Calibration": model.status if model.status == "uncalibrated" else f"{model.method} ({model.status})",
        "Rows": f"{report.rows:,}: {', '.join(counts[:LISTED_CLASSES])}{more}",
        "Date": origin.created or "not given",
        "File": origin.file or "not given",
        "Data": case.data.digest,
        **{f"Note {i}" if i > 1 else "Note": text for i, text in enumerate(case.found.notes, start=1)},
        "Rows from elsewhere": f"{report.ood_rows:,}" if report.ood_rows else "none given",
        **({"File of those": origin.ood_file} if origin.ood_file else {}),
        "Written by": origin.tool,
    }
