"""Stages B and C: chains of a loss inverse and a calibrator compete on held-out rows, and the record keeps why."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import (
    CalibratorRecord,
    CandidateRecord,
    InverseRecord,
    LabelRecord,
    PrevalenceRecord,
    SequenceRecord,
    inverse_record,
    restore_inverse,
    stored,
)
from service.core import prior
from service.core.assessment.metrics import all_metrics
from service.core.calibration import CALIBRATORS, Calibrator, Map
from service.core.calibration.auto import Choice, elect, out_of_fold
from service.core.calibration.likelihood import likelihood_interval
from service.core.calibration.mixture import fit_mixed, support
from service.core.calibration.score_test import says_something
from service.core.calibration.shrinkage import PRIORS, SHRUNK, effective_units
from service.core.calibration.temperature import Temperature, fit_temperature, problem_of
from service.core.inverse import Inverse
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibration_warnings import SEPARABLE, mixture_words, no_signal, of_loss, of_rows, of_source

FOLDS = 5
AUTO: Final = ("identity", "temperature", "bcts", "vector")
SHRINKING: Final = ("temperature", "bcts")
DEFAULT: Final = "shrinkage"
METHODS: Final = ("auto", *CALIBRATORS, DEFAULT)
TOO_FEW: Final = (
    "at least two rows with a weight (of two groups, if there are groups) are needed. Nothing was published"
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A chain that competes.

    Attributes
    ----------
    inverse : InverseRecord or None
    method : str
        In `CALIBRATORS`.
    logits : ndarray of shape (N, K)
        What the calibrator sees: raw logits, or the log-probabilities that the inverse makes of them.
    speaks_of : ndarray of shape (K,) or None
        Prevalence behind those logits, if it is declared.
    offset : ndarray of shape (K,) or None
        Log ratio of the rows' prevalence to that.
    shrunk : bool
        Whether it is fitted with a prior.
    """

    inverse: InverseRecord | None
    method: str
    logits: Array
    speaks_of: Array | None
    offset: Array | None
    shrunk: bool = False

    @property
    def kind(self) -> type[Calibrator]:
        """What fits it."""
        return SHRUNK[self.method] if self.shrunk else CALIBRATORS[self.method]

    def effective_units(self, data: Dataset) -> int:
        """How many rows its prior is weighed against: all, or with groups what their rows tell beside each other."""
        units = independent_units(data)
        if not self.shrunk or data.groups is None:
            return units
        return effective_units(
            self.logits, data.labels, groups=data.groups, units=units, weights=data.weights, offset=self.offset
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of what is applied, in order."""
        return (self.method,) if self.inverse is None else (f"inverse of {self.inverse.loss}", self.method)

    @property
    def name(self) -> str:
        """What the record calls it."""
        return " + ".join(self.steps)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the rows taught about stages B and C.

    Attributes
    ----------
    calibrator : Map
        What answers requests: mixed with the uniform distribution if ``separable``.
    support : float
        Smallest error probability that the rows speak for.
    units : int
        How many rows the prior or the ridge of the winner is weighed against.
    labels : dict of str to LabelRecord
        Of labels: what was learned of each; ``inverse`` and ``candidates`` are then theirs.
    sequence : SequenceRecord or None
        Of sequences: how classes follow each other.
    """

    inverse: Inverse | None
    calibrator: Map
    status: Literal["ok", "separable"]
    support: float
    units: int
    steps: tuple[str, ...]
    inverse_record: InverseRecord | None
    record: CalibratorRecord
    candidates: dict[str, CandidateRecord]
    source: PrevalenceRecord
    before: dict[str, float]
    after: dict[str, float]
    warnings: tuple[str, ...] = ()
    labels: dict[str, LabelRecord] = field(default_factory=dict)
    sequence: SequenceRecord | None = None


def calibrate(manifest: Manifest, logits: Array, data: Dataset, *, method: str, seed: int) -> Calibration:
    """Let every chain that the manifest and ``method`` admit compete, and fit the winner to all rows.

    Parameters
    ----------
    manifest : Manifest
    logits : ndarray of shape (N, K)
    data : Dataset
    method : str
        In `METHODS`; ``auto`` tries several and takes the one of fewest parameters within a standard error of the best.
        ``shrinkage`` does so with a temperature and bcts, both with priors.
    seed : int

    Raises
    ------
    NoSignal
        If the logits say nothing about the labels.
    FitError
        If the method does not fit the model.
    """
    classes = manifest.graph.classes
    _check_rows(data, classes)
    found = settle(list(_contenders(manifest, logits, data, method)), data, classes=classes, seed=seed)
    return dataclasses.replace(found, warnings=tuple(_warnings(manifest, data, found)))


def settle(
    contenders: Sequence[Contender], data: Dataset, *, classes: tuple[str, ...], seed: int, signal: bool = False
) -> Calibration:
    """Let chains compete on held-out rows, and fit the winner to all.

    Parameters
    ----------
    contenders : sequence of Contender
    data : Dataset
        Of rows with one label each.
    classes : tuple of str
    seed : int
    signal : bool
        Whether the logits are known to say something about the labels; else chains to which they say nothing are out.

    Raises
    ------
    NoSignal
        If no chain is left.
    """
    by_name = {c.name: c for c in (contenders if signal else _with_signal(contenders, data))}
    choice = _compete(by_name, data, seed)
    winner = by_name[choice.winner]
    units, share = winner.effective_units(data), support(independent_units(data))
    rows = {"weights": data.weights, "offset": winner.offset}
    final = fit_mixed(winner.kind, winner.logits, data.labels, **rows, units=units, share=share)
    raw = next(c for c in contenders if c.inverse is None)
    return Calibration(
        None if winner.inverse is None else restore_inverse(winner.inverse),
        final.served,
        "separable" if final.separable else "ok",
        final.share,
        units,
        winner.steps,
        winner.inverse,
        _record(final.calibrator, winner, data, units=units),
        _candidates(choice, by_name),
        _source(classes, final.served, winner, data),
        all_metrics(_at_rows(raw.logits, raw.offset), data.labels, weights=data.weights),
        all_metrics(choice.log_probs, data.labels, weights=data.weights),
    )


def declared_prevalence(manifest: Manifest, *, weighted: bool) -> Array | None:
    """Declared training prevalence, times the class weights if the logits still carry them; shape (K,), or None."""
    training, classes = manifest.training, manifest.graph.classes
    if training.prevalence is None:
        return None
    shares: Array = np.array([training.prevalence[c] for c in classes], dtype=np.float64)
    if weighted and training.class_weights is not None:
        shares = shares * np.array([training.class_weights[c] for c in classes])
    normalised: Array = shares / shares.sum()
    return normalised


def independent_units(data: Dataset) -> int:
    """How many rows or, if there are groups, groups have any weight: what smoothing and ridges are measured by."""
    return int(_weighted_units(data).sum())


def folds_of(data: Dataset, seed: int) -> Indices:
    """Fold of every row, shape (N,); rows of a group share one.

    Units without weight are dealt none of their own: no fold can then be left without a weight to learn from.
    """
    weighted = _weighted_units(data)
    count = int(weighted.sum())
    of_unit = np.zeros(data.units, dtype=np.intp)
    of_unit[weighted] = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    return of_unit if data.groups is None else of_unit[data.groups]


def _weighted_units(data: Dataset) -> Flags:
    """Of every row or, if there are groups, group, whether it has any weight."""
    if data.weights is None:
        return np.ones(data.units, dtype=np.bool_)
    mass = data.weights if data.groups is None else np.bincount(data.groups, data.weights, minlength=data.units)
    weighted: Flags = mass > 0.0
    return weighted


def _check_rows(data: Dataset, classes: tuple[str, ...]) -> None:
    if independent_units(data) < 2:
        raise FitError(TOO_FEW)
    observed = frequencies(data, len(classes))
    for k in np.unique(data.labels):
        if observed[k] == 0.0:
            raise FitError(f"class {classes[k]!r} has rows, but none with a weight: leave them out, or weigh them")


def _contenders(manifest: Manifest, logits: Array, data: Dataset, method: str) -> Iterator[Contender]:
    methods = {"auto": AUTO, DEFAULT: SHRINKING}.get(method, (method,))
    unfit = [name for name in methods if CALIBRATORS[name].needs == "binary" and len(manifest.graph.classes) != 2]
    if unfit:
        raise FitError(f"--calibrator {unfit[0]} is for two classes; this model has {len(manifest.graph.classes)}")
    observed = frequencies(data, len(manifest.graph.classes))
    inverse = inverse_record(manifest)
    # Where declared weights only shift the prevalence, both ways fit alike: the one of the real prevalence comes first.
    for undone in (None,) if inverse is None else (inverse, None):
        seen = logits if undone is None else restore_inverse(undone).apply(log_softmax(logits))
        speaks_of = declared_prevalence(manifest, weighted=undone is None)
        offset = None if speaks_of is None else log_ratio(observed, speaks_of)
        for name in methods:
            yield Contender(undone, name, seen, speaks_of, offset, shrunk=method == DEFAULT)


def _with_signal(contenders: Sequence[Contender], data: Dataset) -> list[Contender]:
    informed = len(np.unique(data.labels)) < 2 or says_something(
        contenders[0].logits, data.labels, weights=data.weights, groups=data.groups, units=independent_units(data)
    )
    found = [c for c in contenders if informed and _finds_signal(c, data)]
    if found:
        return found
    raise no_signal(needs_bias=informed)


def _finds_signal(contender: Contender, data: Dataset) -> bool:
    if contender.kind.free_intercepts and len(np.unique(data.labels)) > 1:
        return True
    problem = problem_of(contender.logits, data.labels, weights=data.weights, offset=contender.offset)
    return problem.status() != "no_signal"


def _compete(contenders: dict[str, Contender], data: Dataset, seed: int) -> Choice:
    folds, share = folds_of(data, seed), support(independent_units(data))
    outputs = {
        name: out_of_fold(
            c.kind,
            c.logits,
            data.labels,
            folds=folds,
            weights=data.weights,
            offset=c.offset,
            units=c.effective_units(data),
            share=share,
        )
        for name, c in contenders.items()
    }
    sizes = {name: _size(c) for name, c in contenders.items()}
    return elect(outputs, data.labels, sizes=sizes, weights=data.weights, groups=data.groups)


def _size(contender: Contender) -> int:
    return CALIBRATORS[contender.method].size(contender.logits.shape[1])


def _at_rows(logits: Array, offset: Array | None) -> Array:
    return log_softmax(logits if offset is None else logits + offset)


def frequencies(data: Dataset, k: int) -> Array:
    """Share of every class among the rows, by weight, shape (K,)."""
    counts = np.bincount(data.labels, weights=data.weights, minlength=k).astype(np.float64)
    shares: Array = counts / counts.sum()
    return shares


def units_of_classes(data: Dataset, k: int) -> Indices:
    """How many rows or, if there are groups, groups have every class, shape (K,)."""
    kept = np.ones(len(data), dtype=np.bool_) if data.weights is None else data.weights > 0.0
    if data.groups is None:
        return np.bincount(data.labels[kept], minlength=k)
    pairs = np.unique(np.stack([data.groups, data.labels], axis=1)[kept], axis=0)
    return np.bincount(pairs[:, 1], minlength=k)


def log_ratio(observed: Array, declared: Array) -> Array:
    """Log ratio of two prevalences: minus infinity where a class has no rows."""
    with np.errstate(divide="ignore"):  # a class without rows gets probability zero among these rows
        ratio: Array = np.log(observed / declared)
    return ratio


def _source(classes: tuple[str, ...], calibrator: Map, winner: Contender, data: Dataset) -> PrevalenceRecord:
    observed, free = frequencies(data, len(classes)), CALIBRATORS[winner.method].free_intercepts
    if winner.speaks_of is not None and not free:
        return PrevalenceRecord(basis="declared", prevalence=dict(zip(classes, winner.speaks_of.tolist(), strict=True)))
    agrees = free or prior.mean_agrees(
        calibrator.apply(winner.logits), observed, weights=data.weights, groups=data.groups
    )
    if observed.min() > 0.0 and agrees:
        return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(classes, observed.tolist(), strict=True)))
    return PrevalenceRecord(basis="unknown", prevalence=None)


def _record(calibrator: Calibrator, winner: Contender, data: Dataset, *, units: int) -> CalibratorRecord:
    interval = {}
    if isinstance(calibrator, Temperature):
        interval["temperature"] = _interval(calibrator, winner, data, units)
    prior = PRIORS[winner.method] if winner.shrunk else {}
    reasons = {name: "too_few_rows" for name, (_, high) in interval.items() if high is None}
    params = stored(calibrator)
    return CalibratorRecord(
        method=winner.method, params=params, prior=prior, interval=interval, interval_reason=reasons
    )


def _interval(calibrator: Temperature, winner: Contender, data: Dataset, units: int) -> tuple[float, float | None]:
    logits, w, offset = winner.logits, data.weights, winner.offset
    fitted = fit_temperature(logits, data.labels, weights=w, offset=offset, units=units)
    low, high = likelihood_interval(fitted, logits, data.labels, weights=w, offset=offset, groups=data.groups)
    t = calibrator.temperature  # a prior may have moved it beyond what few rows say
    return min(low, t), max(high, t) if math.isfinite(high) else None


def _candidates(choice: Choice, contenders: dict[str, Contender]) -> dict[str, CandidateRecord]:
    return {
        name: CandidateRecord(
            log_loss=found.mean,
            standard_error=found.standard_error,
            excess=found.excess,
            excess_standard_error=found.excess_standard_error,
            parameters=_size(contenders[name]),
            chosen=name == choice.winner,
        )
        for name, found in choice.candidates.items()
    }


def _warnings(manifest: Manifest, data: Dataset, found: Calibration) -> list[str]:
    counts = units_of_classes(data, len(manifest.graph.classes))
    said = of_rows(manifest.graph.classes, counts, units=data.units, grouped=data.groups is not None) | _of_fit(found)
    said |= of_loss(manifest, found.record, inverted=found.inverse is not None)
    said |= of_source(unknown=found.source.basis == "unknown", missing=counts.min() == 0)
    return [text for text, holds in said.items() if holds]


def _of_fit(found: Calibration) -> dict[str, bool]:
    return {
        f"{SEPARABLE}: {mixture_words(found.support)}": found.status == "separable",
        "out of fold, calibration did not lower the log loss": (
            found.steps != ("identity",) and found.after["log_loss"] >= found.before["log_loss"]
        ),
    }
