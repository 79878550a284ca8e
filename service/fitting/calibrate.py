"""Stages B and C: chains of a loss inverse and a calibrator compete on held-out rows, and the record keeps why."""

import dataclasses
import math
from collections.abc import Sequence
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
    restore_inverse,
    stored,
)
from service.core.assessment.metrics import all_metrics
from service.core.calibration import Calibrator, Map
from service.core.calibration.auto import Choice
from service.core.calibration.likelihood import likelihood_interval
from service.core.calibration.mixture import fit_mixed, support
from service.core.calibration.shrinkage import PRIORS
from service.core.calibration.temperature import Temperature, fit_temperature
from service.core.inverse import Inverse
from service.core.numerics import Array, log_softmax
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibration_warnings import SEPARABLE, mixture_words, of_loss, of_rows, of_source
from service.fitting.candidate_chains import CandidateChain, candidate_chains, compete, source_record, with_signal
from service.fitting.source_prevalence import frequencies, units_of_classes
from service.fitting.splits import independent_units

TOO_FEW: Final = (
    "at least two rows with a weight (of two groups, if there are groups) are needed. Nothing was published"
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Stages B and C as fitted.

    Attributes
    ----------
    calibrator : Map
        Serves requests: mixed with the uniform distribution if ``separable``.
    support : float
        Smallest error probability that so many rows can show.
    units : int
        How many independent rows the prior or the ridge of the winner is weighed against.
    labels : dict of str to LabelRecord
        Multilabel: the fit of every label; ``inverse`` and ``candidates`` are then in there.
    sequence : SequenceRecord or None
        Sequence: how classes follow each other.
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
        If the logits have no signal about the labels.
    FitError
        If the method does not fit the model.
    """
    classes = manifest.graph.classes
    _check_rows(data, classes)
    found = fit_best(list(candidate_chains(manifest, logits, data, method)), data, classes=classes, seed=seed)
    return dataclasses.replace(found, warnings=tuple(_warnings(manifest, data, found)))


def fit_best(
    chains: Sequence[CandidateChain], data: Dataset, *, classes: tuple[str, ...], seed: int, signal: bool = False
) -> Calibration:
    """Let chains compete on held-out rows, and fit the winner to all.

    Parameters
    ----------
    chains : sequence of CandidateChain
    data : Dataset
        Of rows with one label each.
    classes : tuple of str
    seed : int
    signal : bool
        Whether the logits are known to have signal. If not, chains without signal are left out.

    Raises
    ------
    NoSignal
        If no chain is left.
    """
    by_name = {c.name: c for c in (chains if signal else with_signal(chains, data))}
    choice = compete(by_name, data, seed)
    winner = by_name[choice.winner]
    units, share = winner.effective_units(data), support(independent_units(data))
    rows = {"weights": data.weights, "offset": winner.offset}
    final = fit_mixed(winner.kind, winner.logits, data.labels, **rows, units=units, share=share)
    raw = next(c for c in chains if c.inverse is None)
    return Calibration(
        inverse=None if winner.inverse is None else restore_inverse(winner.inverse),
        calibrator=final.served,
        status="separable" if final.separable else "ok",
        support=final.share,
        units=units,
        steps=winner.steps,
        inverse_record=winner.inverse,
        record=_record(final.calibrator, winner, data, units=units),
        candidates=_candidates(choice, by_name),
        source=source_record(classes, final.served, winner, data),
        before=all_metrics(_at_rows(raw.logits, raw.offset), data.labels, weights=data.weights),
        after=all_metrics(choice.log_probs, data.labels, weights=data.weights),
    )


def _check_rows(data: Dataset, classes: tuple[str, ...]) -> None:
    if independent_units(data) < 2:
        raise FitError(TOO_FEW)
    observed = frequencies(data, len(classes))
    for k in np.unique(data.labels):
        if observed[k] == 0.0:
            raise FitError(f"class {classes[k]!r} has rows, but none with a weight: leave them out, or weigh them")


def _at_rows(logits: Array, offset: Array | None) -> Array:
    return log_softmax(logits if offset is None else logits + offset)


def _record(calibrator: Calibrator, winner: CandidateChain, data: Dataset, *, units: int) -> CalibratorRecord:
    interval = {}
    if isinstance(calibrator, Temperature):
        interval["temperature"] = _interval(calibrator, winner, data, units)
    prior = PRIORS[winner.method] if winner.shrunk else {}
    reasons = {name: "too_few_rows" for name, (_, high) in interval.items() if high is None}
    params = stored(calibrator)
    return CalibratorRecord(
        method=winner.method, params=params, prior=prior, interval=interval, interval_reason=reasons
    )


def _interval(calibrator: Temperature, winner: CandidateChain, data: Dataset, units: int) -> tuple[float, float | None]:
    logits, w, offset = winner.logits, data.weights, winner.offset
    fitted = fit_temperature(logits, data.labels, weights=w, offset=offset, units=units)
    low, high = likelihood_interval(fitted, logits, data.labels, weights=w, offset=offset, groups=data.groups)
    t = calibrator.temperature  # a prior may have moved it beyond the interval of few rows
    return min(low, t), max(high, t) if math.isfinite(high) else None


def _candidates(choice: Choice, chains: dict[str, CandidateChain]) -> dict[str, CandidateRecord]:
    return {
        name: CandidateRecord(
            log_loss=found.mean,
            standard_error=found.standard_error,
            excess=found.excess,
            excess_standard_error=found.excess_standard_error,
            parameters=chains[name].size,
            chosen=name == choice.winner,
        )
        for name, found in choice.candidates.items()
    }


def _warnings(manifest: Manifest, data: Dataset, found: Calibration) -> list[str]:
    counts = units_of_classes(data, len(manifest.graph.classes))
    warnings = of_rows(manifest.graph.classes, counts, units=data.units, grouped=data.groups is not None) | _of_fit(
        found
    )
    warnings |= of_loss(manifest, found.record, inverted=found.inverse is not None)
    warnings |= of_source(unknown=found.source.basis == "unknown", missing=counts.min() == 0)
    return [text for text, holds in warnings.items() if holds]


def _of_fit(found: Calibration) -> dict[str, bool]:
    return {
        f"{SEPARABLE}: {mixture_words(found.support)}": found.status == "separable",
        "out of fold, calibration did not lower the log loss": (
            found.steps != ("identity",) and found.after["log_loss"] >= found.before["log_loss"]
        ),
    }
