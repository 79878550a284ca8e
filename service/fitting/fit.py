"""From a draft and labelled rows to a published, calibrated version."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tomlkit

from service.bundle.manifest import MANIFEST_FILE, Manifest
from service.bundle.record import (
    ClassThreshold,
    EstimationRecord,
    LabelSetsRecord,
    OodDataRecord,
    Provenance,
    Record,
    ScoreRecord,
)
from service.bundle.reference_sample import UNKNOWN
from service.bundle.repository import Bundle, Repository, graph_sha256
from service.bundle.self_test import pack_self_test
from service.bundle.state import State
from service.bundle.writer import publish
from service.core.detector import Detector
from service.core.numerics import Flags, Indices
from service.core.ood.range import outside
from service.data.column_roles import DEFAULT_COLUMNS, Columns
from service.data.dataset import Dataset, read_dataset, read_rows
from service.data.formats import digest_of
from service.data.overlap import Overlap, compare, refuse_overlap
from service.errors import FitError
from service.fitting.calibrate import DEFAULT, FOLDS, Calibration, calibrate
from service.fitting.label_sets import fit_sets, held_out
from service.fitting.multilabel import calibrate_labels, count_labels, detect_labels
from service.fitting.numerical_noise import Noise, measure_noise
from service.fitting.ood_candidates import compare_scores
from service.fitting.ood_detectors import TUNED, Detectors, Judged, Terms, fit_detectors, packed
from service.fitting.prevalence_estimation import check_estimation
from service.fitting.sequence import calibrate_sequences, count_positions, detect_sequences
from service.graph.inspect import check_draft
from service.prediction.bulk import Track, raw_of, untracked
from service.runtime.admission import why_unfit
from service.runtime.model import Model, Raw, load_model, self_test_of

Changes = dict[str, float | bool | list[str]]
"""Keys of `[ood]` that a fit writes into the manifest."""


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
    ood_data : Path or None
        Rows of another population, without labels: scores are judged on them, the default among them where the
        manifest names none, and `nll` gets its temperature.
    columns : Columns
    calibrator : str or None
        In `calibrate.METHODS`; None: `shrinkage`, or for labels Platt scaling with Firth's penalty.
    false_alarm : float or None
        Replaces the manifest's.
    per_class : bool
        Thresholds within every predicted class; written into the manifest, which may say so itself.
    confidence : float or None
        Thresholds hold their false-alarm rate for these very rows with this probability; None: on average.
    label_sets : str
        How sets of labels are made, in `service.core.label_sets.METHODS`.
    seed : int
    allow_overlap : bool
        Fit even where the calibration rows are the training rows.
    """

    data: Path
    train_data: Path | None = None
    ood_data: Path | None = None
    columns: Columns = DEFAULT_COLUMNS
    calibrator: str | None = None
    false_alarm: float | None = None
    per_class: bool = False
    confidence: float | None = None
    label_sets: str = "lac"
    seed: int = 0
    allow_overlap: bool = False


More = tuple[LabelSetsRecord | None, EstimationRecord | None, State]


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
        Calibration rows, positions or presences of every class.
    more : callable
        Label sets and prevalence estimation, where the task has them; takes what the gate says of every row.
    """

    calibrate: Callable[..., Calibration]
    detect: Callable[..., Detectors]
    count: Callable[[Dataset, tuple[str, ...]], dict[str, int]]
    more: Callable[..., More]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What was published, and what its user should know about the rows."""

    name: str
    version: int
    record: Record
    notes: tuple[str, ...] = ()


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
    asked = _asked(request)
    draft = _with(repository.draft(name), asked)
    check_draft(draft)
    model = load_model(dataclasses.replace(draft, record=None, state={}))
    judged = _judge(model, request.data, request.columns, track)
    train = None if request.train_data is None else _judge(model, request.train_data, request.columns, track)
    overlap = None if train is None else compare(judged.data, train.data)
    if overlap is not None and not request.allow_overlap:
        refuse_overlap(overlap)
    if request.ood_data is not None and model.task != "multiclass":
        raise FitError(f"--ood-data compares scores of one class; of a {model.task} model name [ood] scores yourself")
    strangers = None if request.ood_data is None else _read_raw(model, request.ood_data)
    compared = None if strangers is None else _compare(model, judged, train, strangers, request)
    chosen = _chosen(compared)
    draft = _with(draft, chosen)
    _refuse_idle_space(draft.manifest)
    model = dataclasses.replace(model, bundle=dataclasses.replace(draft, record=None, state={}))
    record, state = learn(model, judged, train, request, compared)
    state |= pack_self_test(self_test_of(load_model(dataclasses.replace(draft, record=record, state=state))))
    _write_manifest(draft, asked | chosen)
    version = publish(repository, draft, record=record, state=state)
    return FitResult(name, version, record, _notes(judged, overlap, draft))


def learn(
    model: Model, judged: Judged, train: Judged | None, request: FitRequest, compared: OodDataRecord | None = None
) -> tuple[Record, State]:
    """The record and state of a calibration; nothing is written."""
    learner = _LEARNERS[model.task]
    calibration = learner.calibrate(model.manifest, judged, method=request.calibrator, seed=request.seed)
    noise = measure_noise(model, judged.data, judged.raw, seed=request.seed)
    terms = dataclasses.replace(_terms(model.manifest, request, compared), noise=noise)
    fitted = learner.detect(model.manifest, judged, train, terms)
    flagged = _flags(model, judged, calibration, fitted)
    gate = _gate(flagged, judged, fitted)
    label_sets, estimation, more_state = learner.more(model, judged, calibration, request, noise=noise, gate=gate)
    record = Record(
        status=calibration.status,
        support=calibration.support,
        graph_sha256=graph_sha256(model.bundle.path),
        sections=model.manifest.fingerprints(),
        chain=calibration.steps,
        inverse=calibration.inverse_record,
        calibrator=calibration.record,
        candidates=calibration.candidates,
        source=calibration.source,
        probability_floor=model.manifest.graph.probability_floor,
        scores={d.name: _score_record(d, model.manifest, fitted, request.confidence) for d in fitted.detectors},
        label_sets=label_sets,
        estimation=estimation,
        ood_data=compared,
        labels=calibration.labels,
        sequence=calibration.sequence,
        provenance=_provenance(
            model, judged, train, request, calibration, flag_rate=float(flagged[fitted.rows].mean())
        ),
    )
    return record, packed(fitted.detectors) | more_state


def _notes(judged: Judged, overlap: Overlap | None, draft: Bundle) -> tuple[str, ...]:
    shared = None if overlap is None else overlap.note
    seen: tuple[str, ...] = ()
    if draft.record is not None and overlap is None and judged.data.digest == draft.record.provenance.train_digest:
        seen = ("the calibration rows are the training rows of the version that the draft was made from",)
    return (*judged.data.notes, *seen, *([] if shared is None else [shared]))


def _read_raw(model: Model, path: Path) -> Raw:
    return raw_of(model, read_rows(path, model.manifest, inputs=model.inputs))


def _compare(model: Model, judged: Judged, train: Judged | None, strangers: Raw, request: FitRequest) -> OodDataRecord:
    return compare_scores(
        model.manifest,
        judged,
        train,
        strangers,
        refusal=lambda name: why_unfit(name, model.manifest, model.session, model.inputs),
        digest="" if request.ood_data is None else digest_of(request.ood_data),
        seed=request.seed,
    )


def _terms(manifest: Manifest, request: FitRequest, compared: OodDataRecord | None) -> Terms:
    if compared is None:
        return Terms(request.seed, request.confidence)
    tuned = TUNED in manifest.ood.scores and compared.temperature != 1.0
    return Terms(request.seed, request.confidence, compared.temperature, apart=tuned or bool(_chosen(compared)))


def _refuse_idle_space(manifest: Manifest) -> None:
    if manifest.ood.looks_at_tensor and not manifest.ood.has_feature_scores:
        raise FitError(
            f"[ood] space names {manifest.ood.space!r}, and no score looks at it: list one in [ood] scores, or let "
            "--ood-data choose. Nothing was published"
        )


def _flags(model: Model, judged: Judged, calibration: Calibration, fitted: Detectors) -> Flags:
    chain = dataclasses.replace(
        model.chain,
        detectors=fitted.detectors,
        calibrator=calibration.calibrator,
        calibrated=True,
        inverse=calibration.inverse,
    )
    flagged = dataclasses.replace(model, chain=chain).posterior_of(judged.raw).flagged
    return np.zeros(len(judged.data), dtype=np.bool_) if flagged is None else flagged


def _gate(flagged: Flags, judged: Judged, fitted: Detectors) -> Indices:
    # Rows that the scores learned from are flagged more rarely than new ones; other rows of a held group are new.
    groups = judged.data.groups
    rows = fitted.rows if groups is None else np.flatnonzero(np.isin(groups, groups[fitted.rows]))
    gate = np.full(len(flagged), UNKNOWN, dtype=np.intp)
    gate[rows] = ~flagged[rows]
    return gate


def _calibrate_rows(manifest: Manifest, judged: Judged, *, method: str | None, seed: int) -> Calibration:
    return calibrate(manifest, judged.logits, judged.data, method=method or DEFAULT, seed=seed)


def _count_rows(data: Dataset, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(data.labels, minlength=len(classes)).tolist(), strict=True))


def _from_held_out(
    model: Model, judged: Judged, calibration: Calibration, request: FitRequest, *, noise: Noise, gate: Indices
) -> More:
    held = held_out(model.manifest, calibration, judged.logits, judged.data, seed=request.seed)
    label_sets, set_state = fit_sets(
        judged.logits,
        judged.data,
        model.classes,
        method=request.label_sets,
        band=noise.of_labels(judged.logits, judged.data.labels),
    )
    estimation, estimation_state = check_estimation(held, judged.data, calibration.source, model.classes, gate=gate)
    return label_sets, estimation, set_state | estimation_state


def _score_record(detector: Detector, manifest: Manifest, fitted: Detectors, confidence: float | None) -> ScoreRecord:
    rows = 0 if detector.calibration is None else detector.calibration.n
    return ScoreRecord.model_validate(
        {
            "threshold": detector.threshold,
            "false_alarm": manifest.ood.alpha(detector.name),
            "confidence": confidence,
            "rows": rows,
            "trained_on": fitted.trained_on[detector.name],
            "kept_rows": fitted.kept_rows(detector),
            "band": fitted.bands.get(detector.name),
            "by_class": _class_records(detector, manifest.graph.classes, fitted),
        }
    )


def _class_records(detector: Detector, classes: tuple[str, ...], fitted: Detectors) -> dict[str, ClassThreshold] | None:
    if detector.by_class is None:
        return None
    told = zip(detector.by_class.thresholds.tolist(), detector.by_class.own, fitted.class_rows.tolist(), strict=True)
    found = [ClassThreshold(rows=rows, threshold=value if own else None) for value, own, rows in told]
    return dict(zip(classes, found, strict=True))


def _provenance(
    model: Model,
    judged: Judged,
    train: Judged | None,
    request: FitRequest,
    calibration: Calibration,
    *,
    flag_rate: float,
) -> Provenance:
    data = judged.data
    cells = outside(judged.columns, low=model.chain.low, high=model.chain.high)
    return Provenance(
        rows=len(data),
        class_counts=_LEARNERS[model.task].count(data, model.classes),
        groups=None if data.groups is None else data.units,
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
    data = read_dataset(path, model.manifest, columns, inputs=model.inputs)
    return Judged(data, raw_of(model, data.rows, track=track, place=data.where))


def _asked(request: FitRequest) -> Changes:
    asked: Changes = {} if request.false_alarm is None else {"false_alarm": request.false_alarm}
    return asked | ({"per_class": True} if request.per_class else {})


def _chosen(compared: OodDataRecord | None) -> Changes:
    found = [] if compared is None else [name for name, one in compared.candidates.items() if one.chosen]
    return {"scores": found} if found else {}


def _with(draft: Bundle, changes: Changes) -> Bundle:
    if not changes:
        return draft
    held = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    manifest = draft.manifest.model_copy(update={"ood": draft.manifest.ood.model_copy(update=held)})
    return dataclasses.replace(draft, manifest=manifest)


def _write_manifest(draft: Bundle, changes: Changes) -> None:
    if not changes:
        return
    path = draft.path / MANIFEST_FILE
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document.setdefault("ood", tomlkit.table()).update(changes)
    if "scores" in changes:
        document["ood"]["scores"].comment("chosen by `fit --ood-data`")
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _nothing_more(
    model: Model, judged: Judged, calibration: Calibration, request: FitRequest, *, noise: Noise, gate: Indices
) -> More:
    del model, judged, calibration, request, noise, gate
    return None, None, {}


_LEARNERS: Final[dict[str, Learner]] = {
    "multiclass": Learner(_calibrate_rows, fit_detectors, _count_rows, _from_held_out),
    "multilabel": Learner(calibrate_labels, detect_labels, count_labels, _nothing_more),
    "sequence": Learner(calibrate_sequences, detect_sequences, count_positions, _nothing_more),
}
