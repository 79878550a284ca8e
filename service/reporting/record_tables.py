"""What a calibration learned, as facts and tables. Tested in tests/reporting/test_terminal.py."""

from collections.abc import Iterator
from typing import Final

from service.bundle.record import CalibratorRecord, OodDataRecord, Param, Record
from service.bundle.tasks import PRESENT
from service.evaluation.reasons import REASONS
from service.reporting.probability_tables import metric_table
from service.reporting.tables import Column, Table

FIT_METRICS: Final = ("accuracy_score", "log_loss", "brier_loss", "calibration_error", "classwise_calibration_error")

SHARED: Final = (
    "as above: predicted too rarely for a threshold of its own; false alarms are bounded over all rows together"
)


def record_facts(record: Record) -> Iterator[tuple[str, str]]:
    """Names and values: the calibration, its parameters, the source prevalence, the rows it was fitted on."""
    yield "calibration", f"{' + '.join(record.chain)}, {record.status}"
    yield "smallest error probability supported", f"{record.least_error:.2g}{_mixed_in(record)}"
    for name, value in record.calibrator.params.items():
        yield name, _param(name, value, record.calibrator)
    if record.calibrator.prior:
        yield "prior", _prior(record.calibrator.prior)
    shares = ", ".join(f"{name} {share:.4f}" for name, share in (record.source.prevalence or {}).items())
    basis = record.source.basis.replace("_", " ")
    yield "source prevalence", f"{shares} ({basis})" if shares else basis
    provenance = record.provenance
    counts = ", ".join(f"{count} {name}" for name, count in provenance.class_counts.items())
    yield "fitted on", f"{provenance.rows} rows: {counts}"
    if record.refit is not None:
        steps = ", ".join(f"{name}: {own.step}" for name, own in record.refit.steps.items())
        yield "refitted from", f"version {record.refit.version}, {record.refit.events} events; {steps}"
    yield "flagged of them", f"{provenance.flag_rate:.4f} by the gate; {provenance.range_rate:.4f} outside a range"


def record_tables(record: Record) -> Iterator[Table]:
    """Chains that competed, labels, metrics before and after, OOD scores."""
    if len(record.candidates) > 1:
        yield _candidates(record)
    if record.labels:
        yield _labels(record)
    yield _metrics(record)
    yield _scores(record)
    if record.ood_data is not None:
        yield _ood_candidates(record.ood_data)


def _mixed_in(record: Record) -> str:
    separable = any(label.status == "separable" for label in record.labels.values()) or record.status == "separable"
    whose = "labels whose rows are separable" if record.labels else "every answer: the rows are separable"
    return f", of the uniform distribution, is mixed into {whose}" if separable else ""


def _prior(prior: dict[str, float]) -> str:
    scales = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in prior.items() if k != "freedom")
    return f"Student's t, {prior['freedom']:g} degrees of freedom, around 0; scale of {scales}"


def _param(name: str, value: Param, calibrator: CalibratorRecord) -> str:
    if not isinstance(value, float):
        return f"{len(value)} numbers" if isinstance(value[0], tuple) else ", ".join(f"{v:.4f}" for v in value[:8])
    if name not in calibrator.interval:
        return f"{value:.4f}"
    low, high = calibrator.interval[name]
    reason = REASONS[calibrator.interval_reason.get(name, "too_few_rows")]
    upper = f"no upper limit: {reason}" if high is None else f"{high:.3f}"
    return f"{value:.4f}  ({100 * calibrator.level:g} % interval {low:.3f} to {upper})"


def _candidates(record: Record) -> Table:
    heads = (
        Column("chain", "name"),
        Column("held-out log loss", "decimal"),
        Column("more than the best", "decimal"),
        Column("standard error", "decimal"),
        Column("parameters", "count"),
    )
    rows = [
        (_chosen(name, own.chosen), own.log_loss, own.excess, own.excess_standard_error, own.parameters)
        for name, own in record.candidates.items()
    ]
    note = "chosen: the fewest parameters within one standard error of the best"
    return Table("chains that competed", heads, rows, (note,))


def _chosen(name: str, chosen: bool) -> str:  # noqa: FBT001  # a mark, as a record holds it
    return f"{name}  (chosen)" if chosen else name


def _labels(record: Record) -> Table:
    heads = (
        Column("label", "name"),
        Column("chain", "name"),
        Column("present", "count"),
        Column("prevalence", "decimal"),
        Column("log loss before", "decimal"),
        Column("after, out of fold", "decimal"),
    )
    rows = []
    for name, own in record.labels.items():
        shares = own.source.prevalence
        share = "unknown" if shares is None else shares[PRESENT]
        losses = own.before["log_loss"], own.after_out_of_fold["log_loss"]
        rows.append((name, " + ".join(own.chain), own.present, share, *losses))
    return Table("labels", heads, rows, ("below: means over labels",))


def _metrics(record: Record) -> Table:
    found = record.provenance
    names = tuple(name for name in FIT_METRICS if name in found.before and name in found.after_out_of_fold)
    heads = ("before", "after, out of fold")
    return metric_table("metrics", found.before, found.after_out_of_fold, heads=heads, names=names)


def _scores(record: Record) -> Table:
    heads = (
        Column("score", "name"),
        Column("threshold", "number"),
        Column("at false alarm", "number"),
        Column("from rows", "count"),
        Column("fitted on", "name"),
    )
    by_class = (own for score in record.scores.values() for own in (score.by_class or {}).values())
    notes = (SHARED,) if any(own.threshold is None for own in by_class) else ()
    return Table("out-of-distribution scores", heads, list(_score_rows(record)), notes)


def _score_rows(record: Record) -> Iterator[tuple[str, str, str, int, str]]:
    for name, score in record.scores.items():
        source = score.trained_on.replace("_", " ")
        kept = "" if score.kept_rows is None else f", {score.kept_rows} of them kept"
        yield name, f"{score.threshold:.4g}", f"{score.false_alarm:g}", score.rows, source + kept
        for label, own in (score.by_class or {}).items():
            limit = "as above" if own.threshold is None else f"{own.threshold:.4g}"
            yield f"  predicted {label}", limit, "", own.rows, ""


def _ood_candidates(found: OodDataRecord) -> Table:
    heads = (
        Column("score", "name"),
        Column("AUROC", "decimal"),
        Column("95 % interval", "number"),
        Column("FPR@95, OOD positive", "decimal"),
        Column("FPR@95, ID positive", "decimal"),
    )
    rows = [
        (
            _chosen(name, one.chosen),
            one.auroc,
            f"{one.low:.3f} to {one.high:.3f}",
            one.fpr95_ood_positive,
            one.fpr95_id_positive,
        )
        for name, one in found.candidates.items()
    ]
    counts = f"{found.evaluated_rows} calibration rows and {found.evaluated_ood_rows} of {found.rows} rows of OOD data"
    notes = (f"compared on {counts}; no score was fitted on any of them", found.choice, found.tuning)
    refused = (f"not compared: {reason}" for reason in found.refused.values())
    return Table("scores, on --ood-data", heads, rows, (*notes, *refused))
