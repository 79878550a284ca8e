"""What can turn out to be true of a row, by task: one class, a state of every label, or a class of every position.

It is stored as JSON, with the names of classes: a name, an object of label -> 0, 1 or null, or a list of names and
nulls. Null is what is not known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final, Self

import orjson

from service.data.labels import LabelRules, class_named
from service.store.entries import Outcome

ABSENT: Final = ""
"""What is behind the end of a sequence, where another goes on: no class has this name."""


@dataclass(frozen=True, slots=True)
class Truths:
    """What can turn out to be true of the rows of one version.

    Attributes
    ----------
    task : str
    rules : LabelRules
        Names alone: a number is a class only where classes are named by numbers.
    """

    task: str
    rules: LabelRules

    @classmethod
    def of(cls, task: str, classes: Sequence[str]) -> Self:
        """Of a task and the classes, or labels, of a version."""
        return cls(task, LabelRules.of(tuple(classes), "names"))

    def read(self, value: object, *, positions: int | None = None, untyped: bool = False) -> str | None:
        """What is stored of an outcome as a caller wrote it; None if it cannot be true of such a row.

        Parameters
        ----------
        value : object
            Parsed JSON. Multilabel: an object of label -> 0, 1 or null, where labels may be absent; or a list of the
            labels that are present; or a list of a state for each label.
        positions : int, optional
            Length of the sequence.
        untyped : bool
            Whether lists and objects may be JSON in a text, as in a cell of a file.
        """
        if untyped and self.task != "multiclass" and isinstance(value, str):
            value = _parsed(value)
        found = _READERS[self.task](value, self.rules)
        if found is None or (positions is not None and self.task == "sequence" and len(found) != positions):
            return None
        return orjson.dumps(found).decode()


def contradicts(one: str, other: str) -> bool:
    """Whether two truths of the same row differ in anything that both know.

    Examples
    --------
    >>> contradicts('"benign"', '"malignant"')
    True
    >>> contradicts('{"edema":1,"effusion":null}', '{"edema":1,"effusion":0}')
    False
    """
    if one == other:
        return False
    pairs = _pairs(orjson.loads(one), orjson.loads(other))
    return any(a is not None and b is not None and a != b for a, b in pairs)


def in_force(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome of a row that counts: the one observed last and, of several, the one that arrived last.

    What it does not know of labels or positions is taken from those before it.

    Parameters
    ----------
    outcomes : sequence of Outcome
        All of one row, in order of arrival.
    """
    ordered = sorted(outcomes, key=lambda one: one.observed_at)
    if not ordered:
        return None
    truth = ordered[-1].truth
    for earlier in reversed(ordered[:-1]):
        truth = _completed(truth, earlier.truth)
    return replace(ordered[-1], truth=truth)


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _pairs(one: Any, other: Any) -> list[tuple[Any, Any]]:
    if isinstance(one, dict):
        return [(state, other.get(label)) for label, state in one.items()]
    return list(zip_longest(one, other, fillvalue=ABSENT)) if isinstance(one, list) else [(one, other)]


def _completed(truth: str, earlier: str) -> str:
    if "null" not in truth:
        return truth
    known, before = orjson.loads(truth), orjson.loads(earlier)
    if isinstance(known, dict):
        known = {label: before.get(label) if state is None else state for label, state in known.items()}
    elif isinstance(known, list):
        known = [b if a is None else a for a, b in zip_longest(known, before[: len(known)])]
    return orjson.dumps(known).decode()


def _class(value: object, rules: LabelRules) -> str | None:
    k = class_named(value, rules)
    return None if k is None else rules.classes[k]


def _states(value: object, rules: LabelRules) -> dict[str, int | None] | None:
    if isinstance(value, dict):
        return _named_states(value, rules)
    if not isinstance(value, list):
        return None
    if all(isinstance(entry, str) for entry in value):
        return _present(value, rules)
    if len(value) != len(rules.classes):
        return None
    return _named_states(dict(zip(rules.classes, value, strict=True)), rules)


def _named_states(states: dict[str, object], rules: LabelRules) -> dict[str, int | None] | None:
    known = {label: state for label, state in states.items() if state is not None}
    if not known or not states.keys() <= rules.places.keys() or any(state not in (0, 1) for state in known.values()):
        return None
    return {label: _state(states.get(label)) for label in rules.classes}


def _state(value: Any) -> int | None:
    return None if value is None else int(value)


def _present(names: list[str], rules: LabelRules) -> dict[str, int | None] | None:
    if not rules.places.keys() >= set(names):
        return None
    return {label: int(label in names) for label in rules.classes}


def _positions(value: object, rules: LabelRules) -> list[str | None] | None:
    if not isinstance(value, list) or all(entry is None for entry in value):
        return None
    names = [_class(entry, rules) for entry in value]
    unknown = any(name is None and entry is not None for name, entry in zip(names, value, strict=True))
    return None if unknown else names


_READERS: Final[dict[str, Callable[[object, LabelRules], Any]]] = {
    "multiclass": _class,
    "multilabel": _states,
    "sequence": _positions,
}
