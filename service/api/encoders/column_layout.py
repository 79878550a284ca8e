"""Responses by column, `layout = "columns"`: `columns` holds one array for every member of a row.

Its key is the member's dotted path, as in `ood.scores.nll.p_value`. A member with a value for every class or action has
one array per row, in the order of `classes` or `actions`. Members of a sequence's positions have one entry for every
unpadded position, all sequences one after the other: `lengths` is how many each has. What a row lacks is null.

Numbers go from NumPy to text without becoming Python's. They are the numbers of the rows layout, to the last digit:
what was computed in single precision is widened first, for the shortest text of a single is another number.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import orjson

from service.api.encoders.templates import Template, place
from service.core.sequence import lengths_of
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import ABSENT, Column, Json, Plan
from service.prediction.header import head_of_query, header, session_of, timestamp
from service.prediction.query import Query

FEW_ROWS: Final = 16  # per request: fewer are lists before they are text, since every array costs a microsecond
ROW_ID: Final = "id"  # not in the responses to requests without ids
Values = Any  # a list, or an array that `orjson` writes


class ColumnEncoder:
    """Writes responses by column.

    Parameters
    ----------
    query : Query
    topics : sequence of str
        As `Query.plan`.
    """

    def __init__(self, query: Query, topics: Sequence[str]) -> None:
        self._plans = [own.plan(topics) for own in query.by_policy()]
        self._by_position = any(column.positions for plan in self._plans for column in plan.columns)
        head = header(head_of_query(query, request_id=place(0), created=place(1)))
        axes = {"classes": query.model.classes, **_actions(self._plans)}
        lengths: Json = {"lengths": place(4)} if self._by_position else {}
        session: Json = {} if query.options.session is None else {"session": place(3)}
        self._body = Template({**head, **axes, **lengths, "columns": place(2), **session})

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """Body of every response; as `Encoder.write`."""
        columns, session = self._columns(answer, parts), _json(session_of(answer))
        moment = orjson.dumps(timestamp(created))
        lengths = lengths_of(answer.posterior).tolist() if self._by_position else []
        named = [(column.name, values, column.positions) for column, values in columns]
        unnamed = [entry for entry in named if entry[0] != ROW_ID]
        bodies = []
        for part, rows, positions in zip(parts, *_bounds(parts, lengths), strict=True):
            present = unnamed if part.ids is None else named
            own = {name: values[positions if by_position else rows] for name, values, by_position in present}
            filled = [orjson.dumps(part.request_id), moment, _json(own), session, _json(lengths[rows])]
            bodies.append(self._body.filled(filled))
        return bodies

    def _columns(self, answer: Answer, parts: Sequence[Part]) -> list[tuple[Column, Values]]:
        if len(self._plans) == 1:
            return columns_of(self._plans[0], answer, parts)
        return _by_policy(self._plans, answer, parts[0])


def columns_of(plan: Plan, answer: Answer, parts: Sequence[Part]) -> list[tuple[Column, Values]]:
    """Every column of an answer, one entry per row or position.

    Parameters
    ----------
    plan : Plan
    answer : Answer
    parts : sequence of Part
    """
    few = len(answer) < FEW_ROWS * len(parts)
    found = plan.values(answer, parts) if few else plan.all_values(answer, parts)
    counts = len(answer), 0 if answer.posterior.lengths is None else int(answer.posterior.lengths.sum())
    columns = zip(plan.columns, found, strict=True)
    entries = [_entries(column, values, counts[column.positions]) for column, values in columns]
    return list(zip(plan.columns, _listed_all(plan, found, entries) if few else entries, strict=True))


def _listed_all(plan: Plan, found: Sequence[Any], entries: Sequence[Values]) -> list[Values]:
    listed = [values.tolist() if isinstance(values, np.ndarray) else values for values in entries]
    for i, column in enumerate(plan.columns):
        if column.pick is not None and found[column.pick[1]] is not None:
            rows, index = listed[column.pick[0]], found[column.pick[1]].tolist()
            listed[i] = [None if k == ABSENT else row[k] for row, k in zip(rows, index, strict=True)]
    return listed


def _entries(column: Column, found: Any, count: int) -> Values:
    if found is None or isinstance(found, str | float):
        return [found] * count
    return ENTRIES[column.member.kind](column, found)


def _by_policy(plans: Sequence[Plan], answer: Answer, part: Part) -> list[tuple[Column, Values]]:
    # Rows with a policy each: risks have a null for every action that a row's policy lacks.
    actions = _actions(plans).get("actions", ())
    merged: dict[str, tuple[Column, list[Any]]] = {}
    for plan, own in zip(plans, answer.by_policy(), strict=True):
        places = own.decided[0].rows.tolist()
        for column, values in columns_of(plan, own, [part.of(places)]):
            _, whole = merged.setdefault(column.name, (column, [None] * part.rows))
            for at, value in zip(places, _as_list(values), strict=True):
                whole[at] = _widened(column, value, actions)
    return list(merged.values())


def _widened(column: Column, value: Any, actions: Sequence[str]) -> Any:
    if column.axis is None or column.axis_of != "action":
        return value
    own = dict(zip(column.axis, value, strict=True))
    return [own.get(action) for action in actions]


def _as_list(values: Values) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _bounds(parts: Sequence[Part], lengths: Sequence[int]) -> tuple[list[slice], list[slice]]:
    # Where every part's rows are, and where their positions are.
    rows = [0, *accumulate(part.rows for part in parts)]
    ends = [0, *accumulate(lengths)] if lengths else [0] * (rows[-1] + 1)
    return [slice(*pair) for pair in pairwise(rows)], [slice(ends[a], ends[b]) for a, b in pairwise(rows)]


def _actions(plans: Sequence[Plan]) -> Json:
    # Of all policies; where labels have one each, by label.
    priced = [column for plan in plans for column in plan.columns if column.axis_of == "action"]
    if not priced:
        return {}
    if priced[0].group is not None:
        return {"actions": {column.group: column.axis for column in priced}}
    return {"actions": list(dict.fromkeys(name for column in priced for name in column.axis or ()))}


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _names(column: Column, found: Any) -> Values:
    names = (*column.names, None)  # the last is that of `ABSENT`, -1
    if found.ndim == 1:
        return [names[k] for k in found.tolist()]
    return [[names[k] for k in row] for row in found.tolist()]


def _sets(column: Column, found: Any) -> Values:
    known: dict[bytes, list[str]] = {}
    texts = [row.tobytes() for row in found]
    for text in texts:
        if text not in known:
            known[text] = [name for name, member in zip(column.names, text, strict=True) if member]
    return [known[text] for text in texts]


def _numbers(column: Column, found: Any) -> Values:
    del column
    return np.ascontiguousarray(found, dtype=np.float64)


def _counts(column: Column, found: Any) -> Values:
    del column
    return np.ascontiguousarray(found, dtype=np.int64)


def _flags(column: Column, found: Any) -> Values:
    del column
    return np.ascontiguousarray(found)


def _listed(column: Column, found: Any) -> Values:
    del column
    return found


ENTRIES: Final[dict[str, Callable[[Column, Any], Values]]] = {
    "number": _numbers,
    "count": _counts,
    "flag": _flags,
    "name": _names,
    "names": _sets,
    "text": _listed,
    "value": _listed,
}
