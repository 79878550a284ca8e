"""Charts and tables of the report's page, each with its words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.decomposition import corp_decomposition
from service.core.metrics import METRICS
from service.core.miscalibration import equal_width, favourite
from service.core.numerics import Array, log_softmax
from service.core.operating import cost_across_prevalence, decision_curve, prevalence_line
from service.core.pipeline import Policy, Posterior, act
from service.core.recalibration import calibration_in_the_large
from service.core.reliability import reliability_curve
from service.core.utility import Difference, cost_calibration, dominated_actions
from service.evaluation import charts, verdicts
from service.evaluation.dataset import Dataset
from service.evaluation.render import MEANINGS
from service.evaluation.report import Report
from service.evaluation.verdicts import Event, Strategies, money, percent, short
from service.runtime.model import Model

LISTED_CLASSES = 12
CHART_BINS = 10  # of the diagram: fewer than the calibration error's, so that most hold enough rows to see anything
GRID: Final = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: what it shows, how to read it, what it looks like to those who cannot see it."""

    title: str
    caption: str
    alt: str
    svg: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first is a name, the others are numbers unless ``prose`` says that the last is text."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Everything the page speaks of."""

    model: Model
    data: Dataset
    posterior: Posterior
    elsewhere: Posterior | None
    report: Report
    event: Event
    costs: dict[str, Strategies]

    @property
    def binary(self) -> bool:
        """Whether there is a positive class."""
        return len(self.model.classes) == 2


def probability_charts(case: Case) -> list[Chart]:
    """Reliability diagram and risk-coverage curve."""
    p, happened = case.event.probabilities, case.event.happened
    bins = equal_width(p, bins=CHART_BINS)
    curve = reliability_curve(p, happened, index=bins, draws=verdicts.draws_for(len(p)))
    outside = int(((curve.observed < curve.low) | (curve.observed > curve.high)).sum())
    confidence, right = favourite(case.posterior.log_probs, case.data.labels)
    diagram = Chart(
        title="Does what is said happen?",
        caption=f"Rows are gathered by {case.event.name}, in {CHART_BINS} bins. A dot on the dashed line means: of the "
        "rows told 30 %, 30 % were so. The light bars show where 95 % of the dots would fall if the probabilities were "
        "exactly right; a dot outside its bar is a gap that chance hardly explains. Below: rows per bin.",
        alt=f"Reliability diagram of {case.event.name}: {outside} of {len(curve.count)} bins lie outside the band "
        "that chance alone allows.",
        svg=charts.reliability(curve),
    )
    selective = Chart(
        title="Does confidence tell right from wrong?",
        caption="Leave the least confident rows to somebody else: the solid line is the error rate among the rest. The "
        "lower it runs under the dashed line, the better confidence finds the errors; the dotted line is as good "
        "as any order could be.",
        alt=f"Risk-coverage curve: {percent(1.0 - float(right.mean()))} of all rows are wrong; area under the curve "
        f"{short(case.report.metrics['aurc_loss'])}.",
        svg=charts.selective(confidence, ~right),
    )
    return [diagram, selective]


def probability_tables(case: Case) -> Iterator[Table]:
    """Metrics, decomposition, calibration in the large."""
    report = case.report
    rows = [
        (name, money(report.uncalibrated_metrics.get(name)), money(report.metrics.get(name)), MEANINGS.get(name, ""))
        for name in METRICS
    ]
    yield Table("How good the probabilities are", ("metric", "uncalibrated", "served", "meaning"), rows, prose=True)
    yield _decomposition(case)
    yield _large(case)


def _decomposition(case: Case) -> Table:
    raw = verdicts.event_of(log_softmax(case.posterior.logits), case.data.labels, case.model.classes)
    before, after = (corp_decomposition(e.probabilities, e.happened) for e in (raw, case.event))
    rows = [
        ("miscalibration", money(before.miscalibration), money(after.miscalibration), "what recalibration could save"),
        ("discrimination", money(before.discrimination), money(after.discrimination), "what telling rows apart saves"),
        ("uncertainty", money(before.uncertainty), money(after.uncertainty), "what the base rate alone would cost"),
        ("squared error", money(before.score), money(after.score), "miscalibration - discrimination + uncertainty"),
    ]
    title = f"Where the squared error of {case.event.name} comes from"
    return Table(title, ("part", "uncalibrated", "served", "meaning"), rows, prose=True)


def _large(case: Case) -> Table:
    large = calibration_in_the_large(case.posterior.log_probs, case.data.labels)
    gap = large.predicted - large.observed
    order = np.argsort(-np.abs(gap), kind="stable")[:LISTED_CLASSES]
    shown = np.sort(order) if len(gap) <= LISTED_CLASSES else order
    rows = [
        (
            case.model.classes[k],
            percent(float(large.predicted[k])),
            percent(float(large.observed[k])),
            f"{100 * gap[k]:+.2f}",
            f"{100 * verdicts.NORMAL * large.standard_error[k]:.2f}",
        )
        for k in shown
    ]
    left = len(gap) - len(shown)
    note = f"The {left} classes with smaller differences are left out." if left else ""
    head = ("class", "predicted on average", "observed", "difference, points", "95 % noise, ± points")
    return Table("Is every class predicted as often as it occurs?", head, rows, note)


def score_charts(case: Case) -> Iterator[Chart]:
    """A histogram per OOD score."""
    for i, (name, found) in enumerate(case.report.scores.items()):
        here = case.posterior.scores[:, i]
        there = None if case.elsewhere is None else case.elsewhere.scores[:, i]
        rates = f"{percent(found.flag_rate)} of the labelled rows lie above the threshold"
        if there is not None:
            rates += f", {percent(found.ood_flag_rate)} of those from elsewhere"
        if found.class_thresholds is not None:
            rates += "; every predicted class has a threshold of its own, and the line is that of all rows"
        if found.threshold is None:
            rates = "Uncalibrated: there is no threshold"
        yield Chart(
            title=f"Which rows look foreign to “{name}”?",
            caption=f"The further right, the stranger the row. {rates}."
            + (" The less the two shapes overlap, the better the score tells them apart." if there is not None else ""),
            alt=f"Histogram of score {name}, threshold {short(found.threshold)}. {rates}.",
            svg=charts.scores(here, there, found.threshold),
        )


def score_table(case: Case) -> Table:
    """Thresholds and rates of every score, of the range rule and of the gate."""
    report = case.report
    rows = [
        (n, short(s.threshold), percent(s.flag_rate), percent(s.ood_flag_rate), short(s.auroc))
        for n, s in report.scores.items()
    ]
    rows.append(("range (rule)", "", percent(report.range_rate), "", ""))
    rows.append(("the gate", "", percent(report.flag_rate), percent(report.ood_flag_rate), ""))
    head = ("score", "threshold", "labelled rows flagged", "rows from elsewhere flagged", "AUROC")
    gate = ", ".join(case.model.manifest.ood.gate_members)
    note = f"The gate is what flags a row: {gate}. AUROC: how often a row from elsewhere scores above a labelled one."
    return Table("What is flagged", head, rows, note)


def decision_charts(case: Case) -> list[Chart]:
    """Decision curve, and cost against prevalence for every policy; only a binary has them."""
    if not case.binary:
        return []
    positive = case.model.classes[1]
    curve = decision_curve(case.event.probabilities, case.event.happened, GRID)
    gain = Chart(
        title=f"At which thresholds is acting on “{positive}” worth it?",
        caption="A threshold says how sure one must be before acting: at 10 %, a missed case weighs as much as nine "
        f"false alarms. Net benefit counts true cases of “{positive}” found, less false alarms at that rate. The model "
        "is worth using where its line is above both others.",
        alt=f"Decision curve: the model's net benefit is highest at {_best_share(curve.model, curve.treat_all)} of the "
        "thresholds from 1 % to 99 %.",
        svg=charts.net_benefit(curve),
    )
    both = len(np.unique(case.data.labels)) == 2
    return [gain, *(_cost_chart(case, policy) for policy in case.model.policies.values() if both)]


def _best_share(model: Array, treat_all: Array) -> str:
    return percent(float(np.mean(model > np.maximum(treat_all, 0.0))))


def _cost_chart(case: Case, policy: Policy) -> Chart:
    source, labels = case.model.source, case.data.labels
    mixes = prevalence_line(np.array([0.5, 0.5]), 1, GRID)
    taken = cost_across_prevalence(case.costs[policy.name].decisions.action, policy.cost, labels, mixes)
    told = None if source is None else _told(case, policy, mixes, source)
    positive, here = case.model.classes[1], float(np.mean(labels == 1))
    tail = " The dotted line is what the policy would cost if the model were told each share first." * (
        told is not None
    )
    return Chart(
        title=f"What does policy “{policy.name}” cost where “{positive}” is rarer or more frequent?",
        caption="Expected cost per row, read from the rows of each class. The policy earns its place where its line "
        f"lies below the dashed one.{tail}",
        alt=f"Expected cost against the share of {positive}; among these rows it is {percent(here)}.",
        svg=charts.cost_lines(GRID, taken=taken, told=told, constant=(mixes @ policy.cost.T).min(axis=1), here=here),
    )


def _told(case: Case, policy: Policy, mixes: Array, source: Array) -> Array:
    decisions = (act(case.posterior, policy, source=source, target=mix)[1] for mix in mixes)
    pairs = zip(decisions, mixes, strict=True)
    return np.array([cost_across_prevalence(d.action, policy.cost, case.data.labels, mix[None])[0] for d, mix in pairs])


def policy_tables(case: Case, policy: Policy) -> Iterator[Table]:
    """What a policy cost against other ways to act, and action by action."""
    found, costs = case.report.policies[policy.name], case.costs[policy.name]
    always = f"always “{found.constant_action}”, the best single action"
    rows = [
        ("as decided", money(found.expected_cost), money(found.realised_cost), "", ""),
        ("cheapest action of the most probable class", "", money(found.label_cost), *_more(costs.against_label)),
        (always, "", money(found.constant_cost), *_more(costs.against_constant)),
    ]
    note = (
        f"Rows that a flag took from another action: {found.overruled:,}. The interval is a bootstrap over these rows: "
        "a costly case that never occurred among them does not widen it."
    )
    head = ("strategy", "promised", "paid", "more than as decided", "95 % interval")
    yield Table(f"Policy “{policy.name}”: cost per row", head, rows, note)
    yield _action_table(case, policy)


def _more(policy: Difference) -> tuple[str, str]:
    """The other strategy's excess, from the policy's."""
    return f"{-policy.mean:+.4f}", f"{-policy.high:+.4f} to {-policy.low:+.4f}"


def _action_table(case: Case, policy: Policy) -> Table:
    costs, names = case.costs[policy.name], policy.actions
    taken = costs.decisions.action
    found = cost_calibration(costs.decisions.risks, taken, policy.cost, case.data.labels)
    rows = [
        (
            name,
            f"{found.count[a]:,}",
            money(found.expected[a]),
            money(found.realised[a]),
            money(costs.noise(taken == a)),
        )
        for a, name in enumerate(names)
    ]
    worse = [
        f"“{names[a]}” never costs less than “{names[b]}”: "
        + ("only a flag chooses it." if a == policy.on_ood else "nothing speaks for it.")
        for a, b in dominated_actions(policy.cost)
    ]
    note = " ".join(["The last column is what chance allows if the probabilities are right.", *worse])
    head = ("action", "rows", "promised per row", "paid per row", "95 % noise, ±")
    return Table(f"Policy “{policy.name}”: does each action cost what was promised?", head, rows, note)
