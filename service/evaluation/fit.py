"""From a draft and labelled rows to a published, calibrated version."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import tomlkit

from service.bundle.manifest import MANIFEST_FILE, Manifest
from service.bundle.record import (
    CalibratorRecord,
    PrevalenceRecord,
    Provenance,
    Record,
    ScoreRecord,
    State,
    pack_score,
)
from service.bundle.repository import Bundle, Repository, graph_sha256
from service.bundle.writer import publish
from service.core import prior
from service.core.calibration import Calibrator
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import TemperatureFit, bootstrap_interval, fit_temperature
from service.core.numerics import Array, Indices, log_softmax
from service.core.ood.range import outside
from service.core.pipeline import Chain, Detector, postprocess
from service.errors import FitError, NoSignal
from service.evaluation.dataset import DEFAULT_COLUMNS, Columns, Dataset, read_dataset
from service.evaluation.detectors import Judged, fit_detectors
from service.evaluation.report import all_metrics
from service.evaluation.scoring import Track, raw_logits, untracked
from service.graph.inspect import check_draft
from service.runtime.model import Model, load_model

FOLDS = 5
FEW_ROWS = 30
FEW_PER_CLASS = 5
METHODS: Final = ("temperature", "identity")


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to learn, from what.

    Attributes
    ----------
    data : Path
        Labelled rows that the model was not trained on, drawn as those that will be judged.
    train_data : Path or None
        Rows it was trained on: scores with fitted state learn from them. Without it they learn from a seeded half
        of ``data``, and thresholds come from the other half.
    columns : Columns
    calibrator : str
    false_alarm : float or None
        Replaces the manifest's.
    seed : int
    """

    data: Path
    train_data: Path | None = None
    columns: Columns = DEFAULT_COLUMNS
    calibrator: str = "temperature"
    false_alarm: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FitResult:
    """What was published."""

    name: str
    version: int
    record: Record


def fit(repository: Repository, name: str, request: FitRequest, *, track: Track = untracked) -> FitResult:
    """Calibrate a model's draft and publish it as the next version.

    Parameters
    ----------
    repository : Repository
    name : str
    request : FitRequest
    track : callable
        Progress over the rows.

    Raises
    ------
    BundleNotFound
        Without a draft.
    ManifestInvalid
        If the draft contradicts its graph.
    DataError
        If the rows do not fit the model.
    NoSignal
        If the logits say nothing about the labels; nothing is published.
    FitError
        If there are fewer rows than the asked false-alarm rate or the fit itself needs; nothing is published.
    """
    draft = _with_false_alarm(repository.draft(name), request.false_alarm)
    check_draft(draft)
    model = load_model(dataclasses.replace(draft, record=None, state={}))
    judged = _judge(model, request.data, request.columns, track)
    train = None if request.train_data is None else _judge(model, request.train_data, request.columns, track)
    record, state = learn(model, judged, train, request)
    _write_manifest(draft, request.false_alarm)
    version = publish(repository, draft, record=record, state=state)
    return FitResult(name, version, record)


def learn(model: Model, judged: Judged, train: Judged | None, request: FitRequest) -> tuple[Record, State]:
    """The record and state of a calibration; nothing is written."""
    calibration = _calibrate(model.manifest, judged, request)
    fitted = fit_detectors(model.manifest, judged, train, seed=request.seed)
    low, high = model.chain.low, model.chain.high
    chain = Chain(fitted.detectors, low, high, model.chain.range_gated, calibration.calibrator, calibrated=True)
    flagged = postprocess(chain, judged.logits[fitted.rows], judged.features[fitted.rows]).flagged
    flag_rate = 0.0 if flagged is None else float(flagged.mean())
    scores = {d.name: _score_record(d, model.manifest, fitted.trained_on[d.name]) for d in fitted.detectors}
    record = Record(
        status=calibration.status,
        graph_sha256=graph_sha256(model.bundle.path),
        sections=model.manifest.fingerprints(),
        chain=(request.calibrator,),
        calibrator=calibration.record,
        source=calibration.source,
        probability_floor=model.manifest.graph.probability_floor,
        scores=scores,
        provenance=_provenance(model, judged, train, request, calibration, flag_rate=flag_rate),
    )
    packed = [pack_score(d.name, d.score, d.calibration) for d in fitted.detectors if d.calibration is not None]
    return record, {key: array for part in packed for key, array in part.items()}


@dataclass(frozen=True, slots=True)
class _Calibration:
    calibrator: Calibrator
    status: Literal["ok", "separable"]
    record: CalibratorRecord
    source: PrevalenceRecord
    before: dict[str, float]
    after: dict[str, float]
    warnings: tuple[str, ...]


def _calibrate(manifest: Manifest, judged: Judged, request: FitRequest) -> _Calibration:
    data, classes = judged.data, manifest.graph.classes
    observed = _frequencies(data, len(classes))
    _check_rows(data, observed, classes)
    declared = declared_prevalence(manifest)
    offset = None if declared is None else _log_ratio(observed, declared)
    fitted = _fit(judged.logits, data.labels, data.weights, offset, request.calibrator)
    if fitted.status == "no_signal":
        raise NoSignal(
            "the true class' logit is on average no larger than chance: the labels do not belong to these rows, the "
            "classes are in another order, or the model learned nothing. Nothing was published"
        )
    calibrator: Calibrator = Identity() if request.calibrator == "identity" else fitted.calibrator
    source = _source(classes, calibrator.apply(judged.logits), observed, declared)
    before = all_metrics(log_softmax(judged.logits), data.labels)
    after = all_metrics(_out_of_fold(judged, offset, request), data.labels)
    record = _calibrator_record(fitted, judged, offset, request)
    warnings = tuple(_warnings(manifest, data, fitted, source, helped=after["log_loss"] < before["log_loss"]))
    return _Calibration(calibrator, fitted.status, record, source, before, after, warnings)


def _check_rows(data: Dataset, observed: Array, classes: tuple[str, ...]) -> None:
    if _units(data) < 2:
        raise FitError("at least two rows (of two groups, if there are groups) are needed. Nothing was published")
    for k in np.unique(data.labels):
        if observed[k] == 0.0:
            raise FitError(f"class {classes[k]!r} has rows, but none with a weight: leave them out, or weigh them")


def declared_prevalence(manifest: Manifest) -> Array | None:
    """Prevalence that the training loss effectively saw: declared shares times class weights, shape (K,), or None."""
    training, classes = manifest.training, manifest.graph.classes
    if training.prevalence is None:
        return None
    shares: Array = np.array([training.prevalence[c] for c in classes], dtype=np.float64)
    if training.class_weights is not None:
        shares = shares * np.array([training.class_weights[c] for c in classes])
    normalised: Array = shares / shares.sum()
    return normalised


def _fit(logits: Array, labels: Indices, weights: Array | None, offset: Array | None, method: str) -> TemperatureFit:
    fitted = fit_temperature(logits, labels, weights=weights, offset=offset)
    if method == "identity":
        return dataclasses.replace(fitted, calibrator=dataclasses.replace(fitted.calibrator, temperature=1.0))
    return fitted


def _out_of_fold(judged: Judged, offset: Array | None, request: FitRequest) -> Array:
    folds = _folds(judged.data, request.seed)
    log_probs = np.empty_like(judged.logits)
    for fold in range(int(folds.max()) + 1):
        held, kept = folds == fold, folds != fold
        weights = None if judged.data.weights is None else judged.data.weights[kept]
        fitted = _fit(judged.logits[kept], judged.data.labels[kept], weights, offset, request.calibrator)
        scaled = judged.logits[held] / fitted.calibrator.temperature
        log_probs[held] = log_softmax(scaled if offset is None else scaled + offset)
    return log_probs


def _folds(data: Dataset, seed: int) -> Indices:
    units = _units(data)
    of_unit = np.random.default_rng(seed).permutation(units) % min(FOLDS, units)
    return of_unit if data.groups is None else of_unit[data.groups]


def _units(data: Dataset) -> int:
    return len(data) if data.groups is None else int(data.groups.max()) + 1


def _frequencies(data: Dataset, k: int) -> Array:
    counts = np.bincount(data.labels, weights=data.weights, minlength=k).astype(np.float64)
    shares: Array = counts / counts.sum()
    return shares


def _log_ratio(observed: Array, declared: Array) -> Array:
    with np.errstate(divide="ignore"):  # a class without rows gets probability zero among these rows
        ratio: Array = np.log(observed / declared)
    return ratio


def _source(classes: tuple[str, ...], log_probs: Array, observed: Array, declared: Array | None) -> PrevalenceRecord:
    if declared is not None:
        return PrevalenceRecord(basis="declared", prevalence=dict(zip(classes, declared.tolist(), strict=True)))
    if observed.min() > 0.0 and prior.mean_agrees(log_probs, observed):
        return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(classes, observed.tolist(), strict=True)))
    return PrevalenceRecord(basis="unknown", prevalence=None)


def _calibrator_record(
    fitted: TemperatureFit, judged: Judged, offset: Array | None, request: FitRequest
) -> CalibratorRecord:
    if request.calibrator == "identity":
        return CalibratorRecord(method="identity", params={})
    data = judged.data
    interval = bootstrap_interval(
        fitted,
        judged.logits,
        data.labels,
        weights=data.weights,
        offset=offset,
        groups=data.groups,
        seed=request.seed,
    )
    params = {"temperature": fitted.calibrator.temperature}
    return CalibratorRecord(method="temperature", params=params, interval={"temperature": interval})


def _warnings(
    manifest: Manifest, data: Dataset, fitted: TemperatureFit, source: PrevalenceRecord, *, helped: bool
) -> list[str]:
    counts = np.bincount(data.labels, minlength=len(manifest.graph.classes))
    rare = [name for name, count in zip(manifest.graph.classes, counts, strict=True) if count < FEW_PER_CLASS]
    found = {
        f"only {len(data)} rows: the temperature is uncertain": len(data) < FEW_ROWS,
        f"fewer than {FEW_PER_CLASS} rows of {', '.join(rare)}": bool(rare),
        "every row is classified right, so no finite temperature is best: it was fitted to smoothed targets and says "
        "little about how wrong the model can be": fitted.status == "separable",
        "out of fold, calibration did not lower the log loss": not helped,
        f"the training loss is {manifest.training.loss!r}: temperature alone only approximates its posterior": (
            manifest.training.loss != "cross_entropy"
        ),
        "the mean calibrated probability disagrees with the class frequencies, so the source prevalence is unknown and "
        "requests for another prevalence will be refused: declare [training] prevalence": source.basis == "unknown",
    }
    return [text for text, holds in found.items() if holds]


def _score_record(detector: Detector, manifest: Manifest, trained_on: str) -> ScoreRecord:
    rows = 0 if detector.calibration is None else detector.calibration.n
    return ScoreRecord.model_validate(
        {
            "threshold": detector.threshold,
            "false_alarm": manifest.ood.alpha(detector.name),
            "rows": rows,
            "trained_on": trained_on,
        }
    )


def _provenance(
    model: Model,
    judged: Judged,
    train: Judged | None,
    request: FitRequest,
    calibration: _Calibration,
    *,
    flag_rate: float,
) -> Provenance:
    data = judged.data
    counts = np.bincount(data.labels, minlength=len(model.classes)).tolist()
    cells = outside(judged.features, low=model.chain.low, high=model.chain.high)
    return Provenance(
        rows=len(data),
        class_counts=dict(zip(model.classes, counts, strict=True)),
        groups=None if data.groups is None else int(data.groups.max()) + 1,
        weighted=data.weights is not None,
        data_digest=data.digest,
        train_rows=None if train is None else len(train.data),
        train_digest=None if train is None else train.data.digest,
        seed=request.seed,
        folds=FOLDS,
        before=calibration.before,
        after_out_of_fold=calibration.after,
        range_rate=float(np.any(cells, axis=1).mean()),
        flag_rate=flag_rate,
        warnings=calibration.warnings,
    )


def _judge(model: Model, path: Path, columns: Columns, track: Track) -> Judged:
    data = read_dataset(path, model.manifest, columns)
    features, logits = raw_logits(model, data.rows, track=track)
    return Judged(data, features, logits)


def _with_false_alarm(draft: Bundle, false_alarm: float | None) -> Bundle:
    if false_alarm is None:
        return draft
    ood = draft.manifest.ood.model_copy(update={"false_alarm": false_alarm})
    return dataclasses.replace(draft, manifest=draft.manifest.model_copy(update={"ood": ood}))


def _write_manifest(draft: Bundle, false_alarm: float | None) -> None:
    if false_alarm is None:
        return
    path = draft.path / MANIFEST_FILE
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document.setdefault("ood", tomlkit.table())["false_alarm"] = false_alarm
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
