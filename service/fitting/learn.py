"""The calibration of a version: every stage learned from labelled rows. Nothing is written."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import EstimationRecord, LabelSetsRecord, OodDataRecord, Record
from service.bundle.reference_sample import UNKNOWN
from service.bundle.state import State
from service.core.numerics import Flags, Indices
from service.data.dataset import Dataset
from service.fitting.calibrate import Calibration, calibrate
from service.fitting.calibration_record import provenance, score_records
from service.fitting.candidate_chains import DEFAULT
from service.fitting.label_sets import fit_sets, held_out
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.multilabel import calibrate_labels, count_labels, detect_labels
from service.fitting.numerical_noise import Noise, measure_noise
from service.fitting.ood_detectors import TUNED, Detectors, Terms, fit_detectors, packed
from service.fitting.prevalence_estimation import check_estimation
from service.fitting.sequence import calibrate_sequences, count_positions, detect_sequences
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to learn, whatever the rows.

    Attributes
    ----------
    calibrator : str or None
    confidence : float or None
    label_sets : str
    seed : int
        All as in `service.fitting.fit.FitRequest`.
    """

    calibrator: str | None
    confidence: float | None
    label_sets: str
    seed: int


Extras = tuple[LabelSetsRecord | None, EstimationRecord | None, State]
"""Label sets and prevalence estimation, with their arrays."""


class Calibrate(Protocol):
    """Fits stages B and C."""

    def __call__(
        self, manifest: Manifest, outputs: LabelledOutputs, /, *, method: str | None, seed: int
    ) -> Calibration:
        """A calibration by the method, or by the task's default."""


class FindExtras(Protocol):
    """Fits label sets, and checks prevalence estimation."""

    def __call__(
        self,
        model: Model,
        outputs: LabelledOutputs,
        calibration: Calibration,
        settings: FitSettings,
        /,
        *,
        noise: Noise,
        gate: Indices,
    ) -> Extras:
        """Both, as far as the task has them."""


@dataclass(frozen=True, slots=True)
class Learner:
    """How a task learns.

    Attributes
    ----------
    calibrate : callable
        Stages B and C.
    detect : callable
        OOD scores with their thresholds.
    count : callable
        Calibration rows, positions or present labels of every class.
    extras : callable
        Label sets and prevalence estimation, where the task has them; takes the gate's answer for every row.
    """

    calibrate: Calibrate
    detect: Callable[[Manifest, LabelledOutputs, LabelledOutputs | None, Terms], Detectors]
    count: Callable[[Dataset, tuple[str, ...]], dict[str, int]]
    extras: FindExtras


def learn(
    model: Model,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    settings: FitSettings,
    compared: OodDataRecord | None,
) -> tuple[Record, State]:
    """Learn every stage.

    Parameters
    ----------
    model : Model
        Uncalibrated.
    outputs : LabelledOutputs
        Calibration rows.
    train : LabelledOutputs or None
        Rows that scores with state learn from.
    settings : FitSettings
    compared : OodDataRecord or None
        OOD scores compared on out-of-distribution rows.

    Returns
    -------
    tuple of Record and State
        `calibration.json` and `state.npz`, the latter without the self-test.
    """
    learner = _LEARNERS[model.task]
    calibration = learner.calibrate(model.manifest, outputs, method=settings.calibrator, seed=settings.seed)
    noise = measure_noise(model, outputs.data, outputs.raw, seed=settings.seed)
    terms = _terms(model.manifest, settings, compared, noise)
    fitted = learner.detect(model.manifest, outputs, train, terms)
    flagged = _flags(model, outputs, calibration, fitted)
    gate = _gate(flagged, outputs, fitted)
    label_sets, estimation, extra_state = learner.extras(model, outputs, calibration, settings, noise=noise, gate=gate)
    counts = learner.count(outputs.data, model.classes)
    flag_rate = float(flagged[fitted.rows].mean())
    record = _record(
        model,
        calibration,
        scores=score_records(fitted, model.manifest, settings.confidence),
        label_sets=label_sets,
        estimation=estimation,
        ood_data=compared,
        provenance=provenance(
            model, outputs, train, calibration, seed=settings.seed, class_counts=counts, flag_rate=flag_rate
        ),
    )
    return record, packed(fitted.detectors) | extra_state


def _record(model: Model, calibration: Calibration, **parts: Any) -> Record:
    return Record(
        status=calibration.status,
        support=calibration.support,
        graph_sha256=model.bundle.graph_sha256,
        sections=model.manifest.fingerprints(),
        chain=calibration.steps,
        inverse=calibration.inverse_record,
        calibrator=calibration.record,
        candidates=calibration.candidates,
        source=calibration.source,
        probability_floor=model.manifest.graph.probability_floor,
        labels=calibration.labels,
        sequence=calibration.sequence,
        **parts,
    )


def _terms(manifest: Manifest, settings: FitSettings, compared: OodDataRecord | None, noise: Noise) -> Terms:
    if compared is None:
        return Terms(settings.seed, settings.confidence, noise=noise)
    tuned = TUNED in manifest.ood.scores and compared.temperature != 1.0
    was_chosen = any(one.chosen for one in compared.candidates.values())
    return Terms(settings.seed, settings.confidence, compared.temperature, apart=tuned or was_chosen, noise=noise)


def _flags(model: Model, outputs: LabelledOutputs, calibration: Calibration, fitted: Detectors) -> Flags:
    chain = dataclasses.replace(
        model.chain,
        detectors=fitted.detectors,
        calibrator=calibration.calibrator,
        calibrated=True,
        inverse=calibration.inverse,
    )
    flagged = dataclasses.replace(model, chain=chain).posterior_of(outputs.raw).flagged
    return np.zeros(len(outputs.data), dtype=np.bool_) if flagged is None else flagged


def _gate(flagged: Flags, outputs: LabelledOutputs, fitted: Detectors) -> Indices:
    # Rows that the scores learned from are flagged more rarely than new rows. Other rows of a held group are new.
    groups = outputs.data.groups
    rows = fitted.rows if groups is None else np.flatnonzero(np.isin(groups, groups[fitted.rows]))
    gate = np.full(len(flagged), UNKNOWN, dtype=np.intp)
    gate[rows] = ~flagged[rows]
    return gate


def _calibrate_rows(manifest: Manifest, outputs: LabelledOutputs, *, method: str | None, seed: int) -> Calibration:
    return calibrate(manifest, outputs.logits, outputs.data, method=method or DEFAULT, seed=seed)


def _count_rows(data: Dataset, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(data.labels, minlength=len(classes)).tolist(), strict=True))


def _sets_and_estimation(
    model: Model,
    outputs: LabelledOutputs,
    calibration: Calibration,
    settings: FitSettings,
    *,
    noise: Noise,
    gate: Indices,
) -> Extras:
    held = held_out(model.manifest, calibration, outputs.logits, outputs.data, seed=settings.seed)
    label_sets, set_state = fit_sets(
        outputs.logits,
        outputs.data,
        model.classes,
        method=settings.label_sets,
        band=noise.of_labels(outputs.logits, outputs.data.labels),
    )
    estimation, estimation_state = check_estimation(held, outputs.data, calibration.source, model.classes, gate=gate)
    return label_sets, estimation, set_state | estimation_state


def _no_extras(
    model: Model,
    outputs: LabelledOutputs,
    calibration: Calibration,
    settings: FitSettings,
    *,
    noise: Noise,
    gate: Indices,
) -> Extras:
    del model, outputs, calibration, settings, noise, gate
    return None, None, {}


_LEARNERS: Final[dict[str, Learner]] = {
    "multiclass": Learner(_calibrate_rows, fit_detectors, _count_rows, _sets_and_estimation),
    "multilabel": Learner(calibrate_labels, detect_labels, count_labels, _no_extras),
    "sequence": Learner(calibrate_sequences, detect_sequences, count_positions, _no_extras),
}
