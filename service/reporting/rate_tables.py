"""Sensitivity, predictive values, confusion matrices and AUROC as tables, for a terminal and a page alike."""

from collections.abc import Iterator
from typing import Final

from service.evaluation.rates import ClassRates, Counts, Rate
from service.evaluation.reasons import REASONS
from service.evaluation.report import PolicyReport, Report
from service.reporting.tables import Grid

HEAD: Final = ("sensitivity", "specificity", "positive predictive value", "negative predictive value")
INTERVAL: Final = "In brackets: 95 % intervals"


def class_tables(report: Report) -> Iterator[Grid]:
    """How well each class is told from the others; the label's confusion matrix and rates."""
    rows = [(name, f"{own.rows:,}", rate(own.auroc)) for name, own in report.classes.items()]
    note = f"{INTERVAL} (DeLong). AUROC: how often a row of the class gets more of its probability than another."
    yield Grid("discrimination", ("class", "rows", "AUROC"), rows, note)
    if report.confusion is not None:
        yield _confusion("most probable class, by the true class", "answered", report.confusion)
    labels = {name: own.label for name, own in report.classes.items()}
    yield _rates("where the most probable class is answered", labels)


def policy_rate_tables(name: str, policy: PolicyReport) -> Iterator[Grid]:
    """Actions by the true class, and what acting on each class is worth."""
    decided = policy.decided
    if decided.confusion is not None:
        yield _confusion(f"policy {name}: actions, by the true class", "action", decided.confusion)
    acting = "; ".join(f"{title}: {' or '.join(actions)}" for title, actions in decided.acts_on.items())
    note = f" Acting on a class: taking an action that costs least if the class were certain ({acting})."
    yield _rates(f"policy {name}: acting on a class", decided.rates, note)


def rate(found: Rate) -> str:
    """A share with its interval, or why there is none."""
    if found.value is None:
        return f"– ({REASONS['no_rows']})"  # noqa: RUF001  # an en dash for an empty cell
    if found.low is None or found.high is None:
        return f"{found.value:.3f} (no interval: {REASONS[found.reason or 'one_group']})"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _rates(title: str, found: dict[str, ClassRates], note: str = "") -> Grid:
    rows = [
        (
            name,
            rate(own.sensitivity),
            rate(own.specificity),
            rate(own.positive_predictive_value),
            rate(own.negative_predictive_value),
        )
        for name, own in found.items()
    ]
    held = f"{INTERVAL} (Wilson). Predictive values hold at the prevalence among these rows.{note}"
    return Grid(title, ("class", *HEAD), rows, held)


def _confusion(title: str, of_rows: str, counts: Counts) -> Grid:
    classes = tuple(next(iter(counts.values())))
    rows = [(name, *(f"{row[c]:,.6g}" for c in classes)) for name, row in counts.items()]
    return Grid(title, (of_rows, *classes), rows, "Columns: the true class.")
