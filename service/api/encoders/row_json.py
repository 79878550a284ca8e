"""Rows of answers as JSON: one object for every row.

The JSON of rows is compiled once per query into templates: text with places. What is one of few values (a flag, an
action, a reason) chooses the template of a row; all other text fills places; the numbers of all rows become text in one
call. An object or list that has templates of its own (a label's decision, the positions of a sequence) fills one place
of the row.

Tested in tests/api/encoders/test_encoder.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count, repeat
from typing import Any, Final

import numpy as np
import orjson

from service.api.encoders.templates import Template, number_texts, place
from service.core.numerics import Flags, Indices
from service.core.sequence import lengths_of
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import ABSENT, Column, Json, Plan, picked, put

EMPTY: Final = b"[]"
FEW: Final = ("action", "reason")  # of these names, a row's own chooses its template
WIDE: Final = 64  # numbers: of more, rows are filled one by one
MOST_PLACES: Final = 1 << 16  # in the templates of one query
PERHAPS_FIXED: Final = ("number", "flag", "text", "name")  # kinds of members that can be the same for all rows
VARIES: Final = "%varies"
VARYING: Final = frozenset({np.ndarray, list})
MISSING: Final = object()
Texts = list[bytes]
Key = tuple[Any, ...]


class RowWriter:
    """Writes the rows of the answers to one query.

    Parameters
    ----------
    plan : Plan
        Of one policy.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._inner = [_Inner(plan.columns, frame) for frame in _frames(plan.columns)]
        whole = [i for i, column in enumerate(plan.columns) if column.within == 0]
        self._rows = _Frame(plan.columns, whole, 0, {inner.first: inner.path for inner in self._inner})
        self._computed = [(i, *pick) for i, pick in _picks(plan.columns) if not _chooses(plan.columns[pick[1]])]

    def write(self, answer: Answer, parts: Sequence[Part]) -> Texts:
        """JSON of every row.

        Parameters
        ----------
        answer : Answer
            Of the rows of all parts.
        parts : sequence of Part
        """
        found = self._plan.values(answer, parts)
        for i, among, index in self._computed:
            found[i] = picked(found[among], found[index])
        return self._rows.write(found, len(answer), [inner.write(found, answer) for inner in self._inner])


class _Inner:
    """An object or a list within every row that has templates of its own."""

    def __init__(self, columns: Sequence[Column], frame: Sequence[int]) -> None:
        first = columns[frame[0]]
        self.first, self.path = frame[0], first.path[: first.within]
        self._columns, self._listed, self._positions = frame, first.listed, first.positions
        self._items = _Frame(columns, frame, first.within, {})

    def write(self, found: Sequence[Any], answer: Answer) -> Texts:
        """JSON of the object or list of every row."""
        if not self._listed:
            return self._items.write(found, len(answer), [])
        if self._positions:
            lengths = lengths_of(answer.posterior).tolist()
            return _joined(self._items.write(found, sum(lengths), []), lengths)
        rows, length = found[self.first].shape[:2]
        flat = [value.reshape(-1, *value.shape[2:]) if i in self._columns else None for i, value in enumerate(found)]
        return _joined(self._items.write(flat, rows * length, []), [length] * rows)


class _Frame:
    """Objects whose JSON is made of the same templates.

    Parameters
    ----------
    columns : sequence of Column
        All of the plan.
    members : sequence of int
        Places of those that belong to these objects.
    depth : int
        Steps of their paths that lead to the object.
    inner : dict of int to tuple of str
        Paths of what has templates of its own, by the place of its first column.
    """

    def __init__(
        self, columns: Sequence[Column], members: Sequence[int], depth: int, inner: Mapping[int, tuple[str, ...]]
    ) -> None:
        self._perhaps_fixed = [i for i in members if columns[i].member.kind in PERHAPS_FIXED]
        self._variants = lru_cache(maxsize=8)(lambda shape: _Variant(columns, members, depth, inner, shape))
        self._latest: tuple[list[type], _Variant] | None = None

    def write(self, found: Sequence[Any], rows: int, inner: Sequence[Texts]) -> Texts:
        """JSON of every object.

        Parameters
        ----------
        found : sequence
            Values of all columns of the plan.
        rows : int
        inner : sequence of list of bytes
            JSON of what has templates of its own.
        """
        return self._variant(found).write(found, rows, inner)

    def _variant(self, found: Sequence[Any]) -> "_Variant":
        kinds = [*map(type, found)]
        if self._latest is not None and self._latest[0] == kinds and self._latest[1].suits(found):
            return self._latest[1]  # as nearly always: answers to one query are alike
        shape = [VARIES if type(found[i]) in VARYING else found[i] for i in self._perhaps_fixed]
        self._latest = kinds, self._variants(tuple(shape))
        return self._latest[1]


class _Variant:
    """Templates of objects, once it is known which of their members are the same for all of them.

    Parameters
    ----------
    shape : tuple
        What each member in `PERHAPS_FIXED` is for all of them, or `VARIES`.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        members: Sequence[int],
        depth: int,
        inner: Mapping[int, tuple[str, ...]],
        shape: tuple[Any, ...],
    ) -> None:
        self._columns, self._depth, self._inner = columns, depth, inner
        known = [i for i in members if columns[i].member.kind in PERHAPS_FIXED]
        self._fixed = {i: value for i, value in zip(known, shape, strict=True) if value is not VARIES}
        self._fixed_values = [*self._fixed.values()]
        varying = [i for i in members if i not in self._fixed]
        self._numbers = [i for i in varying if columns[i].member.kind == "number"]
        self._keys = [i for i in varying if _chooses(columns[i])]
        texts = [i for i in varying if i not in self._numbers and i not in self._keys]
        self._texts = [(i, TEXTS[columns[i].member.kind](columns[i])) for i in texts]
        self._optional = [i for i in texts if columns[i].member.optional]
        self._order = sorted([*members, *inner])
        self._places, places = self._placed(texts)
        self._template = lru_cache(maxsize=max(1, MOST_PLACES // (1 + places)))(self._compiled)

    def suits(self, found: Sequence[Any]) -> bool:
        """Whether what is the same for all objects is the same here."""
        return [found[i] for i in self._fixed] == self._fixed_values

    def write(self, found: Sequence[Any], rows: int, inner: Sequence[Texts]) -> Texts:
        """JSON of every object; as `_Frame.write`."""
        chosen = [found[i].tolist() for i in self._keys]
        chosen += [[entry is not None for entry in found[i]] for i in self._optional]
        texts = [*(write(found[i]) for i, write in self._texts), *inner]
        numbers = number_texts([found[i] for i in self._numbers], rows)
        keys = zip(*chosen, strict=True) if chosen else repeat((), rows)
        width = len(numbers) // rows
        if rows == 1 or width > WIDE:
            return self._one_by_one(keys, zip(*texts, strict=True) if texts else repeat((), rows), numbers, width)
        return self._together(list(keys), [*texts, *(numbers[k::width] for k in range(width))])

    def _one_by_one(
        self, keys: Iterable[Key], texts: Iterable[Sequence[bytes]], numbers: Sequence[bytes], width: int
    ) -> Texts:
        starts = count(step=width)
        return [
            template.filled([*text, *numbers[start : start + width]])
            for template, text, start in zip(map(self._template, keys), texts, starts, strict=False)
        ]

    def _together(self, keys: Sequence[Key], columns: Sequence[Sequence[bytes]]) -> Texts:
        # Objects with the same template are filled at once, which takes half the time.
        groups: dict[Key, list[int]] = {}
        for row, key in enumerate(keys):
            groups.setdefault(key, []).append(row)
        if len(groups) == 1:
            return self._template(keys[0]).filled_all(columns, len(keys))
        filled = [b""] * len(keys)
        for key, rows in groups.items():
            own = [[column[row] for row in rows] for column in columns]
            for row, text in zip(rows, self._template(key).filled_all(own, len(rows)), strict=True):
                filled[row] = text
        return filled

    def _placed(self, texts: Sequence[int]) -> tuple[dict[int, Any], int]:
        # Places of texts, of what has its own templates, then of numbers: as `write` lines up the values.
        numbers = count()
        places: dict[int, Any] = {i: place(next(numbers)) for i in (*texts, *self._inner)}
        for i in self._numbers:
            axis = self._columns[i].axis
            places[i] = place(next(numbers)) if axis is None else {name: place(next(numbers)) for name in axis}
        return places, next(numbers)

    def _compiled(self, key: Key) -> Template:
        chosen = dict(zip((*self._keys, *self._optional), key, strict=True))
        document: Json = {}
        for i in self._order:
            path = self._inner.get(i) or self._columns[i].path[self._depth :]
            value = self._value(i, chosen)
            if value is not MISSING:
                put(document, path or ("",), value)
        return Template(document.get("", document))

    def _value(self, i: int, chosen: Mapping[int, Any]) -> Any:
        if i in self._inner:
            return self._places[i]
        column = self._columns[i]
        if column.pick is not None and i not in self._numbers:
            return self._picked(*column.pick, chosen)
        if i in self._fixed:
            return MISSING if self._fixed[i] is None and column.member.optional else self._fixed[i]
        if i in self._keys:
            return _named(column, chosen[i])
        return MISSING if chosen.get(i) is False else self._places[i]

    def _picked(self, among: int, index: int, chosen: Mapping[int, Any]) -> Any:
        name = MISSING if index in self._fixed else _named(self._columns[index], chosen[index])
        return MISSING if name is MISSING else self._places[among][name]


def _frames(columns: Sequence[Column]) -> list[list[int]]:
    # Columns of every object or list that has templates of its own.
    frames: dict[tuple[str, ...], list[int]] = {}
    for i, column in enumerate(columns):
        if column.within:
            frames.setdefault(column.path[: column.within], []).append(i)
    return list(frames.values())


def _picks(columns: Sequence[Column]) -> list[tuple[int, tuple[int, int]]]:
    return [(i, column.pick) for i, column in enumerate(columns) if column.pick is not None]


def _joined(items: Texts, lengths: Iterable[int]) -> Texts:
    texts, end = [], 0
    for length in lengths:
        start, end = end, end + length
        texts.append(b"[%b]" % b",".join(items[start:end]))
    return texts


def _chooses(column: Column) -> bool:
    return column.member.kind == "flag" or (column.member.kind == "name" and column.member.of in FEW)


def _named(column: Column, chosen: Any) -> Any:
    if column.member.kind == "flag":
        return chosen
    return MISSING if chosen == ABSENT else column.names[chosen]


def _name_texts(column: Column) -> Callable[[Indices], Texts]:
    encoded = [orjson.dumps(name) for name in column.names]
    return lambda index: [encoded[k] for k in index.tolist()]


def _names_texts(column: Column) -> Callable[[Flags], Texts]:
    @lru_cache(maxsize=1024)
    def text(members: bytes) -> bytes:
        return orjson.dumps([name for name, member in zip(column.names, members, strict=True) if member])

    return lambda flags: [text(row.tobytes()) for row in flags]


def _plain_texts(column: Column) -> Callable[[list[Any]], Texts]:
    del column
    return lambda values: list(map(orjson.dumps, values))


def _count_texts(column: Column) -> Callable[[Indices], Texts]:
    del column
    return lambda counts: [b"%d" % number for number in counts.tolist()]


def _value_texts(column: Column) -> Callable[[list[Any]], Texts]:
    del column
    return lambda values: [EMPTY if value == [] else orjson.dumps(value) for value in values]


TEXTS: Final[dict[str, Callable[[Column], Callable[[Any], Texts]]]] = {
    "name": _name_texts,
    "names": _names_texts,
    "text": _plain_texts,
    "count": _count_texts,
    "value": _value_texts,
}
