"""Responses about the record: what became of reported outcomes, and what is kept of an answer.

Tested in tests/api/v1/test_outcome_routes.py: what is answered fits these.
"""

from typing import Any

from pydantic import BaseModel

from service.monitoring.reported_outcomes import Status
from service.store.entries import Ascertainment


class OutcomeResult(BaseModel):
    """What became of one reported outcome.

    Attributes
    ----------
    prediction_id : str
        As it was sent.
    status : str
        `accepted`; `repeated`, which adds nothing; `contradicting`, which is kept, and differs from another outcome of
        the row; `unknown`, where there is no such prediction of a model that the caller may use; `not-a-class` of the
        version that answered.
    """

    prediction_id: str
    status: Status


class OutcomesAnswer(BaseModel):
    """What became of reported outcomes; what is accepted or contradicting is durable.

    Attributes
    ----------
    accepted, repeated, contradicting, unknown, not_a_class : int
        How many have that status.
    results : list of OutcomeResult
        One of each outcome, in their order.
    """

    accepted: int
    repeated: int
    contradicting: int
    unknown: int
    not_a_class: int
    results: list[OutcomeResult]


class RecordedOutcome(BaseModel):
    """One outcome of a row.

    Attributes
    ----------
    outcome : str, object or list
        A class; of a multilabel model label -> 0, 1 or null; of a sequence a class or null for every position.
    observed_at : str
        When it became known.
    received : str
        When it was reported.
    source : str or None
        Where it is known from.
    ascertainment : str
        Why it is known.
    caller : str
        Who reported it.
    contradicts : bool
        Whether an earlier outcome of the row says something else.
    """

    outcome: Any
    observed_at: str
    received: str
    source: str | None
    ascertainment: Ascertainment
    caller: str
    contradicts: bool


class ChainPlace(BaseModel):
    """Where a record is in the chain.

    Attributes
    ----------
    stream : int
        Of the process that wrote it.
    sequence : int
        In the stream, from 1, without gaps.
    link : str
        SHA-256 over the record and the link before it.
    """

    stream: int
    sequence: int
    link: str


class RecordedRequest(BaseModel):
    """The record of an answered request: what its rows have in common.

    Attributes
    ----------
    id : str
        Of the request.
    created : str
        When it was answered.
    caller : str
        Who sent it.
    x_request_id, traceparent : str or None
        The caller's correlation.
    shadow_of : str or None
        Request whose rows these are, where the answer was not returned.
    rows : int
        How many there are.
    latency_seconds : float
        From the head of the request to the answer.
    key_id : str
        Of the secret that tokens and digests were made with.
    verb : str
        Of `/v1`, or `infer` of `/v2`.
    model, version : str
        Which answered.
    task : str
        `multiclass`, `multilabel` or `sequence`.
    digest, graph_digest : str
        Of the version and of its graph.
    calibration_digest : str or None
        Null of an uncalibrated version.
    policy, site : str or None
        That applied, where it was one.
    prevalence : any
        The target prevalence, where it is known.
    options : object
        Every other option of the request.
    software : object
        Versions of what computed the answer.
    basis_digest : str
        SHA-256 of the basis.
    basis : object
        What else the answer rested on: costs, thresholds, calibration, order of the classes.
    place : ChainPlace
        In the chain.
    """

    id: str
    created: str
    caller: str
    x_request_id: str | None
    traceparent: str | None
    shadow_of: str | None
    rows: int
    latency_seconds: float
    key_id: str
    verb: str
    model: str
    version: str
    task: str
    digest: str
    graph_digest: str
    calibration_digest: str | None
    policy: str | None
    site: str | None
    prevalence: Any
    options: dict[str, Any]
    software: dict[str, Any]
    basis_digest: str
    basis: dict[str, Any]
    place: ChainPlace


class RecordedPrediction(RecordedRequest):
    """The record of one answered row.

    Attributes
    ----------
    prediction_id : str
        The id of the request, a dot, and the number of the row.
    row : int
        Its number, from 0.
    columns : object
        What was computed of the row, by the paths of the members of an answer; `logits` and scores always.
    row_digest : str or None
        Keyed digest of the decoded row.
    id_token, subject_token, group_token : str or None
        Keyed digests of `ids`, `subjects` and `groups`. Clear text is not shown over HTTP.
    outcome : any
        The outcome in force: the one observed last.
    outcomes : list of RecordedOutcome
        All of them, in order of arrival.
    """

    prediction_id: str
    row: int
    columns: dict[str, Any]
    row_digest: str | None
    id_token: str | None
    subject_token: str | None
    group_token: str | None
    outcome: Any
    outcomes: list[RecordedOutcome]
