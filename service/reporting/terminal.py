"""Records and reports as tables for a terminal."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.bundle.record import CalibratorRecord, OodDataRecord, Param, Record
from service.bundle.tasks import PRESENT
from service.core.ood.features import STATE_BYTES
from service.evaluation.checks import PREDICTED, BinnedParts, Diagnostics, PolicyCheck, SelectiveCheck, Verdict
from service.evaluation.horizon import Horizon
from service.evaluation.measure import Measured
from service.evaluation.reasons import REASONS, interval
from service.evaluation.report import CodeLength, Report
from service.reporting.rate_tables import class_tables, policy_rate_tables
from service.reporting.tables import add_row as _add
from service.reporting.tables import drawn
from service.reporting.tables import metric_table as _metric_table
from service.reporting.tables import new_table as _table
from service.reporting.tables import number as _number

FIT_METRICS = ("accuracy_score", "log_loss", "brier_loss", "calibration_error", "classwise_calibration_error")

BINNED: Final = {
    "reliability": "said against happened, bin by bin",
    "resolution": "saved by telling the bins apart; more is better",
    "uncertainty": "of the classes",
    "within": "what the bins hide",
    "score": "first minus second plus the others",
}

MEANINGS = {
    "accuracy_score": "share of rows whose most probable class is true; higher is better",
    "log_loss": "surprise at the true class, in nats; lower is better",
    "bits_per_label": "the same in bits: what a label costs to write down",
    "perplexity": "between how many equally likely classes it feels like choosing",
    "compression_score": "share of those bits saved against knowing only how frequent classes are",
    "brier_loss": "Brier score: squared error of the probabilities, of two classes that of one; lower is better",
    "auroc_score": "chance that a row of a class is ranked above one that is not; mean over classes",
    "average_precision_score": "area under precision and recall; mean over classes",
    "aurc_loss": "mean error rate when the least confident rows are left out, over all shares",
    "calibration_error": "gap between confidence and success (15 bins, biased up when rows are few)",
    "equal_mass_calibration_error": "the same with bins of equal numbers of rows",
    "maximum_calibration_error": "the largest gap of any bin",
    "classwise_calibration_error": "the gap of every class' own probability; what costs feel",
    "adaptive_calibration_error": "the same with bins of equal numbers of rows",
    "top_label_calibration_error": "the gap within every predicted class",
    "ks_calibration_error": "largest gap between cumulated confidence and success; needs no bins",
    "debiased_calibration_error": "root mean squared gap, with what chance adds taken off",
}


def render_record(record: Record) -> RenderableType:
    """What a calibration learned, and how far to trust it."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    for key, value in _facts(record):
        _add(facts, key, value)
    provenance = record.provenance
    metrics = _metric_table("", "before", "after, out of fold")
    for name in FIT_METRICS:
        if name in provenance.before and name in provenance.after_out_of_fold:
            before, after = provenance.before[name], provenance.after_out_of_fold[name]
            _add(metrics, name, f"{before:.4f}", f"{after:.4f}", MEANINGS[name])
    warnings = [Text(f"note: {text}") for text in provenance.warnings]
    return Group(facts, "", *_candidates(record), *_labels(record), metrics, "", *_scores(record), *warnings)


def render_state(sizes: dict[str, int]) -> str:
    """What scores take in a bundle."""
    said = ", ".join(f"{name} {size / 2**20:.2f}" for name, size in sizes.items())
    total = sum(sizes.values()) / 2**20
    return f"state of scores: {total:.2f} MiB of at most {STATE_BYTES / 2**20:g}{f' ({said})' if said else ''}"


def render_measured(found: Measured) -> RenderableType:
    """Everything `evaluate` found."""
    horizon = [] if found.horizon is None else [render_horizon(found.horizon)]
    losses = [Text(f"{loss}: {value:.6f}") for loss, value in found.losses.items()]
    notes = [Text(f"note: {note}") for note in found.notes]
    verdicts = render_verdicts(found.verdicts)
    return Group(
        verdicts, render_report(found.report), render_diagnostics(found.diagnostics), *horizon, *losses, *notes
    )


def render_verdicts(verdicts: Iterable[Verdict]) -> RenderableType:
    """What an evaluation amounts to, a paragraph for each verdict."""
    marks = {"good": "ok", "caution": "caution", "note": "note"}
    return Group(*(Text(f"{marks[verdict.mood]}: {verdict.title}. {verdict.text}") for verdict in verdicts), "")


def render_diagnostics(diagnostics: Diagnostics) -> RenderableType:
    """What `diagnose` found, in words and numbers."""
    check = diagnostics.calibration
    table = _table(f"calibration of {check.of}", "value")
    _add(table, "calibration error", f"{check.error:.4f}")
    _add(table, "a perfect predictor stays below (95 %)", f"{check.chance:.4f}")
    _add(table, "share of perfect predictors that look worse", f"{check.p_value:.3f}")
    _add(table, "the same without bins (smECE)", f"{check.smooth_error:.4f}")
    for name, value in (
        ("slope (1: right, below 1: too sure)", check.slope),
        ("intercept (0: right)", check.intercept),
    ):
        _add(table, name, "not determined" if value is None else f"{value:.3f}")
    kind = "squared error of this probability" if check.of == PREDICTED else "Brier score"
    _add(table, kind, f"{check.squared_error:.4f}")
    _add(table, "  its miscalibration", f"{check.miscalibration:.4f}")
    _add(table, "  less its discrimination (more is better)", f"{check.discrimination:.4f}")
    _add(table, "  and the uncertainty of the classes", f"{check.uncertainty:.4f}")
    policies = (part for name, p in diagnostics.policies.items() for part in _check(name, p))
    return Group("", table, "", _binned(check.binned), "", _selective(diagnostics.selective), *policies)


def render_horizon(horizon: Horizon) -> RenderableType:
    """What the error rate comes to over a trajectory."""
    table = _table(f"{horizon.steps} steps, recovery {horizon.recovery:g} per step", "measured", "upper 95 % limit")
    _add(table, "error rate per step", f"{horizon.error:.4g}", f"{horizon.error_high:.4g}")
    _add(table, "error rate that the log loss leaves room for", f"{horizon.error_room:.4g}", "")
    _add(table, "expected steps off course", f"{horizon.off_course:.4g}", f"{horizon.off_course_high:.4g}")
    _add(table, "largest excess cost of imitation, never recovering, costs in [0, 1]", "", f"{horizon.bound:.4g}")
    return Group("", table)


def _selective(check: SelectiveCheck) -> Table:
    table = _table("when unsure rows are left unanswered", "answered", "from probability")
    for risk, at in (check.at_risk or {}).items():
        threshold = REASONS[at.reason or "no_threshold"] if at.threshold is None else f"{at.threshold:.4f}"
        _add(table, f"error rate below {float(risk):.0%}, with 95 % confidence", f"{at.coverage:.1%}", threshold)
    if check.at_risk is None:
        reason = REASONS[check.at_risk_reason or "weights"]
        table.caption = Text(f"no error rate is guaranteed ({reason}): that takes independent rows of equal weight")
    _add(table, "area under risk and coverage beyond the best order (E-AURC)", f"{check.excess_area:.4f}", "")
    return table


def _binned(parts: dict[str, BinnedParts]) -> Table:
    names = {"brier": "squared error", "log_loss": "log loss"}
    table = _table("parts of the loss in bins (Murphy)", *(names[loss] for loss in parts))
    for name, meaning in BINNED.items():
        values = (getattr(part, name) for part in parts.values())
        _add(table, f"{name}: {meaning}", *("infinite" if value is None else f"{value:.4f}" for value in values))
    return table


def _check(name: str, check: PolicyCheck) -> list[RenderableType]:
    table = _table(f"policy {name}: cost of each action", "taken", "promised", "paid")
    for action, held in check.actions.items():
        _add(table, action, str(held.taken), _number(held.promised), _number(held.paid))
    saved = f"saved against believing the most probable class: {check.saved:.4f} per row"
    around = interval(check.excess_low, check.excess_high, check.interval_reason)
    beyond = f"paid beyond what was promised: {check.excess:.4f} per row ({around})"
    lines = [
        f"{saved} ({interval(check.saved_low, check.saved_high, check.interval_reason)})",
        f"paid beyond always knowing the class: {check.regret:.4f} per row"
        + (f"; saved of the best single action's cost: {check.savings:.1%}" if check.savings is not None else ""),
        f"{beyond}; if the probabilities are right, chance moves it by up to {check.noise:.4f}",
    ]
    lines += [
        f"note: {worse} is never taken for its costs: {better} costs no more in any class"
        for worse, better in check.dominated.items()
    ]
    return ["", table, *map(Text, lines)]


def render_report(report: Report) -> RenderableType:
    """How well a version did, for somebody who has to answer for it."""
    counts = ", ".join(f"{count} {name}" for name, count in report.class_counts.items())
    metrics = _metric_table("probabilities", "uncalibrated", "served")
    for name, value in report.metrics.items():
        _add(metrics, name, f"{report.uncalibrated_metrics[name]:.4f}", f"{value:.4f}", MEANINGS.get(name, ""))
    parts: list[RenderableType] = [Text(f"{report.rows} rows: {counts}"), "", metrics, ""]
    parts += [part for grid in class_tables(report) for part in (drawn(grid), "")]
    parts += _ood(report)
    for name, policy in report.policies.items():
        table = _table(f"policy {name}: cost per row", "expected", "realised")
        _add(table, "as decided", f"{policy.expected_cost:.4f}", f"{policy.realised_cost:.4f}")
        _add(table, "cheapest action of the most probable class", "", f"{policy.label_cost:.4f}")
        _add(table, f"always {policy.constant_action}, the best single action", "", f"{policy.constant_cost:.4f}")
        taken = ", ".join(f"{action} {count}" for action, count in policy.actions.items())
        parts += ["", table, Text(f"taken: {taken}; overruled by a flag: {policy.overruled}")]
        parts += [part for grid in policy_rate_tables(name, policy) for part in ("", drawn(grid))]
    return Group(*parts, "", _code_length(report.code_length))


def _code_length(found: CodeLength) -> Table:
    """The labels as a message, in the order of the rows."""
    table = _table("bits per label, in consecutive tenths of the rows", *found.per_label)
    _add(table, "as served", *("inf" if bits is None else f"{bits:.3f}" for bits in found.per_label.values()))
    total = "infinitely many" if found.bits is None else f"{found.bits:.1f}"
    table.caption = Text(f"{total} bits in all; {found.prior_bits:.1f} for a coder that learns frequencies alone")
    return table


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    yield "calibration", f"{' + '.join(record.chain)}, {record.status}"
    yield "smallest error they speak for", f"{record.least_error:.2g}{_mixed_in(record)}"
    for name, value in record.calibrator.params.items():
        yield name, _param(name, value, record.calibrator)
    if record.calibrator.prior:
        scales = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in record.calibrator.prior.items() if k != "freedom")
        freedom = record.calibrator.prior["freedom"]
        yield "prior", f"Student's t, {freedom:g} degrees of freedom, around 0; scale of {scales}"
    shares = record.source.prevalence or {}
    said = ", ".join(f"{name} {share:.4f}" for name, share in shares.items())
    basis = record.source.basis.replace("_", " ")
    yield "speaks of prevalence", f"{said} ({basis})" if said else basis
    counts = ", ".join(f"{count} {name}" for name, count in record.provenance.class_counts.items())
    yield "fitted on", f"{record.provenance.rows} rows: {counts}"
    yield (
        "flagged of them",
        f"{record.provenance.flag_rate:.4f} by the gate; {record.provenance.range_rate:.4f} outside a range",
    )


def _mixed_in(record: Record) -> str:
    separable = any(label.status == "separable" for label in record.labels.values()) or record.status == "separable"
    whose = "labels whose rows are separable" if record.labels else "every answer: the rows are separable"
    return f", of the uniform distribution, is mixed into {whose}" if separable else ""


def _param(name: str, value: Param, calibrator: CalibratorRecord) -> str:
    if not isinstance(value, float):
        return f"{len(value)} numbers" if isinstance(value[0], tuple) else ", ".join(f"{v:.4f}" for v in value[:8])
    if name not in calibrator.interval:
        return f"{value:.4f}"
    low, high = calibrator.interval[name]
    reason = REASONS[calibrator.interval_reason.get(name, "too_few_rows")]
    upper = f"no upper limit: {reason}" if high is None else f"{high:.3f}"
    return f"{value:.4f}  ({100 * calibrator.level:g} % interval {low:.3f} to {upper})"


def _candidates(record: Record) -> list[RenderableType]:
    if len(record.candidates) < 2:
        return []
    table = _table("chain", "held-out log loss", "lost against the best", "standard error", "parameters")
    for name, found in record.candidates.items():
        numbers = (found.log_loss, found.excess, found.excess_standard_error)
        label = f"{name}  (chosen)" if found.chosen else name
        _add(table, label, *(f"{number:.4f}" for number in numbers), str(found.parameters))
    note = "chosen: the fewest parameters within one standard error of the best"
    return [table, Text(note), ""]


def _scores(record: Record) -> Iterator[RenderableType]:
    table = _table("out-of-distribution score", "threshold", "at false alarm", "from rows", "learned from")
    for name, score in record.scores.items():
        source = score.trained_on.replace("_", " ")
        kept = "" if score.kept_rows is None else f", {score.kept_rows} of them kept"
        _add(table, name, f"{score.threshold:.4g}", f"{score.false_alarm:g}", str(score.rows), source + kept)
        for label, own in (score.by_class or {}).items():
            limit = "as above" if own.threshold is None else f"{own.threshold:.4g}"
            _add(table, f"  predicted {label}", limit, "", str(own.rows), "")
    yield table
    if any(own.threshold is None for score in record.scores.values() for own in (score.by_class or {}).values()):
        yield Text(
            "as above: predicted too rarely for a threshold of its own; false alarms are bounded over all rows together"
        )
    if record.ood_data is not None:
        yield from _rivals(record.ood_data)


def _rivals(found: OodDataRecord) -> Iterator[RenderableType]:
    columns = ("AUROC", "95 % interval", "FPR@95, OOD positive", "FPR@95, ID positive")
    table = _table("score, on rows from elsewhere", *columns)
    for name, one in found.candidates.items():
        rates = (f"{one.fpr95_ood_positive:.4f}", f"{one.fpr95_id_positive:.4f}")
        label = f"{name}  (chosen)" if one.chosen else name
        _add(table, label, f"{one.auroc:.4f}", f"{one.low:.3f} to {one.high:.3f}", *rates)
    yield ""
    yield table
    counts = f"{found.evaluated_rows} calibration rows and {found.evaluated_ood_rows} of {found.rows} from elsewhere"
    yield Text(f"judged on {counts}; what was judged had learned from none of them")
    yield from (Text(f"{text}") for text in (found.choice, found.tuning))
    yield from (Text(f"not judged: {reason}") for reason in found.refused.values())


def _labels(record: Record) -> list[RenderableType]:
    if not record.labels:
        return []
    table = _table("label", "chain", "present", "prevalence", "log loss before", "after, out of fold")
    for name, label in record.labels.items():
        shares = label.source.prevalence
        share = "unknown" if shares is None else f"{shares[PRESENT]:.4f}"
        losses = (f"{label.before['log_loss']:.4f}", f"{label.after_out_of_fold['log_loss']:.4f}")
        _add(table, name, " + ".join(label.chain), str(label.present), share, *losses)
    return [table, Text("below: means over labels")]


def _ood(report: Report) -> list[RenderableType]:
    table = _table("out of distribution", "threshold", "flagged here", "flagged elsewhere")
    for name, score in report.scores.items():
        _add(table, name, *map(_number, (score.threshold, score.flag_rate, score.ood_flag_rate)))
        for label, threshold in (score.class_thresholds or {}).items():
            _add(table, f"  predicted {label}", _number(threshold))
    _add(table, "range (rule)", "", _number(report.range_rate))
    _add(table, "the gate", "", _number(report.flag_rate), _number(report.ood_flag_rate))
    if not report.ood_rows:
        return [table, Text("elsewhere: no --ood-data was given")]
    note = f"elsewhere: {report.ood_rows} rows of --ood-data; OOD +: they are the positive kind, ID +: those here are"
    return [table, Text(note), "", _told_apart(report)]


def _told_apart(report: Report) -> Table:
    columns = ("AUROC", "FPR@95, OOD +", "FPR@95, ID +", "AUPR, OOD +", "AUPR, ID +", "detection error")
    table = _table("telling them apart", *columns)
    for name, score in report.scores.items():
        rates = (score.auroc, score.fpr95_ood_positive, score.fpr95_id_positive)
        _add(table, name, *map(_number, (*rates, score.aupr_out, score.aupr_in, score.detection_error)))
    return table
