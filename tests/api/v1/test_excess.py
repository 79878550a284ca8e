"""What is cut of a request that is wrong many times over, and what is not."""

import pytest

from service.api.v1.excess import ONE_PER_ROW, without_excess
from service.api.v1.verbs import VERBS
from service.errors import MOST_FAULTS

KNOWN = ("instances", "labels", "parameters"), ("ids", "policy", "session", "losses"), ("steps",)


def test_a_request_as_they_are_is_left_alone() -> None:
    document = {"instances": [[1], [2]], "labels": [0, 1], "parameters": {"ids": ["a", "b"], "session": {"steps": 1}}}
    assert without_excess(document, *KNOWN) == document
    assert without_excess([1], *KNOWN) == [1]


def test_a_list_of_one_per_row_keeps_one_entry_too_many() -> None:
    document = {"instances": [[1], [2]], "labels": [0] * 9, "parameters": {"ids": ["a"] * 9, "losses": ["b"] * 9}}
    assert without_excess(document, *KNOWN) == {
        "instances": [[1], [2]],
        "labels": [0] * 3,
        "parameters": {"ids": ["a"] * 3, "losses": ["b"] * 9},
    }


def test_as_many_unknown_keys_are_left_as_are_reported() -> None:
    many = {f"k{i}": i for i in range(1000)}
    document = {**many, "instances": [[1]], "parameters": {**many, "session": {**many, "steps": 1}}}
    found = without_excess(document, *KNOWN)
    first = dict(list(many.items())[:MOST_FAULTS])
    session = {**first, "steps": 1}
    assert found == {**first, "instances": [[1]], "parameters": {**first, "session": session}}


@pytest.mark.parametrize("verb", VERBS)
def test_lists_of_one_per_row_are_names_of_members_or_parameters(verb: str) -> None:
    fields = VERBS[verb].request.model_fields
    parameters = getattr(fields["parameters"].annotation, "model_fields", {})
    by_row = {name for name, field in {**fields, **parameters}.items() if "[rows]" in repr(field)}
    assert by_row - {"instances"} <= ONE_PER_ROW
