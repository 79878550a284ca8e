"""Answers as records: what is kept of every answered request.

A `RecordPlan` belongs to a query, as its encoder does: what all its answers have in common is written once (`Context`,
`Document`), and the rest is arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.query import Query
from service.prediction.record_basis import basis_json
from service.prediction.record_by_row import Columns, columns_of
from service.prediction.record_columns import KEPT
from service.prediction.record_context import context_of
from service.prediction.record_messages import message_of, messages_of_rows, schema_message
from service.prediction.record_texts import clear_texts, rows_json
from service.prediction.row_bytes import row_bytes
from service.runtime.rows import join
from service.store.entries import TOKEN_BYTES, Context, Document, Prediction
from service.store.keyed_tokens import Tokens
from service.store.seals import ClearText

MOST_VALUES: Final = 1 << 16
"""Logits of one request; of a larger one the `KEPT` most probable classes of every row are kept."""
IDENTITY: Final = "identity"
ALWAYS: Final = ("recorded", "tensors", "ood")
"""Members of every record, whatever the request was for."""


Use = Literal["id", "subject", "group"]
USES: Final[tuple[Use, ...]] = ("id", "subject", "group")
"""Of tokens: the same text has another one for each."""


class Origin(NamedTuple):
    """Where a request came from, and when.

    Attributes
    ----------
    request_id : str
    created : int
        Microseconds since 1970.
    caller : str
    x_request_id, traceparent : str or None
    latency : int
        Microseconds.
    """

    request_id: str
    created: int
    caller: str
    x_request_id: str | None
    traceparent: str | None
    latency: int


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What records of a query have in common.

    Attributes
    ----------
    context : Context
    documents : tuple of Document
        Schema and basis.
    columns : Columns or None
        None where records have no columns.
    """

    context: Context
    documents: tuple[Document, ...]
    columns: Columns | None


class Content(NamedTuple):
    """What is kept of the rows of one request.

    Attributes
    ----------
    recording : Recording
        Holds the context and the documents that go with it.
    rows : int
    columns, row_digests : bytes
    ids, subjects, groups : bytes or None
    key_id : str
    texts : sequence of ClearText
        To be encrypted, `Seals.texts`.
    """

    recording: Recording
    rows: int
    columns: bytes
    row_digests: bytes
    ids: bytes | None
    subjects: bytes | None
    groups: bytes | None
    key_id: str
    texts: Sequence[ClearText] = ()

    def prediction(self, origin: Origin, *, shadow_of: str | None = None) -> Prediction:
        """The record of the request."""
        request_id, created, caller, x_request_id, traceparent, latency = origin
        return Prediction(
            request_id,
            created,
            caller,
            x_request_id,
            traceparent,
            self.rows,
            latency,
            self.recording.context.digest,
            self.columns,
            self.row_digests,
            self.ids,
            self.subjects,
            self.groups,
            self.key_id,
            shadow_of,
        )


class RecordPlan:
    """Makes the records of one query's answers.

    Parameters
    ----------
    query : Query
    verb : str
        As in `Context`.
    topics : sequence of str
        That the verb answers, as `Query.plan`; none for a verb that answers no rows.
    software : str
        JSON, as in `Context`.
    shadow_of : int or None
        The version whose answers were returned, where this one runs beside it.
    """

    def __init__(
        self, query: Query, *, verb: str, topics: Sequence[str], software: str, shadow_of: int | None = None
    ) -> None:
        self._query, self._verb, self._software, self._shadow_of = query, verb, software, shadow_of
        self._topics = _recorded(topics)
        self._recordings: dict[int | None, Recording] = {}
        self._basis: Document | None = None

    @property
    def query(self) -> Query:
        """Whose answers they are."""
        return self._query

    @property
    def has_rows(self) -> bool:
        """Whether the verb answers rows."""
        return self._topics is not None

    def beside(self, query: Query, *, shadow_of: int) -> "RecordPlan":
        """The plan of records of the same verb, by a version that runs beside the one that answers."""
        plan = RecordPlan(query, verb=self._verb, topics=(), software=self._software, shadow_of=shadow_of)
        plan._topics = self._topics  # its own kind
        return plan

    def contents(self, joint: JointAnswer, tokens: Tokens) -> list[Content]:
        """What is kept of every request of a joint answer, in the order of its parts."""
        if self._topics is None:
            return [self._reported(joint, tokens)]
        messages = self._messages(joint)
        digests = tokens.digests(row_bytes(join(joint.rows), self._query.model.inputs))
        return list(_contents(joint, messages, digests, tokens))

    def recording(self, kept: int | None = None) -> Recording:
        """What the records have in common; with so many classes kept of every row, or all."""
        found = self._recordings.get(kept)
        if found is None:
            found = self._recordings[kept] = self._made(kept)
        return found

    def _messages(self, joint: JointAnswer) -> Iterator[tuple[Recording, bytes]]:
        parts, sizes = joint.parts, _sizes(joint)
        whole = self.recording()
        if max(sizes) > MOST_VALUES and len(self._query.model.classes) > KEPT:
            return self._one_by_one(joint, sizes)
        if whole.columns is None:
            raise TypeError("this plan's records have no columns")
        table, rows = whole.columns.table(joint.answer), parts[0].rows
        if table.lengths is None and all(part.rows == rows for part in parts):
            return ((whole, content) for content in messages_of_rows(table.rows, rows))
        return ((whole, message_of(table.part(part))) for part in _slices(joint))

    def _one_by_one(self, joint: JointAnswer, sizes: Sequence[int]) -> Iterator[tuple[Recording, bytes]]:
        for place, size in enumerate(sizes):
            recording = self.recording(KEPT if size > MOST_VALUES else None)
            if recording.columns is not None:
                yield recording, message_of(recording.columns.table(joint.own(place)))

    def _reported(self, joint: JointAnswer, tokens: Tokens) -> Content:
        # Rows that are answered together: one digest is of them all.
        rows = row_bytes(join(joint.rows), self._query.model.inputs)
        digest = tokens.digests([b"".join(rows)])
        return Content(self.recording(), len(rows), b"", digest, None, None, None, tokens.key_id)

    def _made(self, kept: int | None) -> Recording:
        self._basis = self._basis or _document("basis", basis_json(self._query))
        columns = None if self._topics is None else columns_of(self._query, self._topics, kept=kept)
        schema = [] if columns is None else [_document("schema", schema_message(columns.layout))]
        context = context_of(
            self._query,
            verb=self._verb,
            software=self._software,
            kept=kept,
            schema=schema[0].digest if schema else None,
            basis=self._basis.digest,
            shadow_of=self._shadow_of,
        )
        return Recording(context, (*schema, self._basis), columns)


def _recorded(topics: Sequence[str]) -> tuple[str, ...] | None:
    if not topics:
        return None
    return tuple(dict.fromkeys([topic for topic in (*ALWAYS, *topics) if topic != IDENTITY]))


def _sizes(joint: JointAnswer) -> list[int]:
    """Logits of every request."""
    k, lengths = len(joint.query.model.classes), joint.answer.posterior.lengths
    if lengths is None:
        return [k * part.rows for part in joint.parts]
    return [k * int(lengths[rows].sum()) for rows in _slices(joint)]


def _slices(joint: JointAnswer) -> Iterator[slice]:
    end = 0
    for part in joint.parts:
        start, end = end, end + part.rows
        yield slice(start, end)


def _contents(
    joint: JointAnswer, messages: Iterator[tuple[Recording, bytes]], digests: bytes, tokens: Tokens
) -> Iterator[Content]:
    start, key_id, model = 0, tokens.key_id, joint.query.model
    keeps_inputs = model.manifest.record.inputs
    for part, rows, (recording, columns) in zip(joint.parts, joint.rows, messages, strict=True):
        end = start + TOKEN_BYTES * part.rows
        ids, subjects, groups = (
            None if texts is None else tokens.tokens(texts, use) for texts, use in zip(_named(part), USES, strict=True)
        )
        texts = clear_texts(part, tokens, inputs=rows_json(rows, model.inputs) if keeps_inputs else ())
        yield Content(recording, part.rows, columns, digests[start:end], ids, subjects, groups, key_id, texts)
        start = end


def _document(kind: Literal["schema", "basis"], content: bytes) -> Document:
    return Document(sha256(content).digest(), kind, content)


def _named(part: Part) -> tuple[Sequence[str] | None, ...]:
    return part.ids, part.subjects, part.groups
