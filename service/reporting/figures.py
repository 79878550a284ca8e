"""The figures of the page, each with its words. They draw curves of the rows that no report holds.

Tested in tests/reporting/test_page.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.coding import code_lengths
from service.core.assessment.miscalibration import favourite
from service.core.assessment.operating import cost_across_prevalence, decision_curve, prevalence_line
from service.core.decision import risk_of
from service.core.intervals import mean_interval
from service.core.numerics import Array
from service.core.pipeline import at_prevalence, choose
from service.evaluation.calibration_report import DIAGRAM_BINS
from service.evaluation.classification_problem import ClassificationProblem
from service.evaluation.evaluate import Evaluation
from service.evaluation.number_format import percent, rounded
from service.evaluation.ood_report import ScoreReport
from service.evaluation.report import PartReport
from service.reporting import charts
from service.reporting.tables import rate

CODED_ROWS = 20  # two in every tenth, to see any spread
CHARTED_CLASSES = 4
GRID: Final = np.linspace(0.01, 0.99, 99)
GAIN: Final = (
    "At a threshold of 10 % a missed case weighs as much as nine false alarms. Net benefit counts the true cases of "
    "“{name}” that are found, less the false alarms at that rate. The model is worth using where its line is above "
    "both others."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What it shows, how to read it, what it looks like to those who cannot see it, and the drawing."""

    title: str
    caption: str
    alt: str
    svg: str


@dataclass(frozen=True, slots=True)
class Charted:
    """A part of a report beside the problem that it was made of."""

    evaluation: Evaluation
    problem: ClassificationProblem
    part: PartReport


def roc_curves(case: Charted) -> Iterator[Figure]:
    """Of the second class of two, or of each of the most frequent."""
    reports = case.part.probabilities.classes
    names = list(reports)[1:] if len(case.problem.classes) == 2 else sorted(reports, key=lambda n: -reports[n].rows)
    for name in names[:CHARTED_CLASSES]:
        found = reports[name]
        if found.roc is not None:
            yield Figure(
                title=f"How well is “{name}” discriminated from the rest?",
                caption="The ROC curve: sensitivity against the share of other rows predicted so, as the threshold on "
                f"the probability of “{name}” falls. The dashed line is chance. AUROC {rate(found.auroc)}.",
                alt=f"ROC curve of {name}: area {rate(found.auroc)}.",
                svg=charts.roc(found.roc),
            )


def probability_figures(case: Charted) -> Iterator[Figure]:
    """Reliability diagram, risk-coverage curve, and the code length along the rows."""
    yield _reliability(case)
    yield _risk_coverage(case)
    yield from _code_length(case)


def score_figures(evaluation: Evaluation) -> Iterator[Figure]:
    """A histogram per OOD score."""
    posterior, ood = evaluation.labelled.answer.posterior, evaluation.labelled.ood_posterior
    for i, (name, found) in enumerate(evaluation.report.ood.scores.items()):
        rates = _score_rates(found, with_ood=ood is not None)
        overlap = " The less the two shapes overlap, the better the score separates them." if ood is not None else ""
        yield Figure(
            title=f"Distribution of the score “{name}”",
            caption=f"The further right, the less a row is like the training data. {rates}.{overlap}",
            alt=f"Histogram of score {name}, threshold {rounded(found.threshold)}. {rates}.",
            svg=charts.scores(posterior.scores[:, i], None if ood is None else ood.scores[:, i], found.threshold),
        )


def decision_figures(case: Charted) -> Iterator[Figure]:
    """For the second class of two, or each of the most frequent of many: decision curve, cost against its share."""
    counts = np.array(list(case.part.class_counts.values()))
    frequent = np.sort(np.argsort(-counts, kind="stable")[:CHARTED_CLASSES])
    chosen = [1] if len(counts) == 2 else [int(k) for k in frequent]
    yield from (_decision_curve(case, k, first=k == chosen[0]) for k in chosen)
    both = [k for k in chosen if 0 < counts[k] < counts.sum()]
    yield from (_cost_curve(case, policy, k) for policy in case.problem.policies for k in both)


def _reliability(case: Charted) -> Figure:
    check = case.part.probabilities.calibration
    return Figure(
        title="Are probabilities the observed frequencies?",
        caption=f"Rows are grouped by {check.event}, in {DIAGRAM_BINS} bins. A dot on the dashed line means: of rows "
        "with a probability of 30 %, 30 % are so. The light bars show where 95 % of the dots would lie if the "
        "probabilities were exact; a dot outside its bar is a gap that chance hardly explains. Below: rows per bin.",
        alt=f"Reliability diagram of {check.event}: {check.diagram.beyond_chance} of {len(check.diagram.count)} bins "
        "lie outside the band that chance alone allows.",
        svg=charts.reliability(check.diagram),
    )


def _risk_coverage(case: Charted) -> Figure:
    confidence, right = favourite(case.problem.log_probs, case.problem.labels)
    found = case.part.probabilities.selective
    counted = " Every row counts once here, whatever its weight." * (case.problem.sample.weights is not None)
    return Figure(
        title="Does confidence separate right from wrong?",
        caption="Leave the least confident rows unanswered: the solid line is the error rate among the rest. The lower "
        "it runs under the dashed line, the better confidence finds the errors; the dotted line is the best possible "
        f"order.{counted}",
        alt=f"Risk-coverage curve: {percent(found.error)} of all rows are wrong; area under the curve "
        f"{rounded(found.area)}.",
        svg=charts.selective(confidence, ~right),
    )


def _code_length(case: Charted) -> Iterator[Figure]:
    found, rows = case.part.probabilities.code_length, case.part.rows
    bits = [own for own in found.per_label.values() if own is not None]
    if rows < CODED_ROWS or found.bits is None or len(bits) < len(found.per_label):
        return
    overall, prior = found.bits / rows, found.prior_bits / rows
    yield Figure(
        title="Do the predictions get worse along the rows?",
        caption="Bits per label (log loss to base 2), in consecutive tenths of the rows as they lie in the file, each "
        "with a 95 % interval that allows for rare losses not seen; a bar may go on above the picture. In order of "
        "time, a rise means drift; rows in random order show none. Under the dashed line the model knows more than "
        "the class frequencies.",
        alt=f"Bits per label in {len(bits)} consecutive parts of the rows: from {rounded(bits[0])} in the first to "
        f"{rounded(bits[-1])} in the last.",
        svg=charts.code_length(np.array(bits), _code_intervals(case, len(bits)), overall=overall, prior=prior),
    )


def _code_intervals(case: Charted, parts: int) -> Array:
    """Ends of the interval of every part's mean, shape (2, P)."""
    log_probs, groups = case.problem.log_probs, case.problem.sample.groups
    lengths, bits = code_lengths(log_probs, case.problem.labels), log_probs / -math.log(2.0)
    rows = np.array_split(np.arange(len(lengths)), parts)
    return np.array(
        [
            mean_interval(
                lengths[own],
                least=bits[own].min(axis=1),
                most=bits[own].max(axis=1),
                groups=None if groups is None else groups[own],
            )
            for own in rows
        ]
    ).T


def _score_rates(found: ScoreReport, *, with_ood: bool) -> str:
    if found.threshold is None:
        return "Uncalibrated: there is no threshold"
    rates = f"{percent(found.flag_rate)} of the labelled rows lie above the threshold"
    if with_ood:
        rates += f", {percent(found.ood_flag_rate)} of the OOD data"
    if found.class_thresholds is not None:
        rates += "; every predicted class has a threshold of its own, and the line is that of all rows"
    return rates


def _decision_curve(case: Charted, k: int, *, first: bool) -> Figure:
    name, p, occurred = case.problem.classes[k], np.exp(case.problem.log_probs[:, k]), case.problem.labels == k
    curve = decision_curve(p, occurred, GRID, weights=case.problem.sample.weights)
    return Figure(
        title=f"At which thresholds is acting on “{name}” worth it?",
        caption=GAIN.format(name=name) if first else f"The same for “{name}” against all other classes.",
        alt=f"Decision curve: net benefit of acting on {name} by the model, on all rows and on none, at thresholds "
        "from 1 % to 99 %.",
        svg=charts.net_benefit(curve),
    )


def _cost_curve(case: Charted, policy: str, k: int) -> Figure:
    problem, cost = case.problem, case.problem.policies[policy].cost
    shares = np.bincount(problem.labels, problem.sample.weights, minlength=len(problem.classes))
    mixes = prevalence_line(shares / shares.sum(), k, GRID)
    action = problem.decisions[policy].action
    taken = cost_across_prevalence(action, cost, problem.labels, mixes, weights=problem.sample.weights)
    adapted, name = _adapted(case, policy, mixes), problem.classes[k]
    tail = " The dotted line is the cost with each share as the stated prevalence." * (adapted is not None)
    others = " The other classes keep their proportions." * (len(shares) > 2)
    observed = case.part.probabilities.calibration.classes[name].observed_frequency
    constant = risk_of(mixes, cost).min(axis=1)
    return Figure(
        title=f"What does policy “{policy}” cost where “{name}” is rarer or more frequent?",
        caption=f"Expected cost per row, from the rows of each class.{others} The policy is worth using where its line "
        f"lies below the dashed one.{tail}",
        alt=f"Expected cost against the share of {name}; among these rows it is {percent(observed)}.",
        svg=charts.cost_lines(GRID, taken=taken, adapted=adapted, constant=constant, observed=observed),
    )


def _adapted(case: Charted, policy: str, mixes: Array) -> Array | None:
    """Costs of decisions made with each mix as the target prevalence; None where nothing can be moved to it."""
    model, posterior = case.evaluation.labelled.answer.model, case.evaluation.labelled.answer.posterior
    problem = case.problem
    if model.source is None or model.task != "multiclass" or not mixes.all():
        return None
    costs = []
    for mix in mixes:
        moved = at_prevalence(posterior.log_probs, source=model.source, target=mix)
        action = choose(moved, problem.policies[policy], flagged=posterior.flagged).action
        how = {"weights": problem.sample.weights}
        costs.append(cost_across_prevalence(action, problem.policies[policy].cost, problem.labels, mix[None], **how)[0])
    return np.array(costs)
