"""What came of answers, as tables. Tested in tests/cli/test_performance_command.py."""

from collections.abc import Iterator
from typing import Final

from service.evaluation.rates import Rate
from service.monitoring.group_performance import Groups
from service.monitoring.part_performance import ClassPerformance, PartPerformance
from service.monitoring.performance import PerformanceReport
from service.monitoring.shadow_performance import ShadowPerformance
from service.monitoring.window import moment_text
from service.reporting.policy_tables import policy_tables
from service.reporting.tables import Cell, Column, Table, write

NAMED: Final = (Column("", "name"), Column("", "prose"))
CALIBRATED: Final = (
    "Right is O/E 1, intercept 0, slope 1. A slope below 1: too sure. In brackets: 95 % intervals, with all rows of a "
    "subject as one draw."
)
LOSS: Final = (
    "Expected is the log loss if the probabilities are right; 19 of 20 such samples lie in the range. "
    "1 nat = 1.44 bits."
)


def performance_tables(report: PerformanceReport) -> Iterator[Table]:
    """Tables of a report, in the order in which they are read.

    Parameters
    ----------
    report : PerformanceReport
    """
    yield _answered(report)
    for name, part in report.parts.items():
        if part is not None:
            yield from _part(f"{name}: " if len(report.parts) > 1 else "", part)
    for name, own in report.known_by_action.items():
        apart = (("rows", f"{own.rows:,}"), *((action, "too few known outcomes") for action in own.without_outcomes))
        yield Table(f"{name}: outcome known only because of the action", NAMED, apart, own.statements)
        if own.weighted is not None:
            yield _classes(f"{name}: all {own.weighted.of:,} answered rows, by weighting", own.weighted.classes)
    if report.groups is not None:
        yield from _groups(report.groups)
    if report.shadows:
        yield _shadows(report.shadows)
    if report.alarms:
        yield _alarms(report)


def _answered(report: PerformanceReport) -> Table:
    found, rate, delay = report.answered, report.flags.rate, report.time_to_outcome.to_arrival
    declared = "" if report.flags.false_alarm is None else f", declared {report.flags.false_alarm:g}"
    rows: list[tuple[Cell, ...]] = [
        ("versions", ", ".join(f"{v} ({report.calibrations[str(v)]})" for v in report.versions) or "none"),
        ("answered", f"{found.rows:,} rows of {found.subjects:,} subjects in {found.requests:,} requests"),
        ("with outcome", f"{found.with_outcome:,}"),
        *((f"  {why}", f"{n:,}") for why, n in found.ascertainment.items()),
        *((f"left out: {why.replace('_', ' ')}", f"{n:,}") for why, n in found.left_out.items()),
        ("contradicting outcomes", f"{found.contradicting_outcomes:,} of {found.contradicted_rows:,} rows"),
        ("flagged", _written(rate) + declared),
        ("days to outcome", f"median {delay['median'] / 86_400:.1f}, p90 {delay['p90'] / 86_400:.1f}" if delay else ""),
    ]
    return Table(report.model, NAMED, rows, report.notes)


def _part(title: str, part: PartPerformance) -> Iterator[Table]:
    loss, calibration = part.log_loss, part.calibration
    heads = (Column("", "name"), *(Column(name, "decimal") for name in ("observed", "expected", "from", "to")))
    rows: list[tuple[Cell, ...]] = [
        ("log loss", loss.observed, loss.expected, loss.low, loss.high),
        ("bits per row", loss.observed_bits, loss.expected_bits, None, None),
        (f"calibration error of {calibration.of}", calibration.error, None, 0.0, calibration.chance),
    ]
    yield Table(f"{title}{part.rows:,} rows with an outcome", heads, rows, (LOSS,))
    yield _classes(f"{title}calibration and discrimination", part.classes)
    yield _diagram(f"{title}reliability of the probability of {calibration.of}", part)
    if part.sets:
        yield _sets(f"{title}label sets", part)
    for policy in part.policies:
        yield from policy_tables(f"{title}policy {policy.policy}", policy.report)


def _classes(title: str, classes: dict[str, ClassPerformance]) -> Table:
    heads = (
        Column("class", "name"),
        Column("observed", "count"),
        Column("expected", "decimal"),
        *(Column(name, "rate") for name in ("O/E", "intercept", "slope", "AUROC")),
    )
    rows: list[tuple[Cell, ...]] = [
        (name, own.observed, own.expected, own.observed_over_expected, own.intercept, own.slope, own.auroc)
        for name, own in classes.items()
    ]
    return Table(title, heads, rows, (CALIBRATED,))


def _diagram(title: str, part: PartPerformance) -> Table:
    found = part.calibration.diagram
    heads = (Column("mean predicted", "decimal"), Column("observed frequency", "decimal"), Column("rows", "count"))
    chance = (Column("from", "decimal"), Column("to", "decimal"))
    columns = found.mean_predicted_probability, found.observed_frequency, found.count, found.low, found.high
    rows: list[tuple[Cell, ...]] = list(zip(*columns, strict=True))
    return Table(title, (*heads, *chance), rows, ("From, to: where 95 % of the frequencies lie if it is right.",))


def _sets(title: str, part: PartPerformance) -> Table:
    heads = (Column("coverage", "name"), Column("covered", "rate"), Column("mean size", "decimal"))
    return Table(title, heads, [(f"{own.coverage:g}", own.covered, own.mean_size) for own in part.sets])


def _groups(groups: Groups) -> Iterator[Table]:
    heads = (Column(groups.by, "name"), Column("rows", "count"), Column("log loss", "decimal"))
    more = (Column("expected", "decimal"), Column("class", "name"), Column("O/E", "rate"), Column("AUROC", "rate"))
    for part in dict.fromkeys(name for own in groups.shown.values() for name in own.parts):
        rows: list[tuple[Cell, ...]] = [
            (name, found.rows, found.log_loss.observed, found.log_loss.expected, k, c.observed_over_expected, c.auroc)
            for name, own in groups.shown.items()
            if (found := own.parts.get(part)) is not None
            for k, c in found.classes.items()
        ]
        yield Table(f"{part} by {groups.by}", (*heads, *more), rows)
    if groups.withheld:
        yield Table(
            f"withheld by {groups.by}", (Column(groups.by, "name"), Column("subjects", "prose")), _pairs(groups)
        )


def _pairs(groups: Groups) -> list[tuple[Cell, ...]]:
    return [(name, why) for name, why in groups.withheld.items()]


def _shadows(shadows: dict[str, list[ShadowPerformance]]) -> Table:
    heads = (Column("shadow", "name"), Column("rows", "count"), Column("of", "name"))
    more = (Column("shadow minus answered", "change"), Column("95 % interval", "interval"))
    rows: list[tuple[Cell, ...]] = []
    for part, several in shadows.items():
        for own in several:
            name = f"version {own.version}, {part}"
            rows.append((name, own.rows, "log loss", own.log_loss, own.log_loss))
            rows += [(name, own.rows, f"cost, {policy}", cost, cost) for policy, cost in own.costs.items()]
    note = "Below 0 the shadow is better. Both are compared on the same rows, with all rows of a subject as one draw."
    return Table("shadows", (*heads, *more), rows, (note,))


def _alarms(report: PerformanceReport) -> Table:
    heads = (Column("alarm", "name"), Column("version", "name"), Column("raised", "name"), Column("", "prose"))
    rows: list[tuple[Cell, ...]] = [
        (own.test, str(own.version), moment_text(own.raised), "acknowledged" if own.acknowledged else "")
        for own in report.alarms
    ]
    return Table("alarms", heads, rows)


def _written(rate: Rate) -> str:
    return write("rate", rate)
