"""Answers as they are documented; tests hold what is sent against them."""

from typing import Any, Final

from pydantic import BaseModel


class CalibrationInfo(BaseModel):
    """How the probabilities were calibrated; `support` is the smallest error probability that the rows speak for."""

    method: str
    status: str
    support: float | None = None


class PrevalenceInfo(BaseModel):
    """Which class prior the probabilities speak of; null where it is unknown, a list where it varies by row."""

    source: dict[str, float] | None
    target: dict[str, float] | list[dict[str, float]] | None
    site: str | list[str] | None


class ScoreInfo(BaseModel):
    """One out-of-distribution score of a row; nulls in an uncalibrated version."""

    score: float
    threshold: float | None
    p_value: float | None
    flagged: bool | None


class OodInfo(BaseModel):
    """Whether a row may be trusted at all."""

    flagged: bool | None
    p_value: float | None
    discovered: bool | None = None
    evidence: list[dict[str, Any]]
    scores: dict[str, ScoreInfo]


class PolicyInfo(BaseModel):
    """Which costs decided."""

    name: str
    source: str


class Overridden(BaseModel):
    """The least-cost action that a flag overruled."""

    action: str
    risk: float


class DecisionInfo(BaseModel):
    """What to do, and why."""

    policy: PolicyInfo
    action: str
    risk: float
    risks: dict[str, float]
    margin: float
    value_of_information: float
    value_of_deferring: float | None = None
    reason: str
    overridden: Overridden | None = None


class TopEntry(BaseModel):
    """One of the most probable classes."""

    label: str
    probability: float


class SetInfo(BaseModel):
    """Labels that hold the true one with a stated probability, if `valid`."""

    labels: list[str]
    coverage: float
    method: str
    valid: bool


class PathInfo(BaseModel):
    """Of a sequence: how often its action changes, at what price, and what all of it is expected to cost."""

    switch: float
    switches: int
    total_risk: float


class PredictionInfo(BaseModel):
    """One answered row; `:predict` has no ood and decision, `:detect` only ood.

    Of labels, `labels` that are likely, and `decisions` by label; of a sequence, lists over its positions.
    """

    prediction_id: str
    id: str | None = None
    label: str | list[str] | None = None
    labels: list[str] | None = None
    probabilities: dict[str, float] | list[dict[str, float]] | None = None
    top: list[TopEntry] | None = None
    set: SetInfo | None = None
    ood: OodInfo | None = None
    decision: DecisionInfo | list[DecisionInfo] | None = None
    decisions: dict[str, DecisionInfo] | None = None
    path: PathInfo | None = None


class SmootherInfo(BaseModel):
    """Of sequences: what let neighbours speak, and whether probabilities are calibrated all the same."""

    name: str
    calibrated: bool
    note: str | None


class Header(BaseModel):
    """What every answer says first."""

    id: str
    created: str
    model: str
    version: str
    digest: str
    calibration: CalibrationInfo
    prevalence: PrevalenceInfo
    smoother: SmootherInfo | None = None


class SessionInfo(BaseModel):
    """A trajectory after these rows, to be sent back with the next ones."""

    model: str
    version: str
    false_alarms_per_1000_steps: float
    statistic: float
    steps: int
    steps_since_in_distribution: int
    alarm: bool


class Answer(Header):
    """Answer of `:predict`, `:detect` and `:decide`; `session` where one was sent."""

    predictions: list[PredictionInfo]
    session: SessionInfo | None = None


class TopColumns(BaseModel):
    """The most probable classes of every row, as places in `classes`, most probable first."""

    index: list[list[int]]
    probability: list[list[float]]


class SetColumns(BaseModel):
    """Which of `classes` belong to every row's set; `valid` where the coverage holds."""

    members: list[list[bool]]
    coverage: float
    method: str
    valid: list[bool]


class ScoreColumns(BaseModel):
    """One out-of-distribution score of all rows; nulls in an uncalibrated version."""

    score: list[float]
    threshold: list[float] | None
    p_value: list[float] | None
    flagged: list[bool] | None


class Finding(BaseModel):
    """Why a row is flagged: a rule, with the features it speaks of, or a score."""

    row: int
    rule: str | None = None
    features: list[str] | None = None
    score: str | None = None


class OodColumns(BaseModel):
    """Whether rows may be trusted at all; `evidence` lists what was found, with its row."""

    flagged: list[bool] | None
    p_value: list[float] | None
    discovered: list[bool] | None = None
    evidence: list[Finding]
    scores: dict[str, ScoreColumns]


class OverriddenColumns(BaseModel):
    """The least-cost actions that a flag overruled, and in which rows."""

    rows: list[int]
    action: list[str]
    risk: list[float]


class DecisionColumns(BaseModel):
    """What one policy decided in `rows`; `risks` has a column for every one of `actions`."""

    policy: PolicyInfo
    actions: list[str]
    rows: list[int]
    action: list[str]
    risk: list[float]
    risks: list[list[float]]
    margin: list[float]
    value_of_information: list[float]
    value_of_deferring: list[float] | None = None
    reason: list[str]
    overridden: OverriddenColumns


class Columns(BaseModel):
    """All answered rows, an array per field; `probabilities` has a column for every one of `classes`."""

    prediction_id: list[str]
    id: list[str] | None = None
    label: list[str] | None = None
    probabilities: list[list[float]] | None = None
    top: TopColumns | None = None
    set: SetColumns | None = None
    ood: OodColumns | None = None
    decisions: list[DecisionColumns] | None = None


class ColumnsAnswer(Header):
    """Answer of `:predict`, `:detect` and `:decide` with `layout = "columns"`; rows are counted from 0."""

    classes: list[str]
    columns: Columns
    session: SessionInfo | None = None


class EvaluateAnswer(Header):
    """Answer of `:evaluate`."""

    evaluation: dict[str, Any]


class ShareInfo(BaseModel):
    """Share of one class, with its interval."""

    share: float
    low: float
    high: float


class MethodEstimateInfo(BaseModel):
    """What one method estimates; `differs` from the source beyond noise."""

    prevalence: dict[str, ShareInfo]
    differs: bool
    settled: bool


class RowsEstimateInfo(BaseModel):
    """Estimates from some of the rows, of the population that all of them come from."""

    rows: int
    em: MethodEstimateInfo
    bbse: MethodEstimateInfo


class EstimateInfo(BaseModel):
    """Prevalence of the population of the rows; the alarm changes no answer.

    `obstacle` says why there is no estimate from unflagged rows, where there is none.
    """

    alarm: bool
    condition: float
    level: float
    flagged: int
    all_rows: RowsEstimateInfo
    unflagged_rows: RowsEstimateInfo | None
    obstacle: str | None = None


class EstimateAnswer(Header):
    """Answer of `:estimate`."""

    estimate: EstimateInfo


class ProblemEntry(BaseModel):
    """One place at fault."""

    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemEntry] | None = None


class ModelList(BaseModel):
    """The served models.

    Attributes
    ----------
    models : list of str
        Their names.
    """

    models: list[str]


PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
