"""Descriptions of the members of an answer, and how they are resolved for one query.

A `Member` states once where a value stands in the JSON of a row, what it is, and how it is computed for all rows of an
answer. Members that are computed from the same thing form a `Group`. `plan` resolves groups for one query: every name
of a class, score, label or action is then known, and each member is one or more `Column`. Whatever writes answers (JSON
by row, JSON by column, `/v2` tensors, files of `temperance score`, JSON schemas) does so from these, and from nothing
else.

Steps of a path are joined by dots. A step in braces is an axis: inside a group's path, the group is there once for
every name of the axis; at the end of a member's path, the member has a value for every name. A step that ends in ``[]``
is a list: of the positions of a sequence, or of the most probable classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np

from service.core.decision import REASONS
from service.core.numerics import Array, Indices
from service.core.pipeline import Policy
from service.prediction.answer import Answer, Part
from service.prediction.options import Options
from service.runtime.model import Model

Json = dict[str, Any]
S = TypeVar("S")
Kind = Literal["number", "count", "flag", "name", "names", "text", "value"]
ABSENT: Final = -1
"""Index of a name that a row does not have: its JSON then lacks the member, and a column has a null."""


@dataclass(frozen=True, slots=True)
class AnswerScope:
    """What is known of answers before there are rows.

    Attributes
    ----------
    model : Model
    options : Options
    policies : tuple of Policy
        Those that decide; of multilabel models, one for every label that has costs.
    labels : tuple of str
        Of multilabel models: the labels that these policies belong to.
    policy : Policy or None
        The one that a group of decisions belongs to.
    """

    model: Model
    options: Options
    policies: tuple[Policy, ...] = ()
    labels: tuple[str, ...] = ()
    policy: Policy | None = None

    def at(self, place: int) -> "AnswerScope":
        """The same for one of several groups of decisions."""
        return replace(self, policy=self.policies[place]) if place < len(self.policies) else self


def always(scope: AnswerScope) -> bool:
    """Whether a member is there that is always there."""
    del scope
    return True


def nothing(source: object) -> None:
    """Values of a member that is picked from others."""
    del source


@dataclass(frozen=True, slots=True)
class Member(Generic[S]):
    """One member of an answer.

    Attributes
    ----------
    path : str
        Within its group.
    kind : str
        ``number``, ``count`` (a whole number), ``flag``, ``name`` (one of the names of an axis), ``names`` (several of
        them), ``text``, or ``value``: anything that JSON can express.
    about : str
        One sentence for those who read the answer.
    values : callable
        Of the group's source, for all rows: an array of shape (N,), or (N, M) where the path ends in an axis of M
        names. A ``name`` is an array of indices into its axis, `ABSENT` where a row has none; ``names`` are flags of
        shape (N, M); a ``text`` and a ``value`` are lists. A number or a text that is the same for all rows may be one
        float or str. None is null, or `ABSENT`, for all rows. Within a list of positions, N counts the unpadded
        positions; within any other list, arrays have one more axis for its items.
    of : str
        The axis of a ``name`` or of ``names``.
    pick : tuple of str, or None
        Of a number in place of ``values``: path of the member of the same group that has a number for every name of an
        axis, and path of the ``name`` that picks one of them.
    nullable : bool
        Whether it can be null.
    optional : bool
        Whether a row can lack it.
    when : callable
        Whether answers of a scope have it.
    known : callable
        Whether rows of a scope can have a value other than null; where none can, `/v2` has no such output.
    tensor : str or None
        Its name as an output of `/v2`.
    single : bool
        Whether that output holds it in single precision.
    schema : dict
        JSON schema of a ``value``.
    """

    path: str
    kind: Kind
    about: str
    values: Callable[[S], Any] = nothing
    of: str = ""
    pick: tuple[str, str] | None = None
    nullable: bool = False
    optional: bool = False
    when: Callable[[AnswerScope], bool] = always
    known: Callable[[AnswerScope], bool] = always
    tensor: str | None = None
    single: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group(Generic[S]):
    """Members that are computed from the same thing.

    Attributes
    ----------
    path : str
        Of the object that holds them; empty where the row itself does.
    members : tuple of Member
    source : callable
        Of an answer, the parts of it, and the group's place among its axis' names: what members are computed from.
    objects : dict of str to str
        One sentence about every object on the way, by its path.
    when : callable
        Whether answers of a scope have the group.
    positions : bool
        Whether the list in a path is of a sequence's positions.
    optional : bool
        Whether answers can lack it.
    """

    path: str
    members: tuple[Member[S], ...]
    source: Callable[[Answer, Sequence[Part], int], S]
    objects: Mapping[str, str] = field(default_factory=dict)
    when: Callable[[AnswerScope], bool] = always
    positions: bool = False
    optional: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps of the path."""
        return tuple(self.path.split(".")) if self.path else ()

    @property
    def axis(self) -> str | None:
        """The axis in the path."""
        return next((step[1:-1] for step in self.steps if is_axis(step)), None)


@dataclass(frozen=True, slots=True)
class Column:
    """A member of the answers to one query.

    Attributes
    ----------
    member : Member
    path : tuple of str
        Steps, every name filled in; without the axis at the end.
    axis : tuple of str or None
        Names that the member has a value for.
    axis_of : str
        What these are names of.
    names : tuple of str
        Of a ``name`` or of ``names``.
    source : int
        Place among the plan's sources.
    within : int
        How many steps lead to an object or list with templates of its own; 0 where the row holds the member.
    listed : bool
        Whether that is a list.
    positions : bool
        Whether it is a list of a sequence's positions.
    group : str or None
        Which of the group's names it belongs to.
    pick : tuple of int, or None
        As `Member.pick`, places among the plan's columns.
    """

    member: Member[Any]
    path: tuple[str, ...]
    axis: tuple[str, ...] | None
    axis_of: str
    names: tuple[str, ...]
    source: int
    within: int
    listed: bool
    positions: bool
    group: str | None
    pick: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Name of the column."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Plan:
    """The members of the answers to one query.

    Attributes
    ----------
    columns : tuple of Column
    sources : tuple of callable
        What they are computed from, of an answer and its parts.
    readers : tuple of callable and int
        What computes every column, and from which of the sources.
    """

    columns: tuple[Column, ...]
    sources: tuple[Callable[[Answer, Sequence[Part]], Any], ...]
    readers: tuple[tuple[Callable[[Any], Any], int], ...]

    def values(self, answer: Answer, parts: Sequence[Part]) -> list[Any]:
        """`Member.values` of every column; None where it is a pick."""
        sources = [source(answer, parts) for source in self.sources]
        return [read(sources[source]) for read, source in self.readers]

    def all_values(self, answer: Answer, parts: Sequence[Part]) -> list[Any]:
        """As `values`, with the picked numbers, NaN where a row has none."""
        found = self.values(answer, parts)
        return [
            value if column.pick is None else picked(found[column.pick[0]], found[column.pick[1]])
            for column, value in zip(self.columns, found, strict=True)
        ]


def picked(values: Array, index: Indices | None) -> Array | None:
    """One of the numbers of every row, shape (N,); NaN where the index is `ABSENT`, None where it is for all rows.

    Examples
    --------
    >>> picked(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, ABSENT]))
    array([ 2., nan])
    """
    if index is None:
        return None
    chosen: Array = values[np.arange(len(index)), index].astype(np.float64, copy=False)
    chosen[index == ABSENT] = np.nan
    return chosen


def plan(groups: Sequence[Group[Any]], scope: AnswerScope) -> Plan:
    """Resolve descriptions for one query.

    Parameters
    ----------
    groups : sequence of Group
        In the order in which a row has them.
    scope : AnswerScope
    """
    columns: list[Column] = []
    sources: list[Callable[[Answer, Sequence[Part]], Any]] = []
    for group in groups:
        if group.when(scope):
            for place, name in enumerate(_names(group, scope)):
                columns += _picking(_columns(group, scope.at(place), name, len(sources)), len(columns))
                sources.append(_source(group, place))
    readers = [(column.member.values, column.source) for column in columns]
    return Plan(tuple(columns), tuple(sources), tuple(readers))


def put(document: Json, path: Sequence[str], value: Any) -> None:
    """Put a value into a document, and the objects on the way to it.

    Examples
    --------
    >>> document = {"a": {"b": 1}}
    >>> put(document, ["a", "c"], 2)
    >>> document
    {'a': {'b': 1, 'c': 2}}
    """
    *objects, last = path
    for step in objects:
        document = document.setdefault(step, {})
    document[last] = value


def is_axis(step: str) -> bool:
    """Whether a step of a path stands for the names of an axis."""
    return step.startswith("{")


def _names(group: Group[Any], scope: AnswerScope) -> Sequence[str | None]:
    return (None,) if group.axis is None else AXES[group.axis](scope)


def _source(group: Group[Any], place: int) -> Callable[[Answer, Sequence[Part]], Any]:
    return lambda answer, parts: group.source(answer, parts, place)


def _columns(group: Group[Any], scope: AnswerScope, name: str | None, source: int) -> list[Column]:
    return [_column(group, member, scope, name, source) for member in group.members if member.when(scope)]


def _column(group: Group[Any], member: Member[Any], scope: AnswerScope, name: str | None, source: int) -> Column:
    parsed = parse_path(group.path, member.path)
    return Column(
        member,
        parsed.steps if name is None else tuple([name if is_axis(step) else step for step in parsed.steps]),
        tuple(AXES[parsed.axis](scope)) if parsed.axis else None,
        parsed.axis,
        tuple(AXES[member.of](scope)) if member.of else (),
        source,
        parsed.within,
        parsed.listed,
        parsed.listed and group.positions,
        name,
    )


@dataclass(frozen=True, slots=True)
class MemberPath:
    """A member's whole path: bare steps, the axis at its end, and as in `Column` where its object or list is."""

    steps: tuple[str, ...]
    axis: str
    within: int
    listed: bool


@lru_cache(maxsize=1024)  # paths are written down, so there are few
def parse_path(group: str, member: str) -> MemberPath:
    """The path of a member in its group.

    Examples
    --------
    >>> parse_path("decision[]", "risks.{action}")
    MemberPath(steps=('decision', 'risks'), axis='action', within=1, listed=True)
    """
    steps = [*filter(None, group.split(".")), *filter(None, member.split("."))]
    axis = steps.pop()[1:-1] if member and is_axis(steps[-1]) else ""
    lists = [place for place, step in enumerate(steps, 1) if step.endswith("[]")]
    named = [place for place, step in enumerate(steps, 1) if step == "{label}"]
    bare = tuple(step.removesuffix("[]") for step in steps)
    return MemberPath(bare, axis, next(iter(lists or named), 0), bool(lists))


def _picking(columns: Sequence[Column], first: int) -> list[Column]:
    # Columns of one group, those that pick with the places of what they pick from.
    places = {column.member.path: first + i for i, column in enumerate(columns)}
    return [
        column
        if column.member.pick is None
        else replace(column, pick=(places[column.member.pick[0]], places[column.member.pick[1]]))
        for column in columns
    ]


def _actions(scope: AnswerScope) -> Sequence[str]:
    return () if scope.policy is None else scope.policy.actions


def _reasons(scope: AnswerScope) -> Sequence[str]:
    del scope
    return REASONS


def ranged(model: Model) -> list[int]:
    """Places of the columns of numbers that have a plausible range."""
    return np.flatnonzero(np.isfinite(model.chain.low) | np.isfinite(model.chain.high)).tolist()


def _features(scope: AnswerScope) -> Sequence[str]:
    columns = scope.model.inputs.columns
    return [columns[place] for place in ranged(scope.model)]


AXES: Final[dict[str, Callable[[AnswerScope], Sequence[str]]]] = {
    "class": lambda scope: scope.model.classes,
    "score": lambda scope: [detector.name for detector in scope.model.chain.detectors],
    "label": lambda scope: scope.labels,
    "action": _actions,
    "reason": _reasons,
    "feature": _features,
}
