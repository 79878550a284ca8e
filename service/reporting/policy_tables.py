"""Costs as tables: of a policy against other strategies, of its actions, of paths, of errors over a horizon.

Tested in tests/reporting/test_agreement.py and tests/reporting/test_terminal.py.
"""

from collections.abc import Iterator

from service.evaluation.horizon import Horizon
from service.evaluation.number_format import decimal, percent, rounded
from service.evaluation.policy_report import PolicyReport
from service.evaluation.reasons import interval
from service.evaluation.sequence import PathReport
from service.reporting.tables import Cell, Column, Table


def policy_tables(title: str, found: PolicyReport) -> Iterator[Table]:
    """What a policy cost against other strategies, and action by action.

    Parameters
    ----------
    title : str
        What the policy is called.
    found : PolicyReport
    """
    yield _strategies(title, found)
    yield _actions(title, found)


def path_table(name: str, found: PathReport) -> Table:
    """What a policy cost per sequence, changes of the action included."""
    heads = (Column("decisions", "name"), Column("expected", "decimal"), Column("realised", "decimal"))
    rows = [
        ("along the cheapest path", found.expected_cost, found.realised_cost),
        ("every position on its own", None, found.separate_cost),
    ]
    note = f"Changes of the action per sequence: {found.switches:.2f}."
    return Table(f"policy {name}: cost per sequence, changes included", heads, rows, (note,))


def horizon_table(found: Horizon) -> Table:
    """The error rate, compounded over a trajectory."""
    heads = (Column("", "name"), Column("measured", "number"), Column("upper 95 % limit", "number"))
    rows = [
        ("error rate per step", percent(found.error), percent(found.error_high)),
        ("largest error rate at this log loss", percent(found.error_room), ""),
        ("expected steps off course", rounded(found.off_course), rounded(found.off_course_high)),
        ("largest excess cost of imitation, without recovery", "", rounded(found.bound)),
    ]
    note = (
        "An error puts a trajectory off course, and every later step recovers with the stated probability. The error "
        "rate is that of these rows, which must be steps on the expert's own course. The last line holds for any costs "
        "from 0 to 1 per step."
    )
    return Table(f"{found.steps:,} steps, recovery {found.recovery:g} per step", heads, rows, (note,))


def _strategies(title: str, found: PolicyReport) -> Table:
    heads = (
        Column("strategy", "name"),
        Column("expected", "decimal"),
        Column("realised", "decimal"),
        Column("more than as decided", "change"),
        Column("95 % interval", "interval"),
    )
    always = f"always {found.constant_action}, the best single action"
    rows: list[tuple[Cell, ...]] = [
        ("as decided", found.expected_cost, found.realised_cost, None, None),
        ("cheapest action of the most probable class", None, found.label_cost, found.saved, found.saved),
        (always, None, found.constant_cost, found.saved_of_constant, found.saved_of_constant),
    ]
    return Table(f"{title}: cost per row", heads, rows, tuple(_notes(found)))


def _notes(found: PolicyReport) -> Iterator[str]:
    excess = found.excess
    around = interval(excess.low, excess.high, excess.reason)
    yield (
        f"Realised minus expected cost: {decimal(excess.mean)} per row ({around}); if the probabilities are right, "
        f"chance moves it by up to {decimal(found.noise)} either way."
    )
    saved = (
        ""
        if found.savings is None
        else f" Share of the best single action's cost that was saved: {percent(found.savings)}."
    )
    yield f"Realised cost beyond that of always knowing the class: {decimal(found.regret)} per row.{saved}"
    yield (
        f"Rows where a flag replaced another action: {found.overruled:,}. Intervals allow for costly cases that were "
        "possible and did not occur."
    )


def _actions(title: str, found: PolicyReport) -> Table:
    heads = (
        Column("action", "name"),
        Column("rows", "count"),
        Column("expected cost", "decimal"),
        Column("realised cost", "decimal"),
        Column("95 % noise, ±", "decimal"),
    )
    rows: list[tuple[Cell, ...]] = [
        (name, own.taken, *map(decimal, (own.expected_cost, own.realised_cost, own.noise)))
        for name, own in found.actions.items()
    ]
    worse = (
        f"{name} is never taken for its costs: {better} costs no more in any class"
        + ("; only a flag chooses it." if name == found.on_ood else ".")
        for name, better in found.dominated.items()
    )
    note = "Costs are per row. The last column is what chance allows if the probabilities are right."
    return Table(f"{title}: expected and realised cost of each action", heads, rows, (note, *worse))
