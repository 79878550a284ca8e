"""What labels are: names first, numbers by the number they are, indices only where nothing else is possible."""

from typing import Any

import numpy as np
import pytest

from service.data.labels import LabelRules, Reading, interpret, read_positions, read_presences
from service.errors import DataError

MASS = ("benign", "malignant")
TRIPLE = ("a", "b", "c")


def read(
    values: list[Any], classes: tuple[str, ...], labels_as: str | None = None, *, untyped: bool = False
) -> Reading:
    return interpret(values, LabelRules.of(classes, labels_as, "y", untyped=untyped))


BY_NAME: dict[str, tuple[list[Any], tuple[str, ...], list[int]]] = {
    "floats of classes in another order": ([1.0, 0.0, 1.0], ("1.0", "0.0"), [0, 1, 0]),
    "floats of classes that are whole numbers": ([1.0, 2.0, 3.0], ("1", "2", "3"), [0, 1, 2]),
    "whole numbers of classes that are floats": ([1, 2, 3], ("1.0", "2.0", "3.0"), [0, 1, 2]),
    "numbers of classes with leading zeros": ([1, 0], ("00", "01"), [1, 0]),
    "tenths": ([0.1, 0.25], ("0.10", "0.25"), [0, 1]),
    "negative": ([-1, 1.0], ("-1", "+1"), [0, 1]),
    "true and false": ([True, False], ("False", "True"), [1, 0]),
    "true and false of numbers": ([True, False], ("0", "1"), [1, 0]),
    "numbers of true and false": ([1, 0], ("true", "false"), [0, 1]),
    "large codes": ([999000021000000106, 999000021000000108], ("999000021000000108", "999000021000000106"), [1, 0]),
}


@pytest.mark.parametrize("kind", BY_NAME)
@pytest.mark.parametrize("untyped", [False, True])
def test_a_number_that_is_a_class_s_name_is_that_class(kind: str, *, untyped: bool) -> None:
    values, classes, expected = BY_NAME[kind]
    values = [str(value) for value in values] if untyped else values
    found = read(values, classes, untyped=untyped)
    assert found.labels.tolist() == expected
    assert found.note is None


def test_text_matches_as_text_before_it_is_a_number() -> None:
    assert read(["00", "0", "1"], ("0", "00", "1"), untyped=True).labels.tolist() == [1, 0, 2]


@pytest.mark.parametrize("values", [["0.0", "1"], [0, 1]])
def test_a_number_that_two_classes_are_is_neither(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"the label of row 0 .* names none of the classes"):
        read(values, ("0", "00", "1"), untyped=True)


@pytest.mark.parametrize("values", [["0", "1", "1"], ["0.0", "1.0", "1.0"], [" 0", "1 ", "1"]])
def test_indices_are_noted_with_their_classes_and_counts(values: list[str]) -> None:
    found = read(values, MASS, untyped=True)
    assert found.labels.tolist() == [0, 1, 1]
    assert found.note == "labels are indices of classes: 0 → benign 1, 1 → malignant 2"


def test_a_note_lists_no_more_classes_than_anybody_reads() -> None:
    found = read(list(range(1000)), tuple(f"c{i}" for i in range(1000)))
    assert str(found.note).endswith("9 → c9 1, and 990 more")


@pytest.mark.parametrize(
    ("values", "classes"), [([1, 2, 1], TRIPLE), ([1, 1], MASS), (["2", "1"], TRIPLE), ([1.0, 2.0], TRIPLE)]
)
def test_indices_that_may_count_from_one_are_refused_with_both_readings(
    values: list[Any], classes: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as error:
        read(values, classes, untyped=True)
    message = str(error.value)
    assert f"from 0 (1 is {classes[1]!r}) or from 1 (1 is {classes[0]!r})" in message
    assert "labels-as index0 or index1" in message
    assert error.value.faults[0].code == "ambiguous-labels"


def test_indices_that_must_count_from_one_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"the label of row 2 .* if the labels count from 1, set labels-as index1"):
        read([1, 2, 3], TRIPLE)


DECLARED: dict[str, tuple[list[Any], tuple[str, ...], str, list[int], str | None]] = {
    "from 0": ([1, 2], TRIPLE, "index0", [1, 2], "labels are indices of classes: 1 → b 1, 2 → c 1"),
    "from 1": ([1, 2], TRIPLE, "index1", [0, 1], "labels are indices of classes: 1 → a 1, 2 → b 1"),
    "factors": ([1, 2, 3], TRIPLE, "index1", [0, 1, 2], "labels are indices of classes: 1 → a 1, 2 → b 1, 3 → c 1"),
    "despite names": ([0, 1], ("1", "0"), "index0", [0, 1], "labels are indices of classes: 0 → 1 1, 1 → 0 1"),
    "booleans": ([False, True], MASS, "index0", [0, 1], "labels are indices of classes: 0 → benign 1, 1 → malignant 1"),
    "text": (["0", "1"], MASS, "index0", [0, 1], "labels are indices of classes: 0 → benign 1, 1 → malignant 1"),
    "names": (["b", "a"], TRIPLE, "names", [1, 0], None),
    "names beside another file of indices": (["b", "a"], TRIPLE, "index1", [1, 0], None),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_the_kind_of_labels_can_be_declared(kind: str) -> None:
    values, classes, labels_as, expected, note = DECLARED[kind]
    found = read(values, classes, labels_as)
    assert (found.labels.tolist(), found.note) == (expected, note)


@pytest.mark.parametrize(
    ("values", "labels_as", "words"),
    [
        ([0, 1], "names", "row 0 .* is none of the classes"),
        ([1, 3], "index0", "row 1 .* is no index from 0 to 2"),
        ([1, 0], "index1", "row 1 .* is no index from 1 to 3"),
        ([0, 0.5], "index0", "row 1 .* is no index"),
        ([0, "b"], "index0", "row 1 .* is no index"),
        ([0, None], "index0", "row 1 .* is missing"),
        ([0, "01"], "index0", "row 1 .* is no index"),
        ([True, False], None, "row 0 .* set labels-as"),
        (["a", 1], None, "row 1 .* is neither"),
        (["a", "1"], None, "row 1 .* is neither"),
        (["NA"], None, "row 0 .* is missing"),
    ],
)
def test_labels_that_are_not_as_declared_are_refused(values: list[Any], labels_as: str | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(values, TRIPLE, labels_as, untyped=True)


def test_no_labels_are_no_fault() -> None:
    assert read([], MASS).labels.tolist() == []


def positions(values: Any, classes: tuple[str, ...], labels_as: str | None = None) -> Reading:
    return read_positions(np.array(values), LabelRules.of(classes, labels_as, "y"))


def test_positions_follow_the_same_rules() -> None:
    assert positions([[1.0, 0.0], [1.0, -1.0]], ("1.0", "0.0")).labels.tolist() == [[0, 1], [0, -1]]
    found = positions([[0, 1, 2], [2, -1, -1]], TRIPLE)
    assert found.labels.tolist() == [[0, 1, 2], [2, -1, -1]]
    assert found.note == "labels are indices of classes: 0 → a 1, 1 → b 1, 2 → c 2"
    assert positions([[1, 2], [2, -1]], TRIPLE, "index1").labels.tolist() == [[0, 1], [1, -1]]
    with pytest.raises(DataError, match=r"from 0 \(1 is 'b'\) or from 1 \(1 is 'a'\)"):
        positions([[1, 2], [2, -1]], TRIPLE)


def test_lists_of_positions_are_padded() -> None:
    lists = np.empty(2, dtype=object)
    lists[:] = [np.array(["a", "b"]), np.array(["c"])]
    assert read_positions(lists, LabelRules.of(TRIPLE)).labels.tolist() == [[0, 1], [2, -1]]
    lists[:] = [np.array([0, 1]), np.array([2])]
    assert read_positions(lists, LabelRules.of(TRIPLE)).labels.tolist() == [[0, 1], [2, -1]]


@pytest.mark.parametrize(
    ("lists", "classes", "words"),
    [
        ([["a", None]], ("a", "None"), "at position 1 .* it is missing"),
        ([["a", "d"]], TRIPLE, "at position 1 .* it is none of the classes 'a', 'b', 'c'"),
        ([[1, 2], [0, 3]], TRIPLE, "row 1 .* at position 1 .* if the labels count from 1, set labels-as index1"),
        ([[0.0, np.nan]], TRIPLE, "at position 1 .* it is missing"),
    ],
)
def test_a_label_of_a_sequence_that_is_no_class_has_its_position(
    lists: list[list[Any]], classes: tuple[str, ...], words: str
) -> None:
    column = np.empty(len(lists), dtype=object)
    column[:] = [np.array(row, dtype=object if isinstance(row[0], str) else None) for row in lists]
    with pytest.raises(DataError, match=words):
        read_positions(column, LabelRules.of(classes))


@pytest.mark.parametrize("gap", [None, np.nan])
def test_a_missing_state_of_a_label_is_called_missing(gap: Any) -> None:
    values = np.array([[0, 1], [1, gap]], dtype=object if gap is None else np.float64)
    with pytest.raises(DataError, match=r"row 1 .* is missing, and must be 0 or 1 for 'b'"):
        read_presences(values, ("a", "b"), where="y")
