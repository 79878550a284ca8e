"""AUROC, sensitivity, predictive values and confusion matrices as tables.

Tested in tests/reporting/test_agreement.py and tests/reporting/test_terminal.py.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from service.evaluation.policy_report import PolicyReport
from service.evaluation.probability_report import ProbabilityReport
from service.evaluation.rates import ClassRates, Counts, Rate
from service.reporting.tables import Cell, Column, Table

RATES: Final = ("sensitivity", "specificity", "positive predictive value", "negative predictive value")
INTERVAL: Final = "In brackets: 95 % intervals"


def class_tables(found: ProbabilityReport) -> Iterator[Table]:
    """How well each class is discriminated from the others; confusion matrix and rates of the most probable class."""
    yield Table(
        "discrimination",
        (Column("class", "name"), Column("rows", "count"), Column("AUROC", "rate")),
        [(name, own.rows, own.auroc) for name, own in found.classes.items()],
        (f"{INTERVAL} (DeLong). AUROC: how often a row of the class gets more of its probability than another row.",),
    )
    if found.confusion is not None:
        yield _confusion("most probable class by true class", "predicted", found.confusion)
    yield _rates("rates of the most probable class", {name: own.label for name, own in found.classes.items()})


def policy_rate_tables(title: str, found: PolicyReport) -> Iterator[Table]:
    """Actions by true class, and the rates of acting on each class."""
    decided = found.decided
    if decided.confusion is not None:
        yield _confusion(f"{title}: actions by true class", "action", decided.confusion)
    acting = "; ".join(f"{name}: {' or '.join(actions)}" for name, actions in decided.acts_on.items())
    note = f"Acting on a class means taking an action that costs least if the class were certain ({acting})."
    yield _rates(f"{title}: rates of acting on a class", decided.rates, note)


def rate_cells(own: ClassRates) -> tuple[Rate, Rate, Rate, Rate]:
    """The cells under `RATES`."""
    return own.sensitivity, own.specificity, own.positive_predictive_value, own.negative_predictive_value


def _rates(title: str, found: Mapping[str, ClassRates], *notes: str) -> Table:
    heads = (Column("class", "name"), *(Column(name, "rate") for name in RATES))
    rows = [(name, *rate_cells(own)) for name, own in found.items()]
    held = f"{INTERVAL} (Wilson). Predictive values hold at the prevalence of these rows."
    return Table(title, heads, rows, (held, *notes))


def _confusion(title: str, of_rows: str, counts: Counts) -> Table:
    classes = tuple(next(iter(counts.values())))
    heads = (Column(of_rows, "name"), *(Column(name, "weight") for name in classes))
    rows: list[tuple[Cell, ...]] = [(name, *(row[c] for c in classes)) for name, row in counts.items()]
    return Table(title, heads, rows, ("Columns: the true class.",))
