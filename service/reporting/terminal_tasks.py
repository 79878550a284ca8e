"""Reports on labels and on sequences as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from service.bundle.tasks import PRESENT
from service.evaluation.checks import Diagnostics, Verdict
from service.evaluation.flags import Trust
from service.evaluation.multilabel import LabelsReport
from service.evaluation.report import PolicyReport, Report
from service.evaluation.sequence import PathReport, SequencesReport, Structure
from service.reporting.rate_tables import class_tables, policy_rate_tables, rate
from service.reporting.tables import add_row, drawn, metric_table, new_table, number
from service.reporting.terminal import MEANINGS, render_diagnostics, render_verdicts


def render_labels(
    report: LabelsReport, checks: Mapping[str, Diagnostics], verdicts: Mapping[str, Sequence[Verdict]]
) -> Iterator[RenderableType]:
    """Every label in a line, then what is said of whole rows, then costs."""
    yield Text(f"{report.rows} rows, {len(report.labels)} labels")
    metrics = metric_table("means over labels", "uncalibrated", "served")
    for name, value in report.metrics.items():
        add_row(metrics, name, f"{report.uncalibrated_metrics[name]:.4f}", f"{value:.4f}", MEANINGS.get(name, ""))
    yield metrics
    table = new_table("label", "present", "log loss before", "served", "AUROC", "calibration error", "chance (95 %)")
    for name, own in report.labels.items():
        check, auroc = checks[name].calibration, own.metrics.get("auroc_score")
        losses = (own.uncalibrated_metrics["log_loss"], own.metrics["log_loss"])
        cells = (*(f"{loss:.4f}" for loss in losses), number(auroc), f"{check.error:.4f}", f"{check.chance:.4f}")
        add_row(table, name, str(own.class_counts["present"]), *cells)
    yield table
    yield _found(report)
    for name, own_verdicts in verdicts.items():
        cautions = (verdict for verdict in own_verdicts if verdict.mood == "caution")
        yield from (Text(f"caution, label {name}: {verdict.title}. {verdict.text}") for verdict in cautions)
    exact = report.exact
    yield Text(
        f"whole set right: {exact.observed:.4f}; the product of probabilities claims {exact.product:.4f}"
        + (", and is wrong beyond chance" if exact.product_is_wrong else "")
    )
    yield from _trust(report.trust)
    for label, own in report.labels.items():
        yield from _costs(own, label)


def _found(report: LabelsReport) -> RenderableType:
    """What each label's likelier state is worth."""
    head = ("AUROC", "sensitivity", "specificity", "positive predictive value", "negative predictive value")
    table = new_table("label, where more likely than not", *head)
    for name, own in report.labels.items():
        state = own.classes[PRESENT]
        shares = (state.label.sensitivity, state.label.specificity)
        values = (state.label.positive_predictive_value, state.label.negative_predictive_value)
        add_row(table, name, *map(rate, (state.auroc, *shares, *values)))
    return table


def render_sequences(
    report: SequencesReport, checks: Diagnostics, verdicts: Sequence[Verdict]
) -> Iterator[RenderableType]:
    """Positions as rows, the structure they make, then what is said of whole sequences, then costs."""
    positions = report.positions
    yield render_verdicts(verdicts)
    counts = ", ".join(f"{count} {name}" for name, count in positions.class_counts.items())
    yield Text(f"{report.sequences} sequences, {positions.rows} positions: {counts}; smoother: {report.smoother}")
    metrics = metric_table("positions", "uncalibrated", "served")
    for name, value in positions.metrics.items():
        add_row(metrics, name, f"{positions.uncalibrated_metrics[name]:.4f}", f"{value:.4f}", MEANINGS.get(name, ""))
    yield metrics
    yield Text(f"log loss of positions answered one by one: {report.unsmoothed_log_loss:.4f}")
    yield from map(drawn, class_tables(positions))
    table = new_table("segments", "said", "true")
    for name, said, true in _structure(report.said, report.true):
        add_row(table, name, said, true)
    yield table
    yield from _trust(report.trust)
    yield from _costs(positions, None)
    for name, path in report.paths.items():
        yield from _path(name, path)
    yield render_diagnostics(checks)


def _structure(said: Structure, true: Structure) -> Iterator[tuple[str, str, str]]:
    yield "how many", str(said.segments), str(true.segments)
    yield "mean length", f"{said.mean_length:.2f}", f"{true.mean_length:.2f}"
    yield "mean divergence of neighbours (JSD)", number(said.adjacent_jsd), ""
    for length in sorted({*said.lengths, *true.lengths}, key=lambda name: (len(name), name)):
        yield f"of length {length}", str(said.lengths.get(length, 0)), str(true.lengths.get(length, 0))


def _trust(trust: Trust) -> Iterator[RenderableType]:
    table = new_table("out of distribution", "threshold", "flagged here", "flagged elsewhere", "AUROC")
    for name, score in trust.scores.items():
        add_row(table, name, *map(number, (score.threshold, score.flag_rate, score.ood_flag_rate, score.auroc)))
    add_row(table, "range (rule)", "", number(trust.range_rate))
    add_row(table, "the gate", "", number(trust.flag_rate), number(trust.ood_flag_rate))
    yield table
    rows = f"{trust.ood_rows} rows of --ood-data" if trust.ood_rows else "no --ood-data was given"
    yield Text(f"elsewhere: {rows}")


def _costs(report: Report, label: str | None) -> Iterator[RenderableType]:
    for name, policy in report.policies.items():
        title = f"policy {name}" if label is None else f"policy {name}, label {label}"
        yield from _policy(title, policy)


def _policy(title: str, policy: PolicyReport) -> Iterator[RenderableType]:
    table = new_table(f"{title}: mean cost", "expected", "realised")
    add_row(table, "as decided", f"{policy.expected_cost:.4f}", f"{policy.realised_cost:.4f}")
    add_row(table, "cheapest action of the most probable", "", f"{policy.label_cost:.4f}")
    add_row(table, f"always {policy.constant_action}, the best single action", "", f"{policy.constant_cost:.4f}")
    yield table
    taken = ", ".join(f"{action} {count}" for action, count in policy.actions.items())
    yield Text(f"taken: {taken}; overruled by a flag: {policy.overruled}")
    yield from map(drawn, policy_rate_tables(title.removeprefix("policy "), policy))


def _path(name: str, path: PathReport) -> Iterator[RenderableType]:
    table = new_table(f"policy {name}: cost per sequence, changes included", "expected", "realised")
    add_row(table, "along the cheapest path", f"{path.expected_cost:.4f}", f"{path.realised_cost:.4f}")
    add_row(table, "every position decided alone", "", f"{path.separate_cost:.4f}")
    yield table
    yield Text(f"changes of the action per sequence: {path.switches:.2f}")
