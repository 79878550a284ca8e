"""What is kept: the values of an audit trail.

Times are microseconds since 1970 in UTC, digests are raw bytes of SHA-256, tokens are keyed digests of 16 bytes. What a
caller sent in clear text is in `Sealed` alone, encrypted; everything else is readable in the store.
Tested in tests/store/test_promises.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

TOKEN_BYTES: Final = 16
Ascertainment = Literal["routine", "action", "audit"]
SealedKind = Literal["id", "subject", "group", "input"]


@dataclass(frozen=True, slots=True)
class Document:
    """Content that many records rest on, stored once per digest.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the content.
    kind : str
        ``schema`` (an Arrow schema message) or ``basis`` (JSON: costs, thresholds, calibration, class order).
    content : bytes
    """

    digest: bytes
    kind: Literal["schema", "basis"]
    content: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """What records of the same query have in common, stored once per digest.

    Attributes
    ----------
    digest : bytes
        SHA-256 over all other attributes, by `canonical.context_digest`.
    verb : str
        Of `/v1`, or ``infer`` of `/v2`.
    model : str
    version : int
    bundle_digest, graph_digest, calibration_digest : str
        ``sha256:…``; an uncalibrated version has an empty calibration digest.
    policy : str or None
        Name of the one policy; None where there is none, or several.
    site : str or None
    prevalence : str or None
        JSON: the target prevalence, where it is known.
    options : str
        JSON: every other option of the request.
    software : str
        JSON: versions of Temperance, ONNX Runtime, NumPy, Python.
    task : str
        ``multiclass``, ``multilabel`` or ``sequence``.
    schema : bytes or None
        Digest of the schema of the records' columns; None for records without columns.
    basis : bytes
        Digest of the basis.
    shadow_of : int or None
        The version whose answers were returned, where this one only ran beside it.
    """

    digest: bytes
    verb: str
    model: str
    version: int
    bundle_digest: str
    graph_digest: str
    calibration_digest: str
    policy: str | None
    site: str | None
    prevalence: str | None
    options: str
    software: str
    task: str
    schema: bytes | None
    basis: bytes
    shadow_of: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The record of one answered request.

    Attributes
    ----------
    request_id : str
        UUIDv7; a prediction id is this, a dot and the row's number. Of a shadow: its own.
    created : int
    caller : str
    x_request_id, traceparent : str or None
        The caller's correlation.
    rows : int
    latency : int
        Microseconds from the head of the request to the answer.
    context : bytes
        Digest of its `Context`.
    columns : bytes
        One Arrow record-batch message; empty for verbs that answer no rows.
    row_digests : bytes
        One keyed digest of 16 bytes per decoded row.
    ids, subjects, groups : bytes or None
        One token of 16 bytes per row; of a row without one, zeros.
    key_id : str
        Of the secret that tokens and digests were made with.
    shadow_of : str or None
        Request whose rows these are, of a version that ran beside the one that answered.
    """

    request_id: str
    created: int
    caller: str
    x_request_id: str | None
    traceparent: str | None
    rows: int
    latency: int
    context: bytes
    columns: bytes
    row_digests: bytes
    ids: bytes | None
    subjects: bytes | None
    groups: bytes | None
    key_id: str
    shadow_of: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What an outcome needs to know of the record that it is about; the rest of a record may be large.

    Attributes
    ----------
    request_id : str
    rows : int
    context : bytes
        Digest of its `Context`.
    shadow_of : str or None
        As in `Prediction`.
    """

    request_id: str
    rows: int
    context: bytes
    shadow_of: str | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Clear text of one row, encrypted under the key of its subject; outside the chain.

    Attributes
    ----------
    request_id : str
    row : int
    kind : str
    subject : bytes
        Token of whose key it needs.
    key_id : str
    content : bytes
        Nonce and AES-GCM ciphertext.
    """

    request_id: str
    row: int
    kind: SealedKind
    subject: bytes
    key_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The data key of a subject's clear text in one request, wrapped by the master key; deleting it erases that text.

    Attributes
    ----------
    request_id : str
    subject : bytes
        Token.
    key_id : str
        Of the master key.
    wrapped : bytes
    """

    request_id: str
    subject: bytes
    key_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What turned out to be true of one answered row.

    Attributes
    ----------
    request_id : str
    row : int
    truth : str
        JSON: a class, an object of label -> 0, 1 or null (multilabel), or a list of classes (sequence).
    observed_at : int
        When it became known; the latest one of a prediction is in force.
    received : int
    source : str or None
    ascertainment : str
    caller : str
    contradicts : bool
        Whether an earlier outcome of the row says something else.
    arrival : int
        Place among all outcomes of the store, ascending, in the chain too; 0 until it is stored.
    """

    request_id: str
    row: int
    truth: str
    observed_at: int
    received: int
    source: str | None
    ascertainment: Ascertainment
    caller: str
    contradicts: bool = False
    arrival: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened beside answers and outcomes.

    Attributes
    ----------
    created : int
    kind : str
        ``login-failed``, ``undelivered``, ``erased``, ``pruned``, ``alias``, ``alarm``, ``acknowledged``, ``refit``.
    detail : str
        JSON object; nothing in it identifies a subject.
    """

    created: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The response that an Idempotency-Key is answered with again.

    Attributes
    ----------
    caller : bytes
        Token of the caller and the key.
    owner : str
        Request id that holds the reservation.
    content : bytes
        Encrypted status, media type and body.
    """

    caller: bytes
    owner: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """What is written together, or not at all.

    Attributes
    ----------
    predictions : sequence of Prediction
    contexts : sequence of Context
        Of these predictions; those that the store has are skipped.
    documents : sequence of Document
        Of these contexts; as above.
    sealed : sequence of Sealed
    subject_keys : sequence of SubjectKey
        Of these texts: one for every request and subject.
    outcomes : sequence of Outcome
    events : sequence of Event
    replies : sequence of Reply
    """

    predictions: Sequence[Prediction] = ()
    contexts: Sequence[Context] = ()
    documents: Sequence[Document] = ()
    sealed: Sequence[Sealed] = ()
    subject_keys: Sequence[SubjectKey] = ()
    outcomes: Sequence[Outcome] = ()
    events: Sequence[Event] = ()
    replies: Sequence[Reply] = ()


def entries_of(write: Write) -> Iterator[Prediction | Outcome | Event]:
    """The entries of the chain in a write, in their order."""
    yield from write.predictions
    yield from write.outcomes
    yield from write.events


@dataclass(frozen=True, slots=True)
class Reservation:
    """What stands under an Idempotency-Key.

    Attributes
    ----------
    owner : str
        Request that reserved it.
    fingerprint : bytes
        Of method, route, body and caller.
    content : bytes or None
        As in `Reply`; None while the request is in progress.
    """

    owner: str
    fingerprint: bytes
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which predictions to read.

    Attributes
    ----------
    model : str or None
    version : int or None
    since, until : int or None
        Of when they were answered: from the first, to before the second.
    shadows : bool
        Whether those of shadow versions are read in place of those that were returned.
    """

    model: str | None = None
    version: int | None = None
    since: int | None = None
    until: int | None = None
    shadows: bool = False
