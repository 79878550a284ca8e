"""What outcomes propose: a step for the calibration of a version, and whether its change protocol lets it through.

Tested in tests/monitoring/test_refit.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.change_protocol import ChangeProtocol, RowLoss
from service.bundle.record import Record, restore_calibrator, restore_inverse
from service.bundle.refit_record import ImprovementRecord, StepRecord
from service.core.intervals import Z
from service.core.label_sets import fit as fit_sets
from service.core.label_sets import own_log_probs
from service.core.multilabel import undo
from service.core.numerics import Array, Flags, log_softmax, two_column
from service.core.sampling import effective_rows, mean_and_error
from service.core.updating import Update, unchanged
from service.data.dataset import Dataset
from service.errors import RefitRefused
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.ladder import Climbed, Problem, climb, folds
from service.runtime.model import Model

WHOLE: Final = "model"
"""Key of the one problem of a model of classes; of a multilabel model keys are labels."""

COVERAGE: Final = 0.9
"""Of the label sets that are checked out of fold."""

FAR: Final = 2.576
"""Standard errors that a rate may lie on the wrong side of what was declared: one in two hundred by chance."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition of a publication: whether it holds, and a sentence that gives the figures."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new calibration, not yet published.

    Attributes
    ----------
    climbed : dict of str to Climbed
        By label; of a model of classes under `WHOLE`.
    steps : dict of str to StepRecord
    improvement : dict of str to ImprovementRecord
        By loss.
    flag_rate : float
        Of the answered rows, by the thresholds in force.
    coverage : float or None
        Of label sets, out of fold.
    gates : tuple of Gate
    """

    climbed: dict[str, Climbed]
    steps: dict[str, StepRecord]
    improvement: dict[RowLoss, ImprovementRecord]
    flag_rate: float
    coverage: float | None
    gates: tuple[Gate, ...]

    @property
    def changes(self) -> bool:
        """Whether any step was chosen."""
        return any(step.step != "none" for step in self.steps.values())

    @property
    def passed(self) -> bool:
        """Whether it may be published."""
        return self.changes and all(gate.passed for gate in self.gates)


def propose(model: Model, answers: LabelledAnswers, *, seed: int) -> Proposal:
    """Choose a step for every problem, and hold it against the change protocol.

    Parameters
    ----------
    model : Model
        Calibrated; its outcomes are learned from.
    answers : LabelledAnswers
    seed : int

    Raises
    ------
    RefitRefused
        If the version cannot be refitted at all, or the outcomes are too few.
    """
    record, protocol = _refittable(model), model.manifest.change_protocol
    _check_events(answers, states_of(model), protocol)
    problems = problems_of(model, record, answers)
    level = protocol.level / len(problems)
    climbed = {name: climb(problem, level=level, seed=seed) for name, problem in problems.items()}
    steps = {name: _step(one, _earlier(record, name, one)) for name, one in climbed.items()}
    improvement = {loss: _improvement(LOSSES[loss], problems, climbed) for loss in LOSSES}
    flagged, coverage = flags_of(model, answers), _coverage(answers, seed) if record.label_sets else None
    gates = [
        *_step_gates(steps, protocol),
        *_improvement_gates(improvement, protocol),
        _flag_gate(flagged, answers, protocol.flag_rate or model.manifest.ood.false_alarm),
        *([] if coverage is None else [_coverage_gate(coverage, answers)]),
    ]
    rate = float(np.average(flagged, weights=answers.weights))
    return Proposal(climbed, steps, improvement, rate, coverage, tuple(gates))


def states_of(model: Model) -> int:
    """How many classes a row, or a label, can be of."""
    return 2 if model.task == "multilabel" else len(model.classes)


def problems_of(model: Model, record: Record, answers: LabelledAnswers) -> dict[str, Problem]:
    """The calibration in force with the rows that it saw, by label; of a model of classes there is one."""
    if model.task != "multilabel":
        inverse = None if record.inverse is None else restore_inverse(record.inverse)
        seen = answers.logits if inverse is None else inverse.apply(log_softmax(answers.logits))
        method = record.calibrator.method
        return {WHOLE: Problem(method, restore_calibrator(record.calibrator), seen, answers.data())}
    found = {}
    for m, (label, own) in enumerate(record.labels.items()):
        inverse = None if own.inverse is None else restore_inverse(own.inverse)
        seen = two_column(undo(inverse, answers.logits[:, m]))
        data = answers.data(answers.labels[:, m])
        found[label] = Problem(own.calibrator.method, restore_calibrator(own.calibrator), seen, data)
    return found


def flags_of(model: Model, answers: LabelledAnswers) -> Flags:
    """Rows whose recorded score lies above the threshold of a score of the gate, shape (N,)."""
    flagged = np.zeros(len(answers), dtype=np.bool_)
    for detector in model.chain.detectors:
        limits = detector.thresholds(answers.logits) if detector.by_class is not None else detector.threshold
        if detector.gated and limits is not None and detector.name in answers.scores:
            flagged |= answers.scores[detector.name] > limits
    return flagged


def _refittable(model: Model) -> Record:
    record = model.bundle.record
    if record is None:
        raise RefitRefused(f"{model.bundle.title} is uncalibrated: fit a draft with labelled rows first")
    if model.task == "sequence":
        raise RefitRefused(
            "a sequence model is not refitted from outcomes: positions of a sequence depend on each other, and the "
            "closed test does not know how; fit a draft with labelled sequences"
        )
    if record.status == "separable":
        raise RefitRefused(
            f"the calibration rows of {model.bundle.title} were separable: its probabilities are mixed, and no "
            "intercept or slope can be added to them; fit a draft with labelled rows"
        )
    return record


def _check_events(answers: LabelledAnswers, states: int, protocol: ChangeProtocol) -> None:
    events = answers.events(states)
    if events < protocol.least_events:
        raise RefitRefused(
            f"the rarest class has {events} outcomes (each subject counts once), and [change_protocol] least_events "
            f"is {protocol.least_events}"
        )


def _earlier(record: Record, name: str, climbed: Climbed) -> Update:
    if record.refit is None or name not in record.refit.steps:
        return unchanged(climbed.before.shape[1])
    earlier = record.refit.steps[name]
    return Update(earlier.total_slope, np.array(earlier.total_bias))


def _step(climbed: Climbed, earlier: Update) -> StepRecord:
    own, total = climbed.update, climbed.update.after(earlier)
    return StepRecord(
        step=climbed.chosen.step,
        p_values={str(step): p for step, p in climbed.chosen.p_values.items()},
        slope=own.slope,
        bias=tuple(own.bias.tolist()),
        total_slope=total.slope,
        total_bias=tuple(total.bias.tolist()),
    )


def _step_gates(steps: dict[str, StepRecord], protocol: ChangeProtocol) -> Iterator[Gate]:
    low, high = protocol.temperature
    for name, one in steps.items():
        of = "" if name == WHOLE else f" of {name}"
        allowed = one.step == "none" or one.step in protocol.steps
        yield Gate(f"step{of}", allowed, f"the closed test chose {one.step}{of}; allowed: {', '.join(protocol.steps)}")
        temperature = 1.0 / one.total_slope if one.total_slope > 0.0 else np.inf
        sentence = f"the temperature{of} changed by {temperature:.3g} since the last fit; bounds: {low:g} to {high:g}"
        yield Gate(f"temperature{of}", bool(low <= temperature <= high), sentence)
        bias = float(np.abs(_intercepts(one.total_bias)).max())
        sentence = f"the intercept{of} changed by {bias:.3g} since the last fit; bound: {protocol.intercept:g}"
        yield Gate(f"intercept{of}", bias <= protocol.intercept, sentence)


def _intercepts(bias: tuple[float, ...]) -> Array:
    # Of two classes the intercept is the change of the log-odds.
    return np.array([bias[1] - bias[0]]) if len(bias) == 2 else np.array(bias)


def _log_loss(log_probs: Array, data: Dataset) -> Array:
    return np.asarray(-log_probs[np.arange(len(data)), data.labels])


def _brier(log_probs: Array, data: Dataset) -> Array:
    return np.asarray(((np.exp(log_probs) - np.eye(log_probs.shape[1])[data.labels]) ** 2).sum(axis=1))


def _improvement(
    loss: Callable[[Array, Dataset], Array], problems: dict[str, Problem], climbed: dict[str, Climbed]
) -> ImprovementRecord:
    """Mean over the labels, where there are several."""
    data = next(iter(problems.values())).data
    pairs = [(loss(one.before, problems[n].data), loss(one.after, problems[n].data)) for n, one in climbed.items()]
    before, after = (np.mean(part, axis=0) for part in zip(*pairs, strict=True))
    difference, error = mean_and_error(after - before, weights=data.weights, groups=data.groups)
    return ImprovementRecord(
        before=float(np.average(before, weights=data.weights)),
        after=float(np.average(after, weights=data.weights)),
        difference=difference,
        low=difference - Z * error,
        high=difference + Z * error,
    )


def _improvement_gates(improvement: dict[RowLoss, ImprovementRecord], protocol: ChangeProtocol) -> Iterator[Gate]:
    for loss in protocol.must_improve:
        one = improvement[loss]
        sentence = (
            f"out of fold the {loss.replace('_', ' ')} changes by {one.difference:+.4f} "
            f"(95 % interval {one.low:+.4f} to {one.high:+.4f}); all of it must lie below 0"
        )
        yield Gate(loss, one.high < 0.0, sentence)


def _flag_gate(flagged: Flags, answers: LabelledAnswers, alpha: float) -> Gate:
    n = effective_rows(len(answers), weights=answers.weights, groups=answers.subjects)
    rate, most = float(np.average(flagged, weights=answers.weights)), alpha + FAR * np.sqrt(alpha * (1.0 - alpha) / n)
    sentence = (
        f"{rate:.2%} of the answers were flagged, allowed are {alpha:.2%} (by chance at most {most:.2%}); a "
        "calibration does not repair inputs that the model does not know"
    )
    return Gate("flag_rate", bool(rate <= most), sentence)


def _coverage(answers: LabelledAnswers, seed: int) -> float:
    log_probs, data = own_log_probs(answers.logits), answers.data()
    covered = np.zeros(len(answers), dtype=np.bool_)
    for held in folds(data, seed):
        kept = data.part(~held)
        sets = fit_sets(log_probs[~held], kept.labels, method="lac", conditional=False, groups=kept.groups)
        members = sets.predict(log_probs[held], coverage=COVERAGE).members
        covered[held] = members[np.arange(len(members)), data.labels[held]]
    return float(np.average(covered, weights=answers.weights))


def _coverage_gate(coverage: float, answers: LabelledAnswers) -> Gate:
    n = effective_rows(len(answers), weights=answers.weights, groups=answers.subjects)
    least = COVERAGE - FAR * np.sqrt(COVERAGE * (1.0 - COVERAGE) / n)
    sentence = f"out of fold, label sets of {COVERAGE:.0%} cover {coverage:.1%} (by chance at least {least:.1%})"
    return Gate("coverage", bool(coverage >= least), sentence)


LOSSES: Final[dict[RowLoss, Callable[[Array, Dataset], Array]]] = {"log_loss": _log_loss, "brier": _brier}
