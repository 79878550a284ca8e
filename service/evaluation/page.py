"""An evaluation as one HTML file: verdicts, charts, tables; no script, nothing to load, nobody's measurements."""

from collections.abc import Iterator
from pathlib import Path

import jinja2

from service.evaluation import exhibits, outlook, verdicts
from service.evaluation.exhibits import LISTED_CLASSES, Case
from service.evaluation.measure import Measured
from service.evaluation.verdicts import Verdict
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
    data, posterior = found.data, found.posterior
    labels, weights, groups = data.labels, data.weights, data.groups
    event = verdicts.event_of(posterior.log_probs, labels, model.classes, weights=weights, groups=groups)
    costs = {
        name: verdicts.strategies(
            policy, posterior.log_probs, labels, posterior.flagged, weights=weights, groups=groups
        )
        for name, policy in model.policies.items()
    }
    case = Case(model, found, event, costs)
    return _template().render(
        title=f"{model.name} version {model.version}",
        subtitle=model.manifest.title,
        facts=_facts(case),
        verdicts=list(_verdicts(case)),
        sections={
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
    model, report = case.model, case.report
    counts = [f"{count:,} {name}" for name, count in report.class_counts.items()]
    more = f" and {len(counts) - LISTED_CLASSES} more classes" if len(counts) > LISTED_CLASSES else ""
    return {
        "Model": f"{model.name}, version {model.version}",
        "Digest": model.bundle.digest or "none: a draft",
        "Calibration": model.status if model.status == "uncalibrated" else f"{model.method} ({model.status})",
        "Rows": f"{report.rows:,}: {', '.join(counts[:LISTED_CLASSES])}{more}",
        "Data": case.data.digest,
        **{f"Note {i}" if i > 1 else "Note": text for i, text in enumerate(case.found.notes, start=1)},
        "Rows from elsewhere": f"{report.ood_rows:,}" if report.ood_rows else "none given",
    }


def _verdicts(case: Case) -> Iterator[Verdict]:
    report, ood, data = case.report, case.model.manifest.ood, case.data
    yield verdicts.calibration(case.event)
    yield verdicts.confidence(case.event)
    yield verdicts.balance(case.found.diagnostics.calibration.shifted, len(case.model.classes))
    losses = {"before": report.uncalibrated_metrics["log_loss"], "after": report.metrics["log_loss"]}
    yield verdicts.improvement(case.posterior, data.labels, **losses, weights=data.weights, groups=data.groups)
    references = [d.calibration.n for d in case.model.chain.detectors if d.gated and d.calibration is not None]
    promised = ood.false_alarm if ood.gate_scores else None
    rows = min(references, default=0)
    yield verdicts.flags(case.posterior, case.elsewhere, promised=promised, calibrated_on=rows, groups=data.groups)
    for name, costs in case.costs.items():
        yield verdicts.worth(name, costs, constant_action=report.policies[name].constant_action)
        yield verdicts.promise(name, costs)
