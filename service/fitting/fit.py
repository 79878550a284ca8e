"""From a draft and labelled rows to a published, calibrated version."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from service.bundle.binding import bound
from service.bundle.drafts import write_ood
from service.bundle.manifest import Manifest
from service.bundle.record import OodDataRecord, Record
from service.bundle.repository import Bundle, Repository
from service.bundle.self_test import pack_self_test
from service.bundle.stage_test import pack_stage_test
from service.bundle.state import State
from service.bundle.writer import publish
from service.core.ood import SCORES
from service.data.column_roles import DEFAULT_COLUMNS, Columns
from service.data.dataset import read_rows
from service.data.formats import digest_of
from service.data.overlap import Overlap, compare, refuse_overlap
from service.errors import FitError
from service.fitting.labelled_outputs import LabelledOutputs, run_labelled
from service.fitting.learn import FitSettings, learn
from service.fitting.ood_candidates import compare_scores
from service.fitting.self_test_rows import MOST_WORDS, self_test_rows
from service.fitting.stage_vectors import Spread, declared_test, learned_test
from service.graph.inspect import check_draft
from service.graph.loading import load_graph
from service.graph.vocabulary import words_of
from service.prediction.bulk import Track, raw_of, untracked
from service.runtime.admission import why_unfit
from service.runtime.model import Model, load_model, self_test_of
from service.runtime.proofs import Proofs

Changes = dict[str, float | bool | list[str]]
"""Keys of `[ood]` that a fit writes into the manifest."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to learn, from what.

    Attributes
    ----------
    data : Path
        Labelled rows that the model was not trained on, drawn as those that will be outputs.
    train_data : Path or None
        Rows it was trained on: scores with fitted state learn from them. Without it they learn from a seeded half
        of ``data``, and thresholds come from the other half.
    ood_data : Path or None
        Out-of-distribution rows, without labels. OOD scores are compared on them, the default is chosen where the
        manifest names none, and `nll` gets its temperature.
    columns : Columns
    calibrator : str or None
        In `candidate_chains.METHODS`; None: `shrinkage`, or of a multilabel model Platt scaling with Firth's penalty.
    false_alarm : float or None
        Replaces the manifest's.
    per_class : bool
        Thresholds within every predicted class; written into the manifest, which can also declare it.
    confidence : float or None
        Thresholds hold their false-alarm rate for these very rows with this probability; None: on average.
    label_sets : str
        How label sets are made, in `service.core.label_sets.METHODS`.
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

    @property
    def settings(self) -> FitSettings:
        """How to learn, whatever the rows."""
        return FitSettings(self.calibrator, self.confidence, self.label_sets, self.seed)


@dataclass(frozen=True, slots=True)
class FitResult:
    """What was published, and what its user should know about the rows."""

    name: str
    version: int
    record: Record
    notes: tuple[str, ...] = ()


def fit(
    repository: Repository,
    name: str,
    request: FitRequest,
    *,
    track: Track = untracked,
    proofs: Proofs | None = None,
) -> FitResult:
    """Calibrate a model's draft and publish it as the next version.

    Parameters
    ----------
    repository : Repository
    name : str
    request : FitRequest
    track : callable
        Progress over the rows.
    proofs : Proofs, optional
        By which the draft is loaded in a process of its own before it is in this one.

    Raises
    ------
    BundleNotFound
        Without a draft.
    LoadFailed
        If the draft cannot be loaded within the limits of `proofs`.
    ManifestInvalid
        If the draft contradicts its graph.
    DataError
        If the rows do not fit the model.
    NoSignal
        If the logits have no signal about the labels; nothing is published.
    FitError
        If there are fewer rows than the false-alarm rate or the fit itself needs; nothing is published.
    """
    changes = _requested(request)
    draft = _with_ood(repository.draft(name), changes)
    check_draft(draft)
    if proofs is not None:
        proofs.check_draft(repository, name)
    model = load_model(_uncalibrated(draft))
    outputs, train, overlap = _read(model, request, track)
    compared = _compared(model, outputs, train, request)
    changes |= _chosen(compared)
    draft = _with_ood(draft, changes)
    _refuse_unused_space(draft.manifest)
    model = dataclasses.replace(model, bundle=_uncalibrated(draft))
    record, state = learn(model, outputs, train, request.settings, compared)
    state |= self_tests(load_model(dataclasses.replace(draft, record=record, state=state)), outputs)
    record = bound(record, state)
    write_ood(draft.path, changes)
    version = publish(repository, draft, record=record, state=state)
    return FitResult(name, version, record, _notes(outputs, overlap, draft))


def self_tests(model: Model, outputs: LabelledOutputs) -> State:
    """Both parts of the self-test of a fitted model: rows through its graph, and vectors for its stages.

    Parameters
    ----------
    model : Model
    outputs : LabelledOutputs
        Calibration rows; only where their features lie is used.
    """
    looks = any(SCORES[name].needs == "features" for name in model.manifest.ood.scores)
    learned = learned_test(model.stages, Spread.of(outputs.features, outputs.data.labels) if looks else None)
    declared = declared_test(model.stages, learned)
    parts = pack_stage_test("learned", learned) | pack_stage_test("declared", declared)
    words = words_of(load_graph(model.bundle.graph_path), most=MOST_WORDS)
    return pack_self_test(self_test_of(model, self_test_rows(model, words))) | parts


def _read(
    model: Model, request: FitRequest, track: Track
) -> tuple[LabelledOutputs, LabelledOutputs | None, Overlap | None]:
    """Calibration rows, training rows if any, and how many rows they share, which may be refused."""
    outputs = run_labelled(model, request.data, request.columns, track)
    if request.train_data is None:
        return outputs, None, None
    train = run_labelled(model, request.train_data, request.columns, track)
    overlap = compare(outputs.data, train.data)
    if not request.allow_overlap:
        refuse_overlap(overlap)
    return outputs, train, overlap


def _compared(
    model: Model, outputs: LabelledOutputs, train: LabelledOutputs | None, request: FitRequest
) -> OodDataRecord | None:
    """How well every OOD score recognises the rows of ``--ood-data``; None without them."""
    if request.ood_data is None:
        return None
    if model.task != "multiclass":
        raise FitError(f"--ood-data compares scores of one class; of a {model.task} model name [ood] scores yourself")
    return compare_scores(
        model.manifest,
        outputs,
        train,
        raw_of(model, read_rows(request.ood_data, model.manifest, inputs=model.inputs)),
        refusal=lambda name: why_unfit(name, model.manifest, model.session, model.inputs),
        digest=digest_of(request.ood_data),
        seed=request.seed,
    )


def _requested(request: FitRequest) -> Changes:
    found: Changes = {} if request.false_alarm is None else {"false_alarm": request.false_alarm}
    return found | ({"per_class": True} if request.per_class else {})


def _chosen(compared: OodDataRecord | None) -> Changes:
    found = [] if compared is None else [name for name, one in compared.candidates.items() if one.chosen]
    return {"scores": found} if found else {}


def _with_ood(draft: Bundle, changes: Changes) -> Bundle:
    held = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    manifest = draft.manifest.model_copy(update={"ood": draft.manifest.ood.model_copy(update=held)})
    return dataclasses.replace(draft, manifest=manifest)


def _uncalibrated(draft: Bundle) -> Bundle:
    return dataclasses.replace(draft, record=None, state={})


def _refuse_unused_space(manifest: Manifest) -> None:
    if manifest.ood.looks_at_tensor and not manifest.ood.has_feature_scores:
        raise FitError(
            f"[ood] space names {manifest.ood.space!r}, and no score looks at it: list one in [ood] scores, or let "
            "--ood-data choose. Nothing was published"
        )


def _notes(outputs: LabelledOutputs, overlap: Overlap | None, draft: Bundle) -> tuple[str, ...]:
    shared = None if overlap is None else overlap.note
    seen: tuple[str, ...] = ()
    if draft.record is not None and overlap is None and outputs.data.digest == draft.record.provenance.train_digest:
        seen = ("the calibration rows are the training rows of the version that the draft was made from",)
    return (*outputs.data.notes, *seen, *([] if shared is None else [shared]))
