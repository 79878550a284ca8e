"""Charts and tables of the report's page, each with its words."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.core.coding import code_lengths
from service.core.decomposition import corp_decomposition
from service.core.intervals import mean_interval
from service.core.metrics import METRICS
from service.core.miscalibration import equal_width, favourite
from service.core.numerics import Array, log_softmax
from service.core.pipeline import Posterior
from service.core.recalibration import calibration_in_the_large
from service.core.reliability import reliability_curve
from service.core.selective import area_under_risk_coverage
from service.evaluation import charts, verdicts
from service.evaluation.dataset import Dataset
from service.evaluation.measure import Measured
from service.evaluation.render import BINNED, MEANINGS
from service.evaluation.report import Report, ScoreReport
from service.evaluation.verdicts import Event, Strategies, money, percent, short
from service.runtime.model import Model

LISTED_CLASSES = 12
MESSAGE_ROWS = 20  # two in every tenth, to see any spread
CHART_BINS = 10  # of the diagram: fewer than the calibration error's, so that most hold enough rows to see anything


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
    found: Measured
    event: Event
    costs: dict[str, Strategies]

    @property
    def data(self) -> Dataset:
        """The labelled rows."""
        return self.found.data

    @property
    def posterior(self) -> Posterior:
        """Stages A to C for them."""
        return self.found.posterior

    @property
    def elsewhere(self) -> Posterior | None:
        """The same for rows of another population."""
        return self.found.elsewhere

    @property
    def report(self) -> Report:
        """What `evaluate` made of both."""
        return self.found.report


def probability_charts(case: Case) -> list[Chart]:
    """Reliability diagram, risk-coverage curve, and the cost of labels along the rows."""
    return [_diagram(case), _selective(case), *_message(case)]


def _diagram(case: Case) -> Chart:
    p, happened = case.event.probabilities, case.event.happened
    curve = reliability_curve(
        p,
        happened,
        index=equal_width(p, bins=CHART_BINS),
        draws=verdicts.draws_for(len(p)),
        weights=case.data.weights,
        groups=case.data.groups,
    )
    outside = int(((curve.observed < curve.low) | (curve.observed > curve.high)).sum())
    return Chart(
        title="Does what is said happen?",
        caption=f"Rows are gathered by {case.event.name}, in {CHART_BINS} bins. A dot on the dashed line means: of the "
        "rows told 30 %, 30 % were so. The light bars show where 95 % of the dots would fall if the probabilities were "
        "exactly right; a dot outside its bar is a gap that chance hardly explains. Below: rows per bin.",
        alt=f"Reliability diagram of {case.event.name}: {outside} of {len(curve.count)} bins lie outside the band "
        "that chance alone allows.",
        svg=charts.reliability(curve),
    )


def _selective(case: Case) -> Chart:
    confidence, right = favourite(case.posterior.log_probs, case.data.labels)
    return Chart(
        title="Does confidence tell right from wrong?",
        caption="Leave the least confident rows to somebody else: the solid line is the error rate among the rest. The "
        "lower it runs under the dashed line, the better confidence finds the errors; the dotted line is as good "
        "as any order could be." + " Every row counts once here, whatever it weighs." * (case.data.weights is not None),
        alt=f"Risk-coverage curve: {percent(1.0 - float(right.mean()))} of all rows are wrong; area under the curve "
        f"{short(area_under_risk_coverage(confidence, ~right))}.",
        svg=charts.selective(confidence, ~right),
    )


def _message(case: Case) -> list[Chart]:
    lengths = code_lengths(case.posterior.log_probs, case.data.labels)
    if len(lengths) < MESSAGE_ROWS or not np.isfinite(lengths).all():
        return []
    parts = np.array_split(lengths, len(case.report.code_length.per_label))
    means = np.array([part.mean() for part in parts])
    ends = _code_intervals(case, parts)
    prior = case.report.code_length.prior_bits / len(lengths)
    return [
        Chart(
            title="Does the model get worse along the rows?",
            caption="Bits that a label costs to write down, in consecutive tenths of the rows as they lie in the file, "
            "each with a 95 % interval that allows for surprises not seen. In order of time, a rise means that the "
            "model drifts; rows in random order show none. Under the dashed line the model knows more than how "
            "frequent the classes are.",
            alt=f"Bits per label in {len(parts)} consecutive parts of the rows: from {short(float(means[0]))} in the "
            f"first to {short(float(means[-1]))} in the last; {short(float(lengths.mean()))} on average.",
            svg=charts.message(means, ends, overall=float(lengths.mean()), prior=prior),
        )
    ]


def _code_intervals(case: Case, parts: list[Array]) -> Array:
    """Ends of the interval of every part's mean, shape (2, P)."""
    groups, bits = case.data.groups, case.posterior.log_probs / -math.log(2.0)
    rows = np.array_split(np.arange(len(bits)), len(parts))
    return np.array(
        [
            mean_interval(
                part,
                least=bits[own].min(axis=1),
                most=bits[own].max(axis=1),
                groups=None if groups is None else groups[own],
            )
            for part, own in zip(parts, rows, strict=True)
        ]
    ).T


def probability_tables(case: Case) -> Iterator[Table]:
    """Metrics, decomposition, calibration in the large."""
    report = case.report
    rows = [
        (name, money(report.uncalibrated_metrics.get(name)), money(report.metrics.get(name)), MEANINGS.get(name, ""))
        for name in METRICS
    ]
    yield Table("How good the probabilities are", ("metric", "uncalibrated", "served", "meaning"), rows, prose=True)
    yield _decomposition(case)
    yield _bins(case)
    yield _large(case)


def _decomposition(case: Case) -> Table:
    raw = verdicts.event_of(log_softmax(case.posterior.logits), case.data.labels, case.model.classes)
    events = (raw, case.event)
    before, after = (corp_decomposition(e.probabilities, e.happened, weights=case.data.weights) for e in events)
    rows = [
        ("miscalibration", money(before.miscalibration), money(after.miscalibration), "what recalibration could save"),
        ("discrimination", money(before.discrimination), money(after.discrimination), "what telling rows apart saves"),
        ("uncertainty", money(before.uncertainty), money(after.uncertainty), "what the base rate alone would cost"),
        ("squared error", money(before.score), money(after.score), "miscalibration - discrimination + uncertainty"),
    ]
    title = f"Where the squared error of {case.event.name} comes from"
    return Table(title, ("part", "uncalibrated", "served", "meaning"), rows, prose=True)


def _bins(case: Case) -> Table:
    found = case.found.diagnostics.calibration.binned
    rows = [(name, *(money(getattr(found[loss], name)) for loss in found), text) for name, text in BINNED.items()]
    title = f"The same in 15 bins, as Murphy did it, of {case.event.name}"
    return Table(title, ("part", "squared error", "log loss", "meaning"), rows, prose=True)


def _large(case: Case) -> Table:
    data = case.data
    large = calibration_in_the_large(case.posterior.log_probs, data.labels, weights=data.weights, groups=data.groups)
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


def score_tables(case: Case) -> Iterator[Table]:
    """Thresholds and rates of every score, of the range rule and of the gate; how scores tell rows apart."""
    report = case.report
    rows = [(n, short(s.threshold), percent(s.flag_rate), percent(s.ood_flag_rate)) for n, s in report.scores.items()]
    rows.append(("range (rule)", "", percent(report.range_rate), ""))
    rows.append(("the gate", "", percent(report.flag_rate), percent(report.ood_flag_rate)))
    head = ("score", "threshold", "labelled rows flagged", "rows from elsewhere flagged")
    gate = ", ".join(case.model.manifest.ood.gate_members)
    yield Table("What is flagged", head, rows, f"The gate is what flags a row: {gate}.")
    if report.ood_rows:
        yield _told_apart(report.scores)


def _told_apart(scores: dict[str, ScoreReport]) -> Table:
    rows = [
        (
            name,
            short(s.auroc),
            percent(s.fpr95_ood_positive),
            percent(s.fpr95_id_positive),
            short(s.aupr_out),
            short(s.aupr_in),
            percent(s.detection_error),
        )
        for name, s in scores.items()
    ]
    head = ("score", "AUROC", "FPR@95, OOD +", "FPR@95, ID +", "AUPR, OOD +", "AUPR, ID +", "detection error")
    note = (
        "AUROC: how often a row from elsewhere scores above a labelled one. OOD +: rows from elsewhere are the "
        "positive kind; ID +: the labelled rows are. AUPR depends on how many there are of each kind. Detection error: "
        "the least of any threshold, were both kinds equally frequent."
    )
    return Table("How well are rows from elsewhere told apart?", head, rows, note)
