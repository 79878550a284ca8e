from dataclasses import replace

import pytest

from service.monitoring.truth import Truths, contradicts, in_force
from service.store.entries import Outcome


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("malignant", '"malignant"'),
        (" malignant ", '"malignant"'),
        ("MALIGNANT", None),
        ("", None),
        (1, None),
        (True, None),
        (None, None),
        (["malignant"], None),
        ({"malignant": 1}, None),
    ],
)
def test_of_a_row_with_one_class_its_name_is_true(value, stored):
    assert Truths.of("multiclass", ["benign", "malignant"]).read(value) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [(1, '"1"'), (1.0, '"1"'), ("1", '"1"'), (2, '"2"'), (0, None), (1.5, None), (float("nan"), None), (1e400, None)],
)
def test_numbers_are_classes_where_classes_are_named_by_numbers_and_never_indices(value, stored):
    assert Truths.of("multiclass", ["1", "2"]).read(value) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"edema": 1, "effusion": 0}, '{"edema":1,"effusion":0}'),
        ({"effusion": True}, '{"edema":null,"effusion":1}'),
        ({"effusion": 0, "edema": None}, '{"edema":null,"effusion":0}'),
        (["effusion"], '{"edema":0,"effusion":1}'),
        ([], '{"edema":0,"effusion":0}'),
        ([0, 1], '{"edema":0,"effusion":1}'),
        ([None, 1], '{"edema":null,"effusion":1}'),
        ({}, None),
        ({"edema": None}, None),
        ({"edema": 2}, None),
        ({"edema": "yes"}, None),
        ({"edema": [1]}, None),
        ({"fracture": 1}, None),
        ({"fracture": None, "edema": 1}, None),
        (["fracture"], None),
        ([0, 1, 0], None),
        ([0, 2], None),
        ([None, None], None),
        ("edema", None),
        (1, None),
    ],
)
def test_of_a_row_with_labels_the_state_of_each_is_true_and_null_is_not_known(value, stored):
    assert Truths.of("multilabel", ["edema", "effusion"]).read(value) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (["N2", "REM", "N2"], '["N2","REM","N2"]'),
        (["N2", None, "N2"], '["N2",null,"N2"]'),
        (["N2", "REM"], None),
        (["N2", "REM", "N2", "N2"], None),
        ([None, None, None], None),
        (["N2", "wake", "N2"], None),
        ([0, 1, 0], None),
        ([], None),
        ("N2", None),
        (["N2", ["REM"], "N2"], None),
    ],
)
def test_of_a_sequence_the_class_of_every_position_is_true_and_null_is_not_known(value, stored):
    assert Truths.of("sequence", ["N2", "REM"]).read(value, positions=3) == stored


def test_a_sequence_of_unknown_length_has_any_number_of_positions():
    assert Truths.of("sequence", ["N2", "REM"]).read(["REM"]) == '["REM"]'


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ('"a"', '"a"', False),
        ('"a"', '"b"', True),
        ('{"a":1,"b":null}', '{"a":null,"b":0}', False),
        ('{"a":1,"b":null}', '{"a":0,"b":null}', True),
        ('["a",null]', '["a","b"]', False),
        ('["a",null]', '["b",null]', True),
        ('["a"]', '["a","b"]', True),
    ],
)
def test_truths_contradict_in_what_both_know(one, other, differ):
    assert contradicts(one, other) is contradicts(other, one) is differ


def outcome(truth: str, observed_at: int, arrival: int) -> Outcome:
    return Outcome("0", 0, truth, observed_at, observed_at, None, "routine", "key:a", arrival=arrival)


def test_the_outcome_observed_last_is_in_force_and_of_several_the_one_that_arrived_last():
    first, late, corrected = outcome('"a"', 5, 1), outcome('"b"', 3, 2), outcome('"c"', 5, 3)
    assert in_force([first]) == first
    assert in_force([first, late]) == first
    assert in_force([first, late, corrected]) == corrected
    assert in_force([]) is None


def test_what_the_last_outcome_does_not_know_is_taken_from_those_before_it():
    monday, tuesday = outcome('{"a":1,"b":null,"c":0}', 1, 1), outcome('{"a":0,"b":null,"c":null}', 2, 2)
    friday = outcome('{"a":null,"b":1,"c":null}', 5, 3)
    assert in_force([monday, friday, tuesday]) == replace(friday, truth='{"a":0,"b":1,"c":0}')
    morning, evening = outcome('["x",null]', 1, 1), outcome('[null,"y"]', 2, 2)
    assert in_force([morning, evening]) == replace(evening, truth='["x","y"]')
