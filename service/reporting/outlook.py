"""What decisions are worth elsewhere: charts and tables across thresholds, prevalences and horizons."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from service.core.assessment.operating import cost_across_prevalence, decision_curve, prevalence_line
from service.core.decision import decide, risk_of
from service.core.numerics import Array
from service.core.pipeline import Policy, act
from service.evaluation.checks import PolicyCheck
from service.evaluation.horizon import Horizon
from service.evaluation.reasons import REASONS
from service.evaluation.verdicts import money, percent, short
from service.reporting import charts
from service.reporting.exhibits import CHARTED_CLASSES, Case, Chart
from service.reporting.tables import Grid as Table

GAIN: Final = (
    "A threshold says how sure one must be before acting: at 10 %, a missed case weighs as much as nine false alarms. "
    "Net benefit counts true cases of “{name}” found, less false alarms at that rate. The model is worth using where "
    "its line is above both others."
)
GRID: Final = np.linspace(0.01, 0.99, 99)


def decision_charts(case: Case) -> Iterator[Chart]:
    """For the second class of two, or each of the most frequent of many: decision curve, cost against its share."""
    counts = np.bincount(case.data.labels, minlength=len(case.model.classes))
    frequent = np.sort(np.argsort(-counts, kind="stable")[:CHARTED_CLASSES])
    chosen = [1] if len(counts) == 2 else [int(k) for k in frequent]
    yield from (_gain_chart(case, k, first=k == chosen[0]) for k in chosen)
    parted = [k for k in chosen if 0 < counts[k] < counts.sum()]
    yield from (_cost_chart(case, policy, k) for policy in case.model.policies.values() for k in parted)


def decision_tables(case: Case) -> Iterator[Table]:
    """What every policy cost, and what errors come to over a horizon."""
    for policy in case.model.policies.values():
        yield from policy_tables(case, policy)
    if case.found.horizon is not None:
        yield _horizon_table(case.found.horizon)


def _gain_chart(case: Case, k: int, *, first: bool) -> Chart:
    name, said, happened = case.model.classes[k], np.exp(case.posterior.log_probs[:, k]), case.data.labels == k
    curve = decision_curve(said, happened, GRID, weights=case.data.weights)
    return Chart(
        title=f"At which thresholds is acting on “{name}” worth it?",
        caption=GAIN.format(name=name) if first else f"The same for “{name}” against all other classes.",
        alt=f"Decision curve: net benefit of acting on {name} as the model says, on everybody and on nobody, at "
        "thresholds from 1 % to 99 %.",
        svg=charts.net_benefit(curve),
    )


def _cost_chart(case: Case, policy: Policy, k: int) -> Chart:
    source, data = case.model.source, case.data
    shares = np.bincount(data.labels, data.weights, minlength=len(case.model.classes))
    mixes = prevalence_line(shares / shares.sum(), k, GRID)
    decided = decide(case.posterior.log_probs, policy.cost, on_ood=policy.on_ood, flagged=case.posterior.flagged)
    taken = cost_across_prevalence(decided.action, policy.cost, data.labels, mixes, weights=data.weights)
    told = None if source is None or not mixes.all() else _told(case, policy, mixes, source)
    name, here = case.model.classes[k], float(shares[k] / shares.sum())
    tail = " The dotted line is what the policy would cost if the model were told each share first." * (
        told is not None
    )
    others = " The other classes keep their proportions." * (len(shares) > 2)
    return Chart(
        title=f"What does policy “{policy.name}” cost where “{name}” is rarer or more frequent?",
        caption=f"Expected cost per row, read from the rows of each class.{others} The policy earns its place where "
        f"its line lies below the dashed one.{tail}",
        alt=f"Expected cost against the share of {name}; among these rows it is "
        f"{percent(case.check.mean_happened[name])}.",
        svg=charts.cost_lines(
            GRID, taken=taken, told=told, constant=risk_of(mixes, policy.cost).min(axis=1), here=here
        ),
    )


def _told(case: Case, policy: Policy, mixes: Array, source: Array) -> Array:
    labels, weights = case.data.labels, case.data.weights
    decisions = (act(case.posterior, policy, source=source, target=mix)[1] for mix in mixes)
    pairs = zip(decisions, mixes, strict=True)
    paid = (cost_across_prevalence(d.action, policy.cost, labels, mix[None], weights=weights)[0] for d, mix in pairs)
    return np.array(list(paid))


def _horizon_table(found: Horizon) -> Table:
    rows = [
        ("error rate per step", percent(found.error), percent(found.error_high)),
        ("error rate that the log loss leaves room for", percent(found.error_room), ""),
        ("expected steps off course", short(found.off_course), short(found.off_course_high)),
        ("largest excess cost of imitation, never recovering", "", short(found.bound)),
    ]
    note = (
        f"An error puts a trajectory off course, and every later step finds back with probability {found.recovery:g}. "
        "The error rate is that of these rows, which must be steps on the expert's own course. The last line holds for "
        "any costs from 0 to 1 per step."
    )
    head = ("", "measured", "upper 95 % limit")
    return Table(f"What do errors come to over {found.steps:,} steps?", head, rows, note)


def policy_tables(case: Case, policy: Policy) -> Iterator[Table]:
    """What a policy cost against other ways to act, and action by action."""
    found, check = case.report.policies[policy.name], case.found.diagnostics.policies[policy.name]
    always = f"always “{found.constant_action}”, the best single action"
    label = (check.saved, check.saved_low, check.saved_high)
    constant = (check.saved_of_constant, check.saved_of_constant_low, check.saved_of_constant_high)
    rows = [
        ("as decided", money(found.expected_cost), money(found.realised_cost), "", ""),
        (
            "cheapest action of the most probable class",
            "",
            money(found.label_cost),
            *_more(*label, check.interval_reason),
        ),
        (always, "", money(found.constant_cost), *_more(*constant, check.interval_reason)),
    ]
    note = (
        f"Rows that a flag took from another action: {found.overruled:,}. The interval allows for costly cases that "
        "were possible and did not occur."
    )
    head = ("strategy", "promised", "paid", "more than as decided", "95 % interval")
    yield Table(f"Policy “{policy.name}”: cost per row", head, rows, note)
    yield _action_table(policy.name, check)


def _more(mean: float, low: float | None, high: float | None, reason: str | None) -> tuple[str, str]:
    """How much more another strategy costs than the policy."""
    if low is None or high is None:
        return f"{mean:+.4f}", f"none: {REASONS[reason or 'one_group']}"
    return f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}"


def _action_table(name: str, check: PolicyCheck) -> Table:
    rows = [
        (action, f"{held.taken:,}", money(held.promised), money(held.paid), money(held.noise))
        for action, held in check.actions.items()
    ]
    worse = [
        f"“{dominated}” never costs less than “{by}”: "
        + ("only a flag chooses it." if dominated == check.on_ood else "nothing speaks for it.")
        for dominated, by in check.dominated.items()
    ]
    note = " ".join(["The last column is what chance allows if the probabilities are right.", *worse])
    head = ("action", "rows", "promised per row", "paid per row", "95 % noise, ±")
    return Table(f"Policy “{name}”: does each action cost what was promised?", head, rows, note)
