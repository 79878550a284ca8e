"""Labels of rows, by task: a class for every row, a state for every label, or a class for every position."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from service.core.losses.sequence import PADDING
from service.core.numerics import Flags, Indices
from service.data.cells import bare, is_missing, number_of
from service.errors import DataError, Fault
from service.runtime.rows import counted_from_zero

Values = npt.NDArray[Any]
Key = tuple[str, Any]
MOST_NAMES: Final = 10
GAP: Final = "<NA>"  # a missing text among the labels of a sequence, where the empty one is padding
WAY_OUT: Final = "labels-as names, index0 or index1"
_INDEX: Final = re.compile(r"[+-]?(0|[1-9]\d{0,8})(\.0*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How labels are read; made by `of`.

    Attributes
    ----------
    classes : tuple of str
    places : dict of str to int
        Classes by name.
    numbers : dict of Decimal to (int or None)
        Classes by the number that their name is; None where two names are the same number.
    labels_as : str or None
        ``names``, ``index0`` (indices from 0) or ``index1`` (from 1); None: names, or else indices from 0 where
        nothing else is possible.
    where : str
        How an error names the labels.
    untyped : bool
        Whether text may be a number, as in a CSV file.
    place : callable
        How an error names a row.
    """

    classes: tuple[str, ...]
    places: dict[str, int]
    numbers: dict[Decimal, int | None]
    labels_as: str | None
    where: str
    untyped: bool
    place: Callable[[int], str]

    @classmethod
    def of(
        cls,
        classes: tuple[str, ...],
        labels_as: str | None = None,
        where: str = "labels",
        *,
        untyped: bool = False,
        place: Callable[[int], str] = counted_from_zero,
    ) -> Self:
        """Rules for the classes of a model."""
        numbers: dict[Decimal, int | None] = {}
        for k, name in enumerate(classes):
            if (number := number_of(name)) is not None:
                numbers[number] = None if number in numbers else k  # of two equal numbers, neither is meant
        places = {name: k for k, name in enumerate(classes)}
        return cls(classes, places, numbers, labels_as, where, untyped, place)


@dataclass(frozen=True, slots=True)
class Reading:
    """Labels read.

    Attributes
    ----------
    labels : ndarray of int
    note : str or None
        Which class each index stands for, and how often; None where labels are names.
    """

    labels: Indices
    note: str | None = None


def read_labels(
    values: Sequence[object], classes: tuple[str, ...], *, where: str, labels_as: str | None = None
) -> Indices:
    """Class indices from names or, where there is only one way to read them, from indices.

    Parameters
    ----------
    values : sequence
        Class names; numbers match class names that are the same number, or else are indices from 0, provided that
        no class is named by a number and that they cannot count from 1.
    classes : tuple of str
    where : str
        How an error names the labels.
    labels_as : str, optional
        As in `LabelRules`.

    Raises
    ------
    DataError
        Naming the first row whose label is no class; for numbers, with both readings.
    """
    return interpret(values, LabelRules.of(classes, labels_as, where)).labels


def interpret(values: Sequence[object], rules: LabelRules) -> Reading:
    """Labels of rows with one class each, and how they were read; DataError as `read_labels`."""
    keys = [_key(value) for value in values]
    meaning = _meanings(dict.fromkeys(keys), rules)
    for row, key in enumerate(keys):
        if meaning[key] is None:
            detail = _expected(key, rules)
            fault = Fault(("labels", row), "unknown-class", detail)
            raise DataError(f"{rules.where}: the label of {rules.place(row)} {detail}", [fault])
    labels = np.array([meaning[key] for key in keys], dtype=np.intp)
    return Reading(labels, _note(keys, meaning, rules))


def class_named(value: object, rules: LabelRules) -> int | None:
    """The class whose name a label is, as text or, for classes that are named by numbers, as a number."""
    return _named(_key(value), rules)


def _key(value: object) -> Key:
    """Kind and value of a label: equal labels have equal keys, and 1, 1.0, true and "1" differ in kind."""
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return ("number", value) if value == value else ("missing", None)  # noqa: PLR0124  # NaN alone
    return ("missing", None) if value is None else ("other", type(value).__name__)


def _meanings(keys: dict[Key, None], rules: LabelRules) -> dict[Key, int | None]:
    names = {key: _named(key, rules) for key in keys}
    words = not rules.numbers and all(
        k is not None for k in names.values()
    )  # of --train-data, for example: no index at all
    if rules.labels_as in ("index0", "index1") and not words:
        first = int(rules.labels_as == "index1")
        return {key: _position(_index_of(key, rules, declared=True), first, rules) for key in keys}
    if rules.labels_as == "names" or not names or all(k is not None for k in names.values()):
        return names
    places = {key: _index_of(key, rules) for key in keys}
    whole = [place for place in places.values() if place is not None]
    if rules.numbers or not whole or any(k is not None for k in names.values()):
        return names
    if len(whole) < len(places) or min(whole) < 0 or max(whole) >= len(rules.classes):
        return {key: _position(place, 0, rules) for key, place in places.items()}  # some are none: the first is named
    if min(whole) > 0:
        raise _ambiguous(min(whole), rules)
    return places


def _named(key: Key, rules: LabelRules) -> int | None:
    kind, value = key
    if kind in ("missing", "other"):
        return None
    if kind == "text":
        for text in (value, bare(value)):
            if text in rules.places:
                return rules.places[text]
        number = number_of(value)
    else:
        number = Decimal(int(value)) if kind == "bool" else _exact(value)
    return None if number is None else rules.numbers.get(number)


def _exact(value: float) -> Decimal | None:
    return Decimal(repr(value)) if abs(value) < float("inf") else None


def _index_of(key: Key, rules: LabelRules, *, declared: bool = False) -> int | None:
    """The whole number that a label is, if it may be an index; ``declared``: by labels-as."""
    kind, value = key
    if kind == "text":
        word = bare(value)
        if declared and word.lower() in ("true", "false"):
            return int(word.lower() == "true")
        return int(float(word)) if (rules.untyped or declared) and _INDEX.fullmatch(word) else None
    if kind == "number":
        return int(value) if abs(value) < 2**53 and value == value // 1 else None
    return int(value) if kind == "bool" and declared else None


def _position(index: int | None, first: int, rules: LabelRules) -> int | None:
    return index - first if index is not None and 0 <= index - first < len(rules.classes) else None


def _ambiguous(one: int, rules: LabelRules) -> DataError:
    by_zero, by_one = rules.classes[one], rules.classes[one - 1]
    detail = (
        f"could be indices from 0 ({one} is {by_zero!r}) or from 1 ({one} is {by_one!r}), because no label is 0: "
        "choose with labels-as index0 or index1"
    )
    return DataError(f"{rules.where}: the labels {detail}", [Fault(("labels",), "ambiguous-labels", detail)])


def _expected(key: Key, rules: LabelRules) -> str:
    classes = rules.classes
    names = ", ".join(repr(name) for name in classes[:MOST_NAMES]) + (", …" if len(classes) > MOST_NAMES else "")
    if key[0] == "missing" or (key[0] == "text" and is_missing(key[1])):
        return f"is missing; classes are {names}"
    if rules.labels_as in ("index0", "index1"):
        first = int(rules.labels_as == "index1")
        return f"is no index from {first} to {len(classes) - 1 + first}"
    number = key[0] in ("number", "bool") or (key[0] == "text" and number_of(key[1]) is not None)
    if not number or rules.labels_as == "names":
        return f"is none of the classes {names}"
    if rules.numbers:
        return f"names none of the classes {names}, and is no index because they are named by numbers"
    if _index_of(key, rules) == len(classes):
        return (
            f"is neither one of the classes {names} nor an index from 0 to {len(classes) - 1}; if the labels count "
            "from 1, set labels-as index1"
        )
    return f"is neither one of the classes {names} nor an index from 0 to {len(classes) - 1}; set {WAY_OUT}"


def _note(keys: Sequence[Key], meaning: dict[Key, int | None], rules: LabelRules) -> str | None:
    """Which class each index stands for; None where every label is a name."""
    if rules.labels_as == "names" or all(_named(key, rules) == k for key, k in meaning.items()):
        return None
    counts = Counter(k for key in keys if (k := meaning[key]) is not None)
    first = int(rules.labels_as == "index1")
    found = [f"{k + first} → {rules.classes[k]} {counts[k]}" for k in sorted(counts)]
    more = f", and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return f"labels are indices of classes: {', '.join(found[:MOST_NAMES])}{more}"


def read_presences(
    values: Values, labels: tuple[str, ...], *, where: str, place: Callable[[int], str] = counted_from_zero
) -> Indices:
    """State of every label: 1 where it is present, shape (N, M), from zeros and ones.

    Raises
    ------
    DataError
        Naming the first row with any other value.
    """
    if values.ndim != 2 or values.shape[1] != len(labels):
        shape = " by ".join(map(str, values.shape)) or "a single value"
        raise DataError(f"{where}: labels are {shape}; every row has {len(labels)} zeros and ones, one of each label")
    sound: Flags = (values == 0) | (values == 1)
    if not np.all(sound):
        row, m = (int(index) for index in np.argwhere(~sound)[0])
        found = values[row, m]
        detail = "is missing, and must be 0 or 1" if found is None or found != found else "is neither 0 nor 1"  # noqa: PLR0124
        fault = Fault(("labels", row), "unknown-state", detail)
        raise DataError(f"{where}: {place(row)} {detail} for {labels[m]!r}", [fault])
    return values.astype(np.intp)


def read_positions(values: Values, rules: LabelRules) -> Reading:
    """Class of every position, shape (N, L), -1 behind the end of a sequence.

    Parameters
    ----------
    values : ndarray of shape (N, L), or (N, …), or (N,) of lists
        Names, with an empty one for padding; or numbers as `read_labels` takes them, with -1. Further axes are
        positions too.
    rules : LabelRules

    Raises
    ------
    DataError
        Naming the first sequence at fault.
    """
    if values.ndim < 2 and not _are_lists(values):
        raise DataError(f"{rules.where}: labels are one column; a sequence has a label for every position")
    flat = _padded(values) if values.ndim < 2 else values.reshape(len(values), -1)
    padding: Flags = flat == ("" if flat.dtype.kind in "UO" else PADDING)
    found, which = np.unique(flat[~padding], return_inverse=True)
    keys = [_key(value) for value in found.tolist()]
    meaning = _meanings(dict.fromkeys(keys), rules)
    known = np.array([PADDING if meaning[key] is None else meaning[key] for key in keys], dtype=np.intp)
    labels = np.full(flat.shape, PADDING)
    labels[~padding] = known[which]
    unknown = (labels == PADDING) & ~padding
    if unknown.any():
        row, position = (int(index) for index in np.argwhere(unknown)[0])
        why = _expected(_key(flat[row].tolist()[position]), rules)
        detail = f"has a label that is no class: at position {position} (from 0) it {why}"
        _refuse_sequences(unknown.any(axis=1), detail, rules)
    _refuse_sequences(np.all(padding, axis=1), "has no label", rules)
    _refuse_sequences(np.any(padding[:, :-1] & ~padding[:, 1:], axis=1), "has a label behind its padding", rules)
    every = [key for key, n in zip(keys, np.bincount(which.ravel()).tolist(), strict=True) for _ in range(n)]
    return Reading(labels, _note(every, meaning, rules))


def _are_lists(values: Values) -> bool:
    return values.dtype.kind == "O" and all(isinstance(row, np.ndarray) and row.ndim == 1 for row in values.tolist())


def _padded(values: Values) -> Values:
    rows = values.tolist()
    text = any(row.dtype.kind in "UO" for row in rows)
    flat = np.full((len(rows), max(map(len, rows))), "" if text else PADDING, dtype=object)
    for i, row in enumerate(rows):
        flat[i, : len(row)] = [GAP if label is None else label for label in row.tolist()] if text else row
    return flat.astype(np.str_) if text else flat.astype(np.float64 if _any_float(rows) else np.int64)


def _any_float(rows: Sequence[Values]) -> bool:
    return any(row.dtype.kind == "f" for row in rows)


def _refuse_sequences(bad: Flags, detail: str, rules: LabelRules) -> None:
    if bad.any():
        row = int(bad.argmax())
        fault = Fault(("labels", row), "unknown-class", detail)
        raise DataError(f"{rules.where}: the sequence of {rules.place(row)} {detail}", [fault])
