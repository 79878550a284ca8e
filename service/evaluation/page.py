"""An evaluation as one HTML file: verdicts, charts, tables; no script, nothing to load, nobody's measurements."""

from collections.abc import Iterator
from pathlib import Path

import jinja2

from service.core.pipeline import Posterior
from service.evaluation import exhibits, verdicts
from service.evaluation.dataset import Dataset
from service.evaluation.exhibits import LISTED_CLASSES, Case
from service.evaluation.report import Report
from service.evaluation.verdicts import Verdict
from service.runtime.model import Model


def write(
    path: Path, model: Model, data: Dataset, posterior: Posterior, report: Report, *, elsewhere: Posterior | None = None
) -> None:
    """Write the page of an evaluation to a file.

    Parameters
    ----------
    path : Path
    model : Model
    data : Dataset
        The labelled rows; of them only labels and digest are used.
    posterior : Posterior
        Stages A to C for them.
    report : Report
        What `evaluate` made of both.
    elsewhere : Posterior, optional
        Rows known to come from another population.
    """
    path.write_text(build(model, data, posterior, report, elsewhere=elsewhere), encoding="utf-8")


def build(
    model: Model, data: Dataset, posterior: Posterior, report: Report, *, elsewhere: Posterior | None = None
) -> str:
    """Text of the page, the same for the same evaluation; parameters as `write`."""
    log_probs, labels = posterior.log_probs, data.labels
    event = verdicts.event_of(log_probs, labels, model.classes)
    costs = {n: verdicts.strategies(p, log_probs, labels, posterior.flagged) for n, p in model.policies.items()}
    case = Case(model, data, posterior, elsewhere, report, event, costs)
    return _template().render(
        title=f"{model.name} version {model.version}",
        subtitle=model.manifest.title,
        facts=_facts(case),
        verdicts=list(_verdicts(case)),
        sections={
            "Probabilities": (exhibits.probability_charts(case), list(exhibits.probability_tables(case))),
            "Flags": (list(exhibits.score_charts(case)), [exhibits.score_table(case)]),
            "Decisions": (
                exhibits.decision_charts(case),
                [t for p in model.policies.values() for t in exhibits.policy_tables(case, p)],
            ),
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
    caveats = "; ".join(case.data.caveats)
    counts = [f"{count:,} {name}" for name, count in report.class_counts.items()]
    more = f" and {len(counts) - LISTED_CLASSES} more classes" if len(counts) > LISTED_CLASSES else ""
    return {
        "Model": f"{model.name}, version {model.version}",
        "Digest": model.bundle.digest or "none: a draft",
        "Calibration": model.status if model.status == "uncalibrated" else f"{model.method} ({model.status})",
        "Rows": f"{report.rows:,}: {', '.join(counts[:LISTED_CLASSES])}{more}",
        "Data": case.data.digest,
        **({"Note": caveats} if caveats else {}),
        "Rows from elsewhere": f"{report.ood_rows:,}" if report.ood_rows else "none given",
    }


def _verdicts(case: Case) -> Iterator[Verdict]:
    report, ood = case.report, case.model.manifest.ood
    yield verdicts.calibration(case.event)
    yield verdicts.confidence(case.event)
    losses = {"before": report.uncalibrated_metrics["log_loss"], "after": report.metrics["log_loss"]}
    yield verdicts.improvement(case.posterior, case.data.labels, **losses)
    references = [d.calibration.n for d in case.model.chain.detectors if d.gated and d.calibration is not None]
    promised = ood.false_alarm if ood.gate_scores else None
    rows = min(references, default=0)
    yield verdicts.flags(case.posterior, case.elsewhere, promised=promised, calibrated_on=rows)
    for name, costs in case.costs.items():
        yield verdicts.worth(name, costs, constant_action=report.policies[name].constant_action)
        yield verdicts.promise(name, costs)
