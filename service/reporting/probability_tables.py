"""How good probabilities are, as tables: metrics, calibration, parts of the loss, selective answers, code length.

Tested in tests/reporting/test_agreement.py and tests/reporting/test_terminal.py.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from service.core.assessment.metrics import METRICS
from service.evaluation.calibration_report import PREDICTED, CalibrationReport
from service.evaluation.number_format import decimal, percent
from service.evaluation.probability_report import CodeLength, ProbabilityReport, SelectiveReport
from service.evaluation.reasons import REASONS
from service.reporting.tables import EMPTY, Column, Table

LISTED_CLASSES = 12
PARTS: Final = {
    "miscalibration": "what recalibration could save",
    "discrimination": "what separating the rows saves; more is better",
    "uncertainty": "the cost of predicting the base rate alone",
    "squared_error": "miscalibration - discrimination + uncertainty",
}
BINNED: Final = {
    "reliability": "mean predicted probability against observed frequency, bin by bin",
    "resolution": "saved by separating the bins; more is better",
    "uncertainty": "of the classes",
    "within": "variation within the bins",
    "score": "reliability - resolution + uncertainty + within",
}


def probability_tables(found: ProbabilityReport) -> Iterator[Table]:
    """Everything on the probabilities of one part of a report."""
    yield metric_table("how good the probabilities are", found.uncalibrated_metrics, found.metrics)
    yield _calibration(found.calibration)
    yield _parts(found.calibration)
    yield _binned(found.calibration)
    yield _in_the_large(found.calibration)
    yield _selective(found.selective)
    yield _code_length(found.code_length)


def metric_table(
    title: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    heads: tuple[str, str] = ("uncalibrated", "served"),
    names: tuple[str, ...] | None = None,
) -> Table:
    """Metrics before and after, with what they mean; an empty cell where the rows do not define one."""
    columns = (
        Column("metric", "name"),
        *(Column(head, "decimal") for head in heads),
        Column("meaning", "prose"),
    )
    chosen = METRICS if names is None else names
    rows = [(name, *(decimal(side.get(name)) for side in (before, after)), METRICS[name].meaning) for name in chosen]
    return Table(title, columns, rows)


def _calibration(check: CalibrationReport) -> Table:
    line = check.line
    unknown = "not determined"
    rows = [
        ("calibration error (15 bins)", check.error),
        ("exact probabilities stay below this in 19 of 20 samples", check.chance),
        ("share of such samples with a larger error (p)", check.p_value),
        ("calibration error without bins (smECE)", check.smooth_error),
        ("slope (1: right, below 1: over-confident)", unknown if line.slope is None else line.slope),
        ("intercept (0: right)", unknown if line.intercept is None else line.intercept),
    ]
    return Table(f"calibration of {check.event}", (Column("", "name"), Column("value", "decimal")), rows)


def _parts(check: CalibrationReport) -> Table:
    heads = (
        Column("part", "name"),
        Column("uncalibrated", "decimal"),
        Column("served", "decimal"),
        Column("meaning", "prose"),
    )
    rows = [
        (name.replace("_", " "), getattr(check.uncalibrated_parts, name), getattr(check.parts, name), meaning)
        for name, meaning in PARTS.items()
    ]
    notes = () if check.of == PREDICTED else ("For two classes the squared error is the Brier score.",)
    return Table(f"parts of the squared error of {check.event}", heads, rows, notes)


def _binned(check: CalibrationReport) -> Table:
    names = {"brier": "squared error", "log_loss": "log loss"}
    heads = (
        Column("part", "name"),
        *(Column(names[loss], "decimal") for loss in check.binned),
        Column("meaning", "prose"),
    )
    rows = [
        (name, *(_finite(getattr(parts, name)) for parts in check.binned.values()), meaning)
        for name, meaning in BINNED.items()
    ]
    return Table("parts of the loss in 15 bins (Murphy)", heads, rows)


def _finite(value: float | None) -> float | str:
    return "infinite" if value is None else value


def _in_the_large(check: CalibrationReport) -> Table:
    heads = (
        Column("class", "name"),
        Column("mean predicted probability", "share"),
        Column("observed frequency", "share"),
        Column("difference, points", "points"),
        Column("95 % noise, ± points", "margin"),
    )
    largest = sorted(check.classes, key=lambda name: -abs(check.classes[name].gap))[:LISTED_CLASSES]
    shown = list(check.classes) if len(check.classes) <= LISTED_CLASSES else largest
    rows = [
        (name, own.mean_predicted_probability, own.observed_frequency, own.gap, own.noise)
        for name, own in ((name, check.classes[name]) for name in shown)
    ]
    left = len(check.classes) - len(shown)
    notes = (f"The {left} classes with smaller differences are left out.",) if left else ()
    return Table("is every class predicted as often as it occurs?", heads, rows, notes)


def _selective(found: SelectiveReport) -> Table:
    heads = (Column("", "name"), Column("answered", "share"), Column("from probability", "decimal"))
    rows = [
        (
            f"error rate below {percent(float(risk))}, with 95 % confidence",
            own.coverage,
            REASONS[own.reason or "no_threshold"] if own.threshold is None else own.threshold,
        )
        for risk, own in (found.at_risk or {}).items()
    ]
    areas = f"Area under the risk-coverage curve {decimal(found.area)}, beyond the best order (E-AURC) "
    notes = [f"{areas}{decimal(found.excess_area)}."]
    if found.at_risk is None:
        reason = REASONS[found.at_risk_reason or "weights"]
        notes.insert(0, f"No error rate is guaranteed ({reason}): a guarantee needs independent rows of equal weight.")
        rows = [("error rate of all rows", 1.0, EMPTY)]
    return Table("answering only the most confident rows", heads, rows, tuple(notes))


def _code_length(found: CodeLength) -> Table:
    heads = (Column("tenth of the rows, in their order", "name"), *(Column(i, "decimal") for i in found.per_label))
    rows = [("bits per label", *(_finite(bits) for bits in found.per_label.values()))]
    total = "infinitely many" if found.bits is None else f"{found.bits:,.1f}"
    note = f"{total} bits in all; {found.prior_bits:,.1f} for a coder that learns the class frequencies alone."
    return Table("code length of the labels", heads, rows, (note,))
