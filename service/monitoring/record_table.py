"""Records as rows of a table, with their outcomes: what exports are made of.

Tested in tests/cli/test_audit_export_command.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import orjson

from service.monitoring.truth import in_force
from service.prediction.record_reader import read_records
from service.prediction.record_rows import Row, rows_of
from service.record_errors import StoreDamaged
from service.store.engine import Store
from service.store.entries import TOKEN_BYTES, Context, Outcome, Prediction, Selection
from service.store.seals import Seals

CHUNK: Final = 1000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_TOKEN: Final = bytes(TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """One answered row.

    Attributes
    ----------
    prediction_id : str
    created : datetime
    caller : str
    context : Context
    tokens : dict of str to str
        Of ``id``, ``subject`` and ``group``, in hexadecimal digits, where the row has them.
    texts : dict of str to str
        Clear text of the same, where it can be read.
    members : dict
        Of the answer, as `record_rows.rows_of`.
    outcomes : list of Outcome
        In order of arrival.
    """

    prediction_id: str
    created: datetime
    caller: str
    context: Context
    tokens: dict[str, str]
    members: Row
    outcomes: list[Outcome]
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome | None:
        """The one in force."""
        return in_force(self.outcomes)

    @property
    def entity(self) -> str:
        """Whom the row is about: its subject, or its id, or else itself; clear text where it can be read."""
        for kind in ("subject", "id"):
            if kind in self.tokens or kind in self.texts:
                return self.texts.get(kind) or self.tokens[kind]
        return self.prediction_id


def answered_rows(store: Store, selection: Selection, *, seals: Seals | None = None) -> Iterator[AnsweredRow]:
    """Rows of records, in order of time; records without columns have none.

    Raises
    ------
    StoreUnavailable, StoreDamaged
    """
    contexts = store.contexts(model=selection.model, version=selection.version)
    found = iter(list(store.predictions(selection)))
    while chunk := list(islice(found, CHUNK)):
        outcomes = _by_row(store.outcomes_of([one.request_id for one in chunk]))
        for entry in chunk:
            yield from _rows(store, entry, contexts[entry.context], outcomes, _texts(store, entry, seals))


def time_of(microseconds: int) -> datetime:
    """A time of the record."""
    return EPOCH + timedelta(microseconds=microseconds)


def plain_columns(row: AnsweredRow) -> Row:
    """Columns that every row has, before those of its answer."""
    last, context = row.outcome, row.context
    named: Row = {
        "prediction_id": row.prediction_id,
        "created": row.created,
        "caller": row.caller,
        "model": context.model,
        "version": context.version,
        "verb": context.verb,
        "policy": context.policy,
        "site": context.site,
    }
    named |= {f"{kind}_token": row.tokens.get(kind) for kind in KINDS}
    named |= {kind: text for kind, text in row.texts.items() if kind in KINDS}
    return named | {
        "outcome": None if last is None else _text(orjson.loads(last.truth)),
        "observed_at": None if last is None else time_of(last.observed_at),
        "ascertainment": None if last is None else last.ascertainment,
    }


def _text(truth: Any) -> str:
    return truth if isinstance(truth, str) else orjson.dumps(truth).decode()


def _by_row(outcomes: Iterable[Outcome]) -> dict[tuple[str, int], list[Outcome]]:
    found: dict[tuple[str, int], list[Outcome]] = {}
    for one in outcomes:
        found.setdefault((one.request_id, one.row), []).append(one)
    return found


def _rows(
    store: Store,
    entry: Prediction,
    context: Context,
    outcomes: dict[tuple[str, int], list[Outcome]],
    texts: dict[int, dict[str, str]],
) -> Iterator[AnsweredRow]:
    schema = None if context.schema is None else store.document(context.schema)
    if context.schema is None or not entry.columns:
        return
    if schema is None:
        raise StoreDamaged("a record lacks its schema; `temperance audit verify` shows where")
    for place, members in enumerate(rows_of(read_records([entry], schema))):
        yield AnsweredRow(
            f"{entry.request_id}.{place}",
            time_of(entry.created),
            entry.caller,
            context,
            _tokens(entry, place),
            members,
            outcomes.get((entry.request_id, place), []),
            texts.get(place, {}),
        )


def _tokens(entry: Prediction, place: int) -> dict[str, str]:
    columns = {"id": entry.ids, "subject": entry.subjects, "group": entry.groups}
    cut = slice(place * TOKEN_BYTES, (place + 1) * TOKEN_BYTES)
    own = {kind: tokens[cut] for kind, tokens in columns.items() if tokens}
    return {kind: token.hex() for kind, token in own.items() if token != NO_TOKEN}


def _texts(store: Store, entry: Prediction, seals: Seals | None) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    if seals is not None:
        readable = seals.readable(store.sealed_of(entry.request_id), store.subject_keys(entry.request_id))
        for (row, kind), text in readable.items():
            found.setdefault(row, {})[kind] = text
    return found


KINDS: Final[Sequence[str]] = ("id", "subject", "group")
