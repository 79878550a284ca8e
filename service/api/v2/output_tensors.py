"""Tensors that a model answers: the members of an answer that have a tensor's name (`prediction.answer_members`).

Sequences are padded to the longest of the request, and `lengths` has the length of each. With several labels, actions
and risks have a place for every label, in the order of the classes, and risks one for every action of the label that
has most. Where a row has no value, numbers are NaN (null in JSON) and texts are empty.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Self

import numpy as np

from service.api.v2.responses import Output
from service.api.v2.tensors import TEXT, Json, Values
from service.core.numerics import Array, Indices, largest
from service.core.sequence import lengths_of, present
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import AnswerScope, Column, Kind, Member
from service.prediction.options import Options
from service.prediction.query import Query, groups_of, scope_of
from service.runtime.model import Model

TOPICS: Final = ("tensors", "probabilities", "ood_tensors", "ood")  # clients that take the first output get logits
DECISION: Final = ("decision",)
IDENTITY: Final = ("identity",)
VERB: Final = "infer"
PER_CLASS: Final = "{class}"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One tensor that is requested.

    Attributes
    ----------
    name : str
    binary : bool
    classification : int or None
        How many of the largest values, with their classes, stand in for all (the classification extension).
    """

    name: str
    binary: bool
    classification: int | None = None


@dataclass(frozen=True, slots=True)
class OutputNames:
    """Names of the outputs of a model.

    Attributes
    ----------
    always : tuple of str
        Those that need no policy; flags only of a calibrated version.
    decided : tuple of str
        The same, and those of decisions.
    ranked : frozenset of str
        With a number for every class, which the classification extension ranks.
    """

    always: tuple[str, ...]
    decided: tuple[str, ...]
    ranked: frozenset[str]

    @classmethod
    def of(cls, model: Model) -> Self:
        """Names of a model's outputs."""
        ranked = (member for member in _members(model, TOPICS) if member.path.endswith(PER_CLASS))
        return cls(
            _names(_members(model, (*TOPICS, *IDENTITY))),
            _names(_members(model, (*TOPICS, *DECISION, *IDENTITY))),
            frozenset(_names(ranked)),
        )

    def chosen(self, *, decide: bool) -> tuple[str, ...]:
        """All outputs, with those of decisions or without."""
        return self.decided if decide else self.always

    def all(self, *, decide: bool, binary: bool) -> tuple[RequestedOutput, ...]:
        """The outputs of a request that lists none."""
        return tuple(RequestedOutput(name, binary) for name in self.chosen(decide=decide))

    def need_decision(self, names: Iterable[str]) -> bool:
        """Whether one of the names is of decisions."""
        return any(name not in self.always for name in names)


class OutputTensors:
    """The tensors of the answers to one query.

    Parameters
    ----------
    query : Query
    """

    def __init__(self, query: Query) -> None:
        self._model = query.model
        plan, scope = query.plan((*TOPICS, *DECISION, *IDENTITY)), scope_of(query)
        self._sources = plan.sources
        self._columns: dict[str, list[Column]] = {}
        for column in plan.columns:
            if column.member.tensor and column.member.known(scope):
                self._columns.setdefault(column.member.tensor, []).append(column)

    def described(self) -> list[Json]:
        """Names, datatypes and shapes, as metadata lists them; -1 stands for rows and positions."""
        return [self._described(name) for name in self._columns]

    def written(self, requested: Sequence[RequestedOutput], answer: Answer, part: Part) -> list[Output]:
        """The requested ones of an answer to one request."""
        return JointTensors(self, answer, [part]).written(requested, 0)

    def columns(self, name: str) -> list[Column]:
        """What a tensor is made of: one column, or one for every label that has the member."""
        return self._columns[name]

    def source(self, column: Column, answer: Answer, parts: Sequence[Part]) -> Any:
        """What a column is computed from."""
        return self._sources[column.source](answer, parts)

    def _described(self, name: str) -> Json:
        columns = self._columns[name]
        first = columns[0]
        positions = [-1] if first.positions else []
        labels = [] if first.group is None else [len(self._model.classes)]
        return {
            "name": name,
            "datatype": datatype_of(first.member),
            "shape": [-1, *positions, *labels, *_width(columns)],
        }


class JointTensors:
    """The tensors of an answer to several requests: each is made once, when the first of them needs it.

    Parameters
    ----------
    tensors : OutputTensors
    answer : Answer
        Of the rows of all parts, in order.
    parts : sequence of Part
    """

    def __init__(self, tensors: OutputTensors, answer: Answer, parts: Sequence[Part]) -> None:
        self._tensors, self._answer, self._parts = tensors, answer, parts
        self._starts = [0, *accumulate(part.rows for part in parts)]
        self._sources: dict[int, Any] = {}
        self._made: dict[str, Values] = {}

    def written(self, requested: Sequence[RequestedOutput], place: int) -> list[Output]:
        """The requested tensors of one of the requests."""
        rows = slice(self._starts[place], self._starts[place + 1])
        return [self._output(one, rows) for one in requested]

    def _output(self, requested: RequestedOutput, rows: slice) -> Output:
        columns = self._tensors.columns(requested.name)
        if requested.name not in self._made:
            self._made[requested.name] = self._whole(columns)
        values, datatype = self._made[requested.name][rows], datatype_of(columns[0].member)
        if columns[0].positions and len(self._parts) > 1:
            values = values[:, : int(lengths_of(self._answer.posterior)[rows].max())]
        if requested.classification is not None:
            values, datatype = _classification(values, self._answer.model.classes, requested.classification), TEXT
        cells = values.ravel().tolist() if datatype == TEXT else values
        return Output(requested.name, datatype, values.shape, cells, requested.binary)

    def _whole(self, columns: Sequence[Column]) -> Values:
        """Values of all rows."""
        first, padding = columns[0], PADDING[columns[0].member.kind]
        found = [self._values(column) for column in columns]
        values = found[0] if first.group is None else _by_label(columns, found, self._answer.model.classes, padding)
        if first.positions:
            values = _padded(values, lengths_of(self._answer.posterior), padding)
        return values.astype(DTYPES[datatype_of(first.member)], copy=False)

    def _values(self, column: Column) -> Values:
        if column.source not in self._sources:
            self._sources[column.source] = self._tensors.source(column, self._answer, self._parts)
        return MADE[column.member.kind](column, column.member.values(self._sources[column.source]))


def _names(members: Iterable[Member[Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.tensor for member in members if member.tensor))


def _members(model: Model, topics: Sequence[str]) -> Iterator[Member[Any]]:
    scope = AnswerScope(model, Options(VERB))
    for topic in topics:
        for group in groups_of(model.task, (topic,)):
            if group.when(scope) or topic in DECISION:  # whether there are decisions, the caller knows
                yield from (member for member in group.members if member.when(scope) and member.known(scope))


def _by_label(columns: Sequence[Column], found: Sequence[Values], classes: Sequence[str], padding: object) -> Values:
    """Values of every label side by side, in the order of the classes."""
    whole = np.full((len(found[0]), len(classes), *_width(columns)), padding, dtype=found[0].dtype)
    for column, values in zip(columns, found, strict=True):
        own = whole[:, classes.index(column.group or "")]
        own[..., : values.shape[-1]] = values
    return whole


def datatype_of(member: Member[Any]) -> str:
    """Datatype of a member's tensor."""
    return "FP32" if member.single else DATATYPES[member.kind]


def _width(columns: Sequence[Column]) -> tuple[int, ...]:
    """How many values a row, a position or a label has, if it has several."""
    axes = [column.axis or (column.names if column.member.kind == "names" else None) for column in columns]
    sizes = [len(axis) for axis in axes if axis is not None]
    return (max(sizes),) if sizes else ()


def _padded(flat: Values, lengths: Indices, padding: object) -> Values:
    whole = np.full((len(lengths), int(lengths.max()), *flat.shape[1:]), padding, dtype=flat.dtype)
    whole[present(lengths, whole.shape[1])] = flat
    return whole


def _classification(values: Array, classes: Sequence[str], count: int) -> Values:
    """Texts ``value:index:class`` of the largest values along the last axis; empty for padding."""
    rows = values.reshape(-1, values.shape[-1])
    found = [
        ["" if np.isnan(row[k]) else f"{row[k]:f}:{k}:{classes[k]}" for k in places]
        for row, places in zip(rows, largest(rows, count).tolist(), strict=True)
    ]
    return np.array(found, dtype=object).reshape(*values.shape[:-1], -1)


def _as_it_is(column: Column, found: Any) -> Values:
    del column
    values: Values = np.asarray(found)
    return values


def _texts(column: Column, found: Any) -> Values:
    del column
    return np.array(found, dtype=object)


def _named(column: Column, found: Indices) -> Values:
    texts: Values = np.array((*column.names, ""), dtype=object)[found]  # the last is that of `ABSENT`, -1
    return texts


DATATYPES: Final[dict[Kind, str]] = {
    "number": "FP64",
    "count": "INT64",
    "flag": "BOOL",
    "name": TEXT,
    "names": "BOOL",
    "text": TEXT,
}
DTYPES: Final[dict[str, type[Any]]] = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT64": np.int64,
    "BOOL": np.bool_,
    TEXT: np.object_,
}
PADDING: Final[dict[Kind, object]] = {
    "number": np.nan,
    "count": 0,
    "flag": False,
    "name": "",
    "names": False,
    "text": "",
}
MADE: Final[dict[Kind, Callable[[Column, Any], Values]]] = {
    "number": _as_it_is,
    "count": _as_it_is,
    "flag": _as_it_is,
    "name": _named,
    "names": _as_it_is,
    "text": _texts,
}
