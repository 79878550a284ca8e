"""Answers and outcomes of a window, read from the store in blocks of one context.

Undelivered answers are left out, and shadows are read apart. The window is read in chunks; above `MOST_ROWS` rows, or
`MOST_VALUES` probabilities, the latest are kept and the report says how many were not.

Tested in tests/monitoring/test_observed.py.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import orjson

from service.monitoring.recorded_blocks import PartBlock, part_blocks
from service.monitoring.truth import in_force
from service.monitoring.window import Window, moment_text, read_moment
from service.prediction.record_reader import Recorded, read_records
from service.record_errors import StoreDamaged
from service.store.engine import Store
from service.store.entries import TOKEN_BYTES, Context, Document, Outcome, Prediction, Selection

CHUNK: Final = 1000
"""Requests that are read together."""
MOST_ROWS: Final = 200_000
MOST_VALUES: Final = 20_000_000
"""Probabilities: 160 MB."""
NONE: Final = "(none)"
UNDELIVERED: Final = "undelivered"
Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one context."""

    task: str
    classes: tuple[str, ...]
    version: int
    calibration: str
    false_alarm: float | None
    requests: int
    rows: list[Row]
    created: list[int]
    subject: list[tuple[Any, ...]]
    keys: dict[str, list[str]]
    flagged: Any
    outcomes: list[list[Outcome]]
    parts: dict[str, PartBlock]

    @property
    def values(self) -> int:
        """Probabilities that it holds."""
        return sum(part.log_probs.size for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Rows of a context that belong to the window."""

    context: Context
    basis: dict[str, Any]
    recorded: Recorded
    places: list[tuple[Prediction, int]]
    sites: list[str | None]

    @property
    def rows(self) -> list[Row]:
        return [(one.shadow_of or one.request_id, row) for one, row in self.places]

    def some(self, own: list[int]) -> "_Chosen":
        if len(own) == len(self.places):
            return self
        recorded = self.recorded if not own else _some(self.recorded, np.array(own))
        places, sites = [self.places[i] for i in own], [self.sites[i] for i in own]
        return _Chosen(self.context, self.basis, recorded, places, sites)


@dataclass(slots=True)
class _Reading:
    """What was read so far."""

    store: Store
    window: Window
    undelivered: set[str]
    contexts: dict[bytes, Context] = field(default_factory=dict)
    documents: dict[bytes, Document] = field(default_factory=dict)
    bases: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def blocks(self, chunk: Sequence[Prediction]) -> Iterator[Block]:
        kept = [one for one in chunk if self._counts(one)]
        outcomes: dict[Row, list[Outcome]] = {}
        for outcome in self.store.outcomes_of([one.request_id for one in kept]):
            outcomes.setdefault((outcome.request_id, outcome.row), []).append(outcome)
        by_context: dict[bytes, list[Prediction]] = {}
        for one in kept:
            by_context.setdefault(one.context, []).append(one)
        for digest, members in by_context.items():
            block = self._block(self._context(digest), members, outcomes)
            if block is not None:
                yield block

    def _counts(self, one: Prediction) -> bool:
        if not one.columns or (self.window.caller is not None and one.caller != self.window.caller):
            return False
        if (one.shadow_of or one.request_id) in self.undelivered:
            self.left_out[UNDELIVERED] += one.rows
            return False
        return True

    def _block(self, context: Context, members: list[Prediction], outcomes: dict[Row, list[Outcome]]) -> Block | None:
        if context.schema is None:
            return None
        recorded, basis = read_records(members, self._document(context.schema)), self._basis(context.basis)
        places = [(one, row) for one in members for row in range(one.rows)]
        sites = recorded.texts("site") if "site" in recorded else [context.site] * len(recorded)
        chosen = _Chosen(context, basis, recorded, places, sites)
        if self.window.site is not None:
            chosen = chosen.some([i for i, site in enumerate(sites) if site == self.window.site])
        return self._made(chosen, outcomes) if chosen.places else None

    def _made(self, chosen: "_Chosen", outcomes: dict[Row, list[Outcome]]) -> Block:
        recorded, basis = chosen.recorded, chosen.basis
        found = [outcomes.get(row, []) for row in chosen.rows]
        parts = {} if recorded.layout.kept is not None else part_blocks(recorded, basis, _truths(found))
        if not parts:
            why = "without_probabilities" if recorded.layout.kept is None else "top_classes"
            self.left_out[why] += len(found)
        return Block(
            task=chosen.context.task,
            classes=tuple(basis["classes"]),
            version=chosen.context.version,
            calibration=_calibration(basis),
            false_alarm=basis["ood"]["false_alarm"] if basis["ood"]["gate"] else None,
            requests=len({request_id for request_id, _ in chosen.rows}),
            rows=chosen.rows,
            created=[one.created for one, _ in chosen.places],
            subject=[_subject(one, row) for one, row in chosen.places],
            keys=_keys(chosen),
            flagged=recorded.get("ood.flagged"),
            outcomes=found,
            parts=parts,
        )

    def _context(self, digest: bytes) -> Context:
        if digest not in self.contexts:
            found = self.store.context(digest)
            if found is None:
                raise StoreDamaged("a record lacks its context; `temperance audit verify` shows where")
            self.contexts[digest] = found
        return self.contexts[digest]

    def _document(self, digest: bytes) -> Document:
        if digest not in self.documents:
            found = self.store.document(digest)
            if found is None:
                raise StoreDamaged("a record lacks what it rests on; `temperance audit verify` shows where")
            self.documents[digest] = found
        return self.documents[digest]

    def _basis(self, digest: bytes) -> dict[str, Any]:
        if digest not in self.bases:
            self.bases[digest] = orjson.loads(self._document(digest).content)
        return self.bases[digest]


def read_blocks(
    store: Store, model: str, window: Window, *, shadows: bool = False, most_rows: int = MOST_ROWS
) -> tuple[list[Block], int, Counter[str]]:
    """The latest blocks of a window, how many older rows there are, and what was left out.

    Parameters
    ----------
    store : Store
    model : str
    window : Window
    shadows : bool, optional
    most_rows : int, optional

    Raises
    ------
    StoreUnavailable, StoreDamaged
    """
    reading = _Reading(store, window, _undelivered(store))
    since, until = (None if text is None else read_moment(text) for text in (window.since, window.until))
    selection = Selection(model, None if shadows else window.version, since, until, shadows)
    kept: deque[Block] = deque()
    rows, values, more = 0, 0, 0
    for chunk in _chunks(store.predictions(selection)):
        for block in reading.blocks(chunk):
            kept.append(block)
            rows, values = rows + len(block.rows), values + block.values
        while len(kept) > 1 and (rows > most_rows or values > MOST_VALUES):
            oldest = kept.popleft()
            rows, values, more = rows - len(oldest.rows), values - oldest.values, more + len(oldest.rows)
    return list(kept), more, reading.left_out


def _chunks(predictions: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    source = iter(predictions)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _undelivered(store: Store) -> set[str]:
    return {str(orjson.loads(event.detail).get("request_id")) for event in store.events(kind=UNDELIVERED)}


def _calibration(basis: dict[str, Any]) -> str:
    own = basis["calibration"]
    return "uncalibrated" if own is None else f"{own['calibrator']['method']}, {own['status']}"


def _token(tokens: bytes | None, row: int) -> bytes | None:
    own = b"" if tokens is None else tokens[row * TOKEN_BYTES : (row + 1) * TOKEN_BYTES]
    return own if any(own) else None


def _subject(one: Prediction, row: int) -> tuple[Any, ...]:
    token = _token(one.subjects, row)
    return (one.shadow_of or one.request_id, row) if token is None else (one.key_id, token)


def _keys(chosen: _Chosen) -> dict[str, list[str]]:
    recorded, places, context = chosen.recorded, chosen.places, chosen.context
    by_row = "decision.policy" in recorded
    policies = recorded.texts("decision.policy") if by_row else [context.policy] * len(places)
    groups = (_token(one.groups, row) for one, row in places)
    return {
        "site": [site or NONE for site in chosen.sites],
        "caller": [one.caller for one, _ in places],
        "group": [NONE if token is None else token.hex() for token in groups],
        "policy": [policy or NONE for policy in policies],
        "version": [str(context.version)] * len(places),
        "month": [moment_text(one.created)[:7] for one, _ in places],
    }


def _truths(outcomes: Sequence[list[Outcome]]) -> list[Any]:
    forced = (in_force(several) for several in outcomes)
    return [None if outcome is None else orjson.loads(outcome.truth) for outcome in forced]


def _some(recorded: Recorded, rows: Any) -> Recorded:
    """Some of the rows, where a record names a site for each."""
    table = recorded.table
    columns = {kind: values[rows] for kind, values in table.rows.items()}
    if table.lengths is None:
        return Recorded(recorded.layout, type(table)(columns, {}), (len(rows),))
    ends = np.cumsum(table.lengths)
    moved = np.concatenate([np.arange(ends[row] - table.lengths[row], ends[row]) for row in rows])
    inner = {kind: values[moved] for kind, values in table.positions.items()}
    return Recorded(recorded.layout, type(table)(columns, inner, table.lengths[rows]), (len(rows),))
