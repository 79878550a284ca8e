"""`calibration.json`: what `fit` learned, from what, and which graph it holds for."""

import dataclasses
import json
import math
from typing import Annotated, Any, Final, Literal, Self

import jiter
import numpy as np
from pydantic import Field, ValidationError, model_validator

from service.bundle.manifest import describe
from service.bundle.record_section import (
    Count,
    Finite,
    NotNegative,
    OwnShare,
    Positive,
    Rate,
    RecordSection,
    Share,
    Units,
)
from service.bundle.refit_record import RefitRecord
from service.bundle.wording import one_line
from service.core.calibration import CALIBRATORS, Calibrator, Map
from service.core.calibration.mixture import Mixed, support
from service.core.inverse import INVERSES, Inverse
from service.core.multilabel import LabelChain, PerLabel
from service.core.smoothing import Transitions
from service.core.state_checks import check_shares
from service.errors import BundleDamaged

RECORD_FILE = "calibration.json"
PER_LABEL = "per_label"
"""Method of a calibration whose every label has its own; `labels` holds them."""

LATER: Final = (
    "support",
    "inverse",
    "candidates",
    "label_sets",
    "estimation",
    "ood_data",
    "labels",
    "sequence",
    "refit",
    "content_sha256",
)
"""Keys younger than schema 1; without a value they are not written, so an old record keeps its bytes and digest."""


def _is_empty(value: object) -> bool:
    return not value


Param = Finite | tuple[Finite, ...] | tuple[tuple[Finite, ...], ...]


class CalibratorRecord(RecordSection):
    """The fitted map; ``params`` are its dataclass fields, arrays as lists.

    An end of null has no bound; ``interval_reason`` gives the reason ("too_few_rows").

    ``prior`` is what it was fitted with: degrees of freedom of Student's t, and its scale for log T and biases.
    """

    method: str
    params: dict[str, Param]
    prior: dict[str, Positive] = Field(default_factory=dict, exclude_if=_is_empty)
    interval: dict[str, tuple[Finite, Finite | None]] = Field(default_factory=dict)
    interval_reason: dict[str, str] = Field(default_factory=dict, exclude_if=_is_empty)
    level: Rate = 0.95


class InverseRecord(RecordSection):
    """The map from what a training loss made of the posterior back to it; ``params`` are its dataclass fields."""

    loss: str
    params: dict[str, Param]


class CandidateRecord(RecordSection):
    """How one chain did on held-out rows, in nats; ``excess`` is what it lost against the best, row by row."""

    log_loss: NotNegative
    standard_error: NotNegative
    excess: Finite
    excess_standard_error: NotNegative
    parameters: Count
    chosen: bool


class PrevalenceRecord(RecordSection):
    """The class prior of the calibrated probabilities, and its basis."""

    basis: Literal["declared", "calibration_rows", "unknown"]
    prevalence: dict[str, OwnShare] | None


class ClassThreshold(RecordSection):
    """What applies to rows predicted to be one class; without a threshold of its own, that of all rows."""

    rows: Count
    threshold: Finite | None


class BandRecord(RecordSection):
    """How far computations of the same score lie apart, and how `fit` knows.

    ``at_threshold`` is the band of the calibration score behind the threshold. ``measured`` is the largest difference
    of what the score looks at between ``paths`` of ``rows`` calibration rows through the model, relative to 1 + its
    size; bands carry ``safety`` times as much. ``tie`` decides when two classes are tied for the predicted one, where
    thresholds go by it.
    """

    at_threshold: NotNegative
    measured: NotNegative
    safety: Positive
    rows: Units
    paths: Units
    tie: NotNegative = 0.0


class ScoreRecord(RecordSection):
    """One score's threshold and what it rests on; ``kept_rows`` is absent where its state holds all it learned from.

    Without ``band`` the model's noise was not measured: `service.core.score_ties.UNMEASURED` stands in.
    """

    threshold: Finite
    false_alarm: Rate
    confidence: Rate | None = None
    rows: Units
    trained_on: Literal["nothing", "train_data", "half_of_calibration_rows", "ood_data"]
    kept_rows: Units | None = None
    by_class: dict[str, ClassThreshold] | None = None
    band: BandRecord | None = None


class OodCandidateRecord(RecordSection):
    """How one score separates rows of ``--ood-data`` from calibration rows, none of which it was fitted on.

    AUROC with its 95 % interval; FPR@95 by both conventions, as in `service.core.assessment.ranking.fpr_at_tpr`.
    """

    auroc: Share
    low: Share
    high: Share
    fpr95_ood_positive: Share
    fpr95_id_positive: Share
    chosen: bool


class OodDataRecord(RecordSection):
    """What ``--ood-data`` was used for: candidates, why others are none, and the temperature of `nll`."""

    rows: Units
    digest: str
    evaluated_rows: Units
    evaluated_ood_rows: Units
    candidates: dict[str, OodCandidateRecord]
    refused: dict[str, str]
    temperature: Positive
    tuning: str
    choice: str


class LabelSetsRecord(RecordSection):
    """How label sets are made, and from how many rows, or groups; ``class_rows`` is absent for many classes.

    Versions without ``scored`` ranked calibrated probabilities, for which no coverage can be proved.
    """

    method: Literal["lac", "aps", "raps"]
    rows: Units
    class_rows: dict[str, Count] | None = None
    scored: Literal["model_output"] | None = None


class EstimationRecord(RecordSection):
    """Whether prevalence can be estimated from unlabelled rows, or what stands against it.

    ``source_error`` holds the standard error of every class' source prevalence: zero where it is declared.
    """

    obstacle: str | None
    condition: Positive | None = None
    source_error: tuple[NotNegative, ...] | None = None


class LabelRecord(RecordSection):
    """Stages B and C of one label, and of how many rows it was present."""

    status: Literal["ok", "separable"]
    chain: tuple[str, ...]
    inverse: InverseRecord | None = None
    calibrator: CalibratorRecord
    candidates: dict[str, CandidateRecord] = Field(default_factory=dict)
    source: PrevalenceRecord
    present: Count
    before: dict[str, Finite]
    after_out_of_fold: dict[str, Finite]


class SequenceRecord(RecordSection):
    """How classes follow each other, which needs a known source prevalence; the smoother of requests that name none."""

    positions: Units
    initial: tuple[OwnShare, ...]
    transitions: tuple[tuple[OwnShare, ...], ...]
    smoother: Literal["hmm", "none"] = "hmm"

    def restored(self) -> Transitions:
        """The chain itself."""
        return Transitions(np.array(self.initial), np.array(self.transitions))


class Provenance(RecordSection):
    """Where a calibration comes from; no clock, user or path."""

    rows: Units
    class_counts: dict[str, Count]
    groups: Units | None = None
    weighted: bool = False
    data_digest: str
    train_rows: Units | None = None
    train_digest: str | None = None
    seed: Annotated[int, Field(ge=0)]
    folds: Units
    before: dict[str, Finite]
    after_out_of_fold: dict[str, Finite]
    range_rate: Share
    flag_rate: Share
    warnings: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Rows, or groups where there are groups."""
        return self.rows if self.groups is None else self.groups


class Record(RecordSection):
    """The whole file.

    ``support`` is 1 / (n + 1), n counting rows, or groups where there are groups: the share of the uniform distribution
    that is mixed into whatever is ``separable``. Versions without it are not mixed. ``content_sha256`` binds the record
    to `state.npz`, as `service.bundle.binding` has it.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    status: Literal["ok", "separable"]
    support: Rate | None = None
    graph_sha256: str
    sections: dict[str, str]
    chain: tuple[str, ...]
    inverse: InverseRecord | None = None
    calibrator: CalibratorRecord
    candidates: dict[str, CandidateRecord] = Field(default_factory=dict)
    source: PrevalenceRecord
    probability_floor: Annotated[float, Field(gt=0.0, lt=0.5)]
    scores: dict[str, ScoreRecord]
    label_sets: LabelSetsRecord | None = None
    estimation: EstimationRecord | None = None
    ood_data: OodDataRecord | None = None
    labels: dict[str, LabelRecord] = Field(default_factory=dict)
    sequence: SequenceRecord | None = None
    provenance: Provenance
    refit: RefitRecord | None = None
    content_sha256: str | None = None

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        shares = {f"labels.{name}.source.prevalence": label.source.prevalence for name, label in self.labels.items()}
        if not self.labels:
            shares["source.prevalence"] = self.source.prevalence
        for name, of_states in shares.items():
            if of_states is not None:
                check_shares(name, list(of_states.values()), None)
        return self

    @model_validator(mode="after")
    def _support_is_that_of_its_rows(self) -> Self:
        exact, own = support(self.provenance.units), self.least_error  # larger where rows have no weight
        if not (self.provenance.weighted and own >= exact) and not math.isclose(own, exact, rel_tol=1e-9):
            raise ValueError("support: must be 1 / (n + 1) of the provenance's rows, or groups")
        return self

    @property
    def least_error(self) -> float:
        """Smallest error probability that the calibration rows support."""
        return support(self.provenance.units) if self.support is None else self.support

    def restored_calibrator(self) -> Map:
        """The map itself, mixed with the uniform distribution where its rows were separable."""
        if not self.labels:
            return self._mixed(restore_calibrator(self.calibrator), self.status)
        return PerLabel(tuple(self._label_chain(label) for label in self.labels.values()))

    def _label_chain(self, label: LabelRecord) -> LabelChain:
        inverse = None if label.inverse is None else restore_inverse(label.inverse)
        return LabelChain(inverse, self._mixed(restore_calibrator(label.calibrator), label.status))

    def _mixed(self, calibrator: Calibrator, status: str) -> Map:
        if status != "separable" or self.support is None:
            return calibrator
        return Mixed(calibrator, self.support)

    def to_json(self) -> str:
        """Text of the file."""
        absent: dict[str, Any] = {name: True for name in LATER if not getattr(self, name)}
        if self.label_sets is not None and self.label_sets.scored is None:
            absent["label_sets"] = {"scored"}
        absent["scores"] = {name: _unset(score) for name, score in self.scores.items()}
        content = self.model_dump(mode="json", by_alias=True, exclude=absent)
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def parse_record(text: str, *, where: str) -> Record:
    """Read a record; BundleDamaged names the key at fault."""
    _check_json(text, where)
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        raise BundleDamaged(f"{where}: {describe(error)}") from None
    if not record.labels:
        _check_calibrator(record.calibrator, f"{where}: calibrator")
        _check_inverse(record.inverse, where)
        return record
    if record.calibrator != CalibratorRecord(method=PER_LABEL, params={}) or record.inverse is not None:
        raise BundleDamaged(f"{where}: calibrator.method must be {PER_LABEL!r} where every label has its own")
    for name, label in record.labels.items():
        _check_calibrator(label.calibrator, f"{where}: labels.{name}.calibrator")
        _check_inverse(label.inverse, f"{where}: labels.{name}")
    return record


def _check_json(text: str, where: str) -> None:
    """Refuse what a parser would read in its own way: a key that is there twice; and nesting beyond its depth."""
    try:
        jiter.from_json(text.encode(), catch_duplicate_keys=True)
    except ValueError as error:
        raise BundleDamaged(f"{where}: it is not strict JSON: {one_line(error)}") from None


def _check_calibrator(calibrator: CalibratorRecord, where: str) -> None:
    if calibrator.method not in CALIBRATORS:
        raise BundleDamaged(f"{where}.method is not one of {', '.join(CALIBRATORS)}")
    expected = _fields(CALIBRATORS[calibrator.method])
    if set(calibrator.params) != set(expected):
        raise BundleDamaged(f"{where}.params must be {', '.join(expected) or 'empty'}")
    try:
        restore_calibrator(calibrator)
    except ValueError as error:
        raise BundleDamaged(f"{where}.params: {error}") from None


def _check_inverse(inverse: InverseRecord | None, where: str) -> None:
    if inverse is None:
        return
    if inverse.loss not in INVERSES:
        raise BundleDamaged(f"{where}: inverse.loss is not one of {', '.join(INVERSES)}")
    known = _fields(INVERSES[inverse.loss])
    if not set(inverse.params) <= set(known):
        raise BundleDamaged(f"{where}: inverse.params must be among {', '.join(known) or 'none'}")
    try:
        restore_inverse(inverse)
    except TypeError:
        raise BundleDamaged(f"{where}: inverse.params must hold {', '.join(known)}") from None
    except ValueError as error:
        raise BundleDamaged(f"{where}: inverse.params: {error}") from None


def restore_inverse(record: InverseRecord) -> Inverse:
    """The map itself."""
    return INVERSES[record.loss](**record.params)


def restore_calibrator(record: CalibratorRecord) -> Calibrator:
    """The map itself."""
    return CALIBRATORS[record.method](**_restored(record.params))


def stored(calibrator: Calibrator) -> dict[str, Param]:
    """A calibrator's dataclass fields as `calibration.json` keeps them."""
    return {name: np.asarray(getattr(calibrator, name)).tolist() for name in _fields(type(calibrator))}


def _restored(params: dict[str, Param]) -> dict[str, Any]:
    return {name: np.asarray(value) if isinstance(value, tuple) else value for name, value in params.items()}


def _fields(kind: type[Calibrator] | type[Inverse]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]  # all are dataclasses


def _unset(score: ScoreRecord) -> set[str]:
    return {key for key in ("confidence", "kept_rows", "by_class", "band") if getattr(score, key) is None}
