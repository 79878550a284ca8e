"""Charts and tables of the report's page, each with its words."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.core.assessment.coding import code_lengths
from service.core.assessment.metrics import METRICS
from service.core.assessment.miscalibration import favourite
from service.core.assessment.reliability import Curve
from service.core.intervals import mean_interval
from service.core.numerics import Array
from service.core.pipeline import Posterior
from service.data.dataset import Dataset
from service.evaluation.checks import PREDICTED, CalibrationCheck
from service.evaluation.diagnostics import DIAGRAM_BINS
from service.evaluation.measure import Measured
from service.evaluation.report import Report, ScoreReport
from service.evaluation.verdicts import money, percent, short
from service.reporting import charts, rate_tables
from service.reporting.tables import Grid as Table
from service.reporting.terminal import BINNED, MEANINGS
from service.runtime.model import Model

LISTED_CLASSES = 12
MESSAGE_ROWS = 20  # two in every tenth, to see any spread
CHARTED_CLASSES = 4


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: what it shows, how to read it, what it looks like to those who cannot see it."""

    title: str
    caption: str
    alt: str
    svg: str


@dataclass(frozen=True, slots=True)
class Case:
    """Everything the page speaks of."""

    model: Model
    found: Measured

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
    def check(self) -> CalibrationCheck:
        """Of calibration."""
        return self.found.diagnostics.calibration

    @property
    def report(self) -> Report:
        """What `evaluate` made of both."""
        return self.found.report


def probability_charts(case: Case) -> list[Chart]:
    """Reliability diagram, risk-coverage curve, and the cost of labels along the rows."""
    return [_diagram(case), _selective(case), *_message(case)]


def _diagram(case: Case) -> Chart:
    check = case.check
    found = check.diagram
    columns = (found.predicted, found.observed, found.count, found.low, found.high)
    return Chart(
        title="Does what is said happen?",
        caption=f"Rows are gathered by {check.event}, in {DIAGRAM_BINS} bins. A dot on the dashed line means: of the "
        "rows told 30 %, 30 % were so. The light bars show where 95 % of the dots would fall if the probabilities were "
        "exactly right; a dot outside its bar is a gap that chance hardly explains. Below: rows per bin.",
        alt=f"Reliability diagram of {check.event}: {found.outside} of {len(found.count)} bins lie outside the band "
        "that chance alone allows.",
        svg=charts.reliability(Curve(*map(np.array, columns))),
    )


def _selective(case: Case) -> Chart:
    confidence, right = favourite(case.posterior.log_probs, case.data.labels)
    found = case.found.diagnostics.selective
    return Chart(
        title="Does confidence tell right from wrong?",
        caption="Leave the least confident rows to somebody else: the solid line is the error rate among the rest. The "
        "lower it runs under the dashed line, the better confidence finds the errors; the dotted line is as good "
        "as any order could be." + " Every row counts once here, whatever it weighs." * (case.data.weights is not None),
        alt=f"Risk-coverage curve: {percent(found.error)} of all rows are wrong; area under the curve "
        f"{short(found.area)}.",
        svg=charts.selective(confidence, ~right),
    )


def _message(case: Case) -> list[Chart]:
    lengths = code_lengths(case.posterior.log_probs, case.data.labels)
    if len(lengths) < MESSAGE_ROWS or not np.isfinite(lengths).all():
        return []
    parts = np.array_split(lengths, len(case.report.code_length.per_label))
    means = np.array([part.mean() for part in parts])
    ends = _code_intervals(case, parts)
    prior, said = case.report.code_length.prior_bits / len(lengths), list(case.report.code_length.per_label.values())
    return [
        Chart(
            title="Does the model get worse along the rows?",
            caption="Bits that a label costs to write down, in consecutive tenths of the rows as they lie in the file, "
            "each with a 95 % interval that allows for surprises not seen; a bar may go on above the picture. "
            "In order of time, a rise means that the "
            "model drifts; rows in random order show none. Under the dashed line the model knows more than how "
            "frequent the classes are.",
            alt=f"Bits per label in {len(parts)} consecutive parts of the rows: from {short(said[0])} in the first to "
            f"{short(said[-1])} in the last.",
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
    check = case.check
    meanings = {
        "miscalibration": "what recalibration could save",
        "discrimination": "what telling rows apart saves",
        "uncertainty": "what the base rate alone would cost",
        "squared_error": "miscalibration - discrimination + uncertainty",
    }
    rows = [
        (name.replace("_", " "), money(getattr(check.uncalibrated, name)), money(getattr(check, name)), text)
        for name, text in meanings.items()
    ]
    title = f"Where the squared error of {check.event} comes from"
    note = "" if check.of == PREDICTED else "For two classes this is the Brier score: brier_loss above."
    return Table(title, ("part", "uncalibrated", "served", "meaning"), rows, note, prose=True)


def _bins(case: Case) -> Table:
    found = case.check.binned
    rows = [(name, *(money(getattr(found[loss], name)) for loss in found), text) for name, text in BINNED.items()]
    title = f"The same in 15 bins, as Murphy did it, of {case.check.event}"
    return Table(title, ("part", "squared error", "log loss", "meaning"), rows, prose=True)


def _large(case: Case) -> Table:
    check, classes = case.check, list(case.check.gaps)
    listed = sorted(classes, key=lambda name: -abs(check.gaps[name]))[:LISTED_CLASSES]
    shown = classes if len(classes) <= LISTED_CLASSES else listed
    rows = [
        (
            name,
            percent(check.mean_said[name]),
            percent(check.mean_happened[name]),
            f"{100 * check.gaps[name]:+.2f}",
            f"{100 * check.noise[name]:.2f}",
        )
        for name in shown
    ]
    left = len(classes) - len(shown)
    note = f"The {left} classes with smaller differences are left out." if left else ""
    head = ("class", "predicted on average", "observed", "difference, points", "95 % noise, ± points")
    return Table("Is every class predicted as often as it occurs?", head, rows, note)


def class_charts(case: Case) -> Iterator[Chart]:
    """ROC curves: of the second class of two, or of each of the most frequent."""
    reports = case.report.classes
    names = list(reports)[1:] if len(case.model.classes) == 2 else sorted(reports, key=lambda n: -reports[n].rows)
    for name in names[:CHARTED_CLASSES]:
        found = reports[name]
        if found.roc is not None:
            yield Chart(
                title=f"How well is “{name}” told from the rest?",
                caption="The ROC curve: sensitivity against the share of other rows taken for it, as the threshold on "
                f"the probability of “{name}” falls. The dashed line is chance. AUROC {rate_tables.rate(found.auroc)}.",
                alt=f"ROC curve of {name}: area {rate_tables.rate(found.auroc)}.",
                svg=charts.roc(found.roc),
            )


def class_tables(case: Case) -> Iterator[Table]:
    """Discrimination, confusion matrix and rates of the label, then those of every policy's decisions."""
    yield from rate_tables.class_tables(case.report)
    for name, policy in case.report.policies.items():
        yield from rate_tables.policy_rate_tables(name, policy)


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

    def caught(share: float | None) -> str:
        return percent(share) if report.ood_rows else "no such rows"

    rows = [(n, short(s.threshold), percent(s.flag_rate), caught(s.ood_flag_rate)) for n, s in report.scores.items()]
    rows.append(("range (rule)", "", percent(report.range_rate), ""))
    rows.append(("the gate", "", percent(report.flag_rate), caught(report.ood_flag_rate)))
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
