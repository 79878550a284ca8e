"""Tensors that a model answers: those members of an answer that have a tensor's name (`service.prediction.members`).

Sequences are padded to the longest of the request, and `lengths` says where each ends. With several labels, actions and
risks have a place for every label, in the order of the classes, and risks one for every action of the label that has
most. Where a row has no value, numbers are NaN (null in JSON) and texts are empty.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.api.v2.responses import Output
from service.api.v2.tensors import TEXT, Json, Values
from service.core.numerics import Array, Indices, largest
from service.core.sequence import lengths_of, present
from service.prediction.answer import Answer, Part
from service.prediction.member import Column, Kind, Member, Scope
from service.prediction.options import Options
from service.prediction.query import Query, groups_of
from service.runtime.model import Model

TOPICS: Final = ("tensors", "probabilities", "ood")
DECISION: Final = ("decision",)
IDENTITY: Final = ("identity",)
VERB: Final = "infer"
PER_CLASS: Final = "{class}"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One tensor that a request asks for.

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


def output_names(model: Model, *, decide: bool) -> list[str]:
    """Outputs that a model has; decisions need a policy, and flags a calibrated version."""
    topics = (*TOPICS, *(DECISION if decide else ()), *IDENTITY)
    return list(dict.fromkeys(member.tensor for member in _members(model, topics) if member.tensor))


def decision_names(model: Model) -> frozenset[str]:
    """Outputs that need a policy."""
    return frozenset(member.tensor for member in _members(model, DECISION) if member.tensor)


def ranked_names(model: Model) -> frozenset[str]:
    """Outputs with a number for every class, which the classification extension ranks."""
    found = (member for member in _members(model, TOPICS) if member.path.endswith(PER_CLASS))
    return frozenset(member.tensor for member in found if member.tensor)


class OutputTensors:
    """The tensors of the answers to one query.

    Parameters
    ----------
    query : Query
    """

    def __init__(self, query: Query) -> None:
        self._model = query.model
        plan = query.plan((*TOPICS, *DECISION, *IDENTITY))
        self._sources = plan.sources
        self._columns: dict[str, list[Column]] = {}
        for column in plan.columns:
            if column.member.tensor:
                self._columns.setdefault(column.member.tensor, []).append(column)

    def described(self) -> list[Json]:
        """Names, datatypes and shapes, as metadata lists them; -1 stands for rows and positions."""
        names = output_names(self._model, decide=not decision_names(self._model).isdisjoint(self._columns))
        return [self._described(name) for name in names]

    def written(self, requested: Sequence[RequestedOutput], answer: Answer, part: Part) -> list[Output]:
        """The requested ones of an answer to one request."""
        sources: dict[int, Any] = {}
        return [self._output(one, answer, part, sources) for one in requested]

    def _described(self, name: str) -> Json:
        columns = self._columns[name]
        first = columns[0]
        positions = [-1] if first.positions else []
        labels = [] if first.group is None else [len(self._model.classes)]
        return {"name": name, "datatype": _datatype(first.member), "shape": [-1, *positions, *labels, *_width(columns)]}

    def _output(self, requested: RequestedOutput, answer: Answer, part: Part, sources: dict[int, Any]) -> Output:
        columns = self._columns[requested.name]
        datatype, padding = _datatype(columns[0].member), PADDING[columns[0].member.kind]
        found = [self._values(column, answer, part, sources) for column in columns]
        values = found[0] if columns[0].group is None else self._by_label(columns, found, padding)
        if columns[0].positions:
            values = _padded(values, lengths_of(answer.posterior), padding)
        if requested.classification is not None:
            values, datatype = _classification(values, answer.model.classes, requested.classification), TEXT
        if datatype == TEXT:
            return Output(requested.name, datatype, values.shape, values.ravel().tolist(), requested.binary)
        return Output(requested.name, datatype, values.shape, values.astype(DTYPES[datatype]), requested.binary)

    def _values(self, column: Column, answer: Answer, part: Part, sources: dict[int, Any]) -> Values:
        if column.source not in sources:
            sources[column.source] = self._sources[column.source](answer, [part])
        return MADE[column.member.kind](column, column.member.values(sources[column.source]))

    def _by_label(self, columns: Sequence[Column], found: Sequence[Values], padding: object) -> Values:
        """Values of every label side by side, in the order of the classes."""
        whole = np.full((len(found[0]), len(self._model.classes), *_width(columns)), padding, dtype=found[0].dtype)
        for column, values in zip(columns, found, strict=True):
            own = whole[:, self._model.classes.index(column.group or "")]
            own[..., : values.shape[-1]] = values
        return whole


def _members(model: Model, topics: Sequence[str]) -> Iterator[Member[Any]]:
    scope = Scope(model, Options(VERB))
    for topic in topics:
        for group in groups_of(model.task, (topic,)):
            if group.when(scope) or topic in DECISION:  # whether there are decisions, the caller knows
                yield from (member for member in group.members if member.when(scope) and member.known(scope))


def _datatype(member: Member[Any]) -> str:
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
DTYPES: Final = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}
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
