"""Both branches of the reader give the same; the careful one alone says what is wrong."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.v1 import request_reader as module
from service.api.v1.request_reader import KEY, MOST_REMEMBERED, Kind, ReadRequest, Remembered, RequestReader
from service.api.v1.verbs import VERBS
from service.errors import RequestError, ServiceError
from service.runtime.model import Model

WIDTH = 30
NUMBER = st.one_of(
    st.floats(0.0, 50.0),
    st.integers(0, 40),
    st.sampled_from([-1.0, 1e9, 1e39, -0.0, 5e-324, 2**63, 10**30, 10**400]),
)
CELL = st.one_of(*[NUMBER] * 12, st.sampled_from([None, True, "1", [1.0], {}]))
ROW = st.one_of(
    *[st.lists(NUMBER, min_size=WIDTH, max_size=WIDTH)] * 4,
    st.lists(CELL, min_size=WIDTH, max_size=WIDTH),
    st.lists(NUMBER, max_size=3),
    st.sampled_from([1, "row", None]),
)
PARAMETERS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "site": st.sampled_from(["screening", "nowhere", 1, ["screening"], None]),
            "policy": st.sampled_from(["biopsy", "nothing"]),
            "top_k": st.sampled_from([0, 1, 2, 10**30, 10**31]),
            "ids": st.sampled_from([["a"], ["a", "b"], [1], "a", None]),
            "subjects": st.sampled_from([["a"], ["a", "b"], [""], [None], "a", None]),
            "groups": st.sampled_from([["a"], ["b", "b"], ["a" * 201], {}, None]),
            "layout": st.sampled_from(["rows", "columns", "both"]),
            "mood": st.just(1),
            "coverage": st.just(0.9),
        },
    ),
)
ODD = [
    b"",
    b"[]",
    b"{}",
    b"nonsense",
    b'{"instances": []}',
    b'{"instances": [[]]}',
    b'{"instances": [1, 2]}',
    b'{"instances": $ROWS, "instances": $ROWS}',
    b'{"instances": $ROWS, "parameters": {"site": "screening", "site": "screening"}}',
    b'{"parameters": {"site": "screening"}, "instances": $ROWS}',
    b'{"other": $ROWS, "instances": $ROWS}',
    b'{"parameters": $ROWS}',
    b'{"instances": {"instances": $ROWS}}',
    b'{"parameters": {"policy": "\\"instances\\":[[1]]"}, "instances": $ROWS}',
    b'{"instances": $ROWS} ',
    b'\n{ "instances" : $ROWS , "parameters" : { } }',
    b'{"instances": $ROWS}}',
    b'{"instances": $ROWS',
    b'{"instances": $ROWS, }',
    b'\xef\xbb\xbf{"instances": $ROWS}',
    b'{"instances": $ROWS, "parameters": {"site": "\\ud800"}}',
    b'{"instances": $ROWS, "parameters": null}',
    b'{"instances": [$ROWS]}',
    b'{"instances": [[NaN' + b", 1" * 29 + b"]]}",
    b'{"instances": [[1e400' + b", 1" * 29 + b"]]}",
    b'{"instances": [[01' + b", 1" * 29 + b"]]}",
    b'{"instances": [[1,' + b", 1" * 29 + b"]]}",
]


@pytest.fixture
def reader(shipped_model: Model) -> RequestReader:
    return RequestReader(VERBS["decide"], shipped_model, most_rows=4)


@pytest.fixture
def pair_of(shipped_model: Model) -> Callable[[str], list[RequestReader]]:
    """Two readers of a verb that have met no request."""
    return lambda verb: [RequestReader(VERBS[verb], shipped_model, most_rows=4) for _ in range(2)]


def outcome(read: Any, raw: bytes) -> Any:
    """What a request comes to, as far as it can be compared; of a refused one how it is refused."""
    try:
        request: ReadRequest = read(raw)
    except ServiceError as error:
        return type(error), error.detail, error.faults
    options = request.kind.query.options
    return options, type(request.kind.encoder), repr(np.asarray(request.rows).tolist()), request.texts


@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
@given(rows=st.lists(ROW, min_size=1, max_size=5), parameters=PARAMETERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_read_before_a_request_is_read_as_by_a_reader_that_remembers_nothing(
    pair_of, verb, rows, parameters
) -> None:
    raw = json.dumps({"instances": rows} | ({} if parameters is None else {"parameters": parameters})).encode()
    reader, careful = pair_of(verb)
    expected = outcome(careful.careful, raw)
    assert [outcome(reader.read, raw) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize("body", ODD)
def test_odd_bytes_are_read_as_a_reader_that_remembers_nothing_reads_them(
    shipped_model: Model, test_rows: list[list[float]], body: bytes
) -> None:
    raw = body.replace(b"$ROWS", json.dumps(test_rows[:2]).encode())
    reader, careful = (RequestReader(VERBS["decide"], shipped_model, most_rows=4) for _ in range(2))
    expected = outcome(careful.careful, raw)
    assert [outcome(reader.read, raw) for _ in range(3)] == [expected] * 3


PLAIN: list[dict[str, Any]] = [
    {},
    {"parameters": {}},
    {"parameters": {"site": "screening", "policy": "biopsy"}},
    {"parameters": {"top_k": 1}},
    {"parameters": {"layout": "columns"}},
    {"parameters": {"coverage": 0.9}},
    {"parameters": {"prevalence": {"benign": 0.9, "malignant": 0.1}}},
    {"parameters": {"fdr": 0.1}},
    {"parameters": {"ids": ["a", "b"]}},
    {"parameters": {"ids": ["a", "b"], "subjects": ["p", "p"], "groups": ["north", "south"]}},
]


@pytest.mark.parametrize("more", PLAIN)
def test_plain_rows_whose_parameters_came_before_take_the_quick_branch(
    reader: RequestReader, test_rows: list[list[float]], more: dict[str, Any]
) -> None:
    raw = json.dumps({"instances": test_rows[:2], **more}).encode()
    assert reader._quick(raw) is None
    first, second, third = (reader.read(raw) for _ in range(3))
    assert reader._quick(raw) is not None
    assert first.kind is second.kind is third.kind
    assert second.ids == third.ids == more.get("parameters", {}).get("ids")
    assert [*second.texts] == [more.get("parameters", {}).get(name) for name in ("ids", "subjects", "groups")]


def test_row_objects_and_ids_share_the_kind_of_plain_rows(
    reader: RequestReader, test_rows: list[list[float]], features: list[str]
) -> None:
    named = [dict(zip(features, row, strict=True)) for row in test_rows[:2]]
    bodies: list[dict[str, Any]] = [
        {"instances": test_rows[:1]},
        {"instances": named},
        {"instances": test_rows[:2], "parameters": {"ids": ["a", "b"]}},
        {"parameters": {"ids": ["c", "d"]}, "instances": named},
    ]
    found = [reader.read(json.dumps(body).encode()) for body in bodies]
    assert len({id(request.kind.query) for request in found}) == 1
    np.testing.assert_array_equal(np.asarray(found[1].rows), np.asarray(found[2].rows))
    assert [request.ids for request in found] == [None, None, ["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("ids", [["a"], ["a", "b", "c"], ["a", ""], ["a", 1], ["a", "b" * 201], "ab", {"a": "b"}])
def test_wrong_ids_are_refused_whatever_came_before(
    reader: RequestReader, test_rows: list[list[float]], ids: object
) -> None:
    for given_ids in (["a", "b"], ["c", "d"]):
        reader.read(json.dumps({"instances": test_rows[:2], "parameters": {"ids": given_ids}}).encode())
    with pytest.raises(RequestError):
        reader.read(json.dumps({"instances": test_rows[:2], "parameters": {"ids": ids}}).encode())


@pytest.mark.parametrize(
    "parameters",
    [{"policy": ["biopsy"] * 2}, {"session": None}, {"site": ["screening"] * 2}],
)
def test_what_belongs_to_one_request_alone_is_not_remembered(
    reader: RequestReader, test_rows: list[list[float]], parameters: dict[str, Any]
) -> None:
    raw = json.dumps({"instances": test_rows[:2], "parameters": parameters}).encode()
    first, second = (reader.read(raw) for _ in range(2))
    assert first.kind is not second.kind
    assert reader._quick(raw) is None


def test_integers_beyond_64_bits_in_parameters_do_not_stand_for_each_other(
    reader: RequestReader, test_rows: list[list[float]]
) -> None:
    counts = [10**30, 10**31, 10**30]
    bodies = [json.dumps({"instances": test_rows[:1], "parameters": {"top_k": count}}).encode() for count in counts]
    assert [reader.read(raw).kind.query.options.top_k for raw in bodies] == counts


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (b'{"instances":', True),
        (b'{"instances" : \n', True),
        (b'{"other": ', False),
        (b'{"parameters": {"policy": "\\"instances\\":', False),
    ],
)
def test_only_the_array_that_is_the_value_of_instances_is_taken_for_it(before: bytes, *, found: bool) -> None:
    assert bool(KEY.search(before)) == found


def test_what_is_remembered_is_bounded_and_what_is_met_often_stays() -> None:
    kept, kinds = Remembered[int](), [Kind(object(), None, None) for _ in range(2 * MOST_REMEMBERED)]  # type: ignore[arg-type]  # compared alone
    for i, kind in enumerate(kinds):
        kept.keep(i, kind)
        assert kept.get(0) is kinds[0]
    assert sum(kept.get(i) is not None for i in range(len(kinds))) == MOST_REMEMBERED


def test_long_parameters_are_not_remembered(reader: RequestReader, test_rows: list[list[float]]) -> None:
    costs = {f"action-{i}" + "x" * 100: {"benign": 0, "malignant": 1} for i in range(40)}
    raw = json.dumps({"instances": test_rows[:1], "parameters": {"costs": costs}}).encode()
    assert reader.read(raw).kind is not reader.read(raw).kind


def test_a_reader_decides_nothing_by_the_length_of_a_document(reader: RequestReader) -> None:
    assert module.LONGEST_REMEMBERED < 1 << 20
    with pytest.raises(RequestError):
        reader.read(b'{"instances": [[1]], "parameters": {"policy": "' + b"x" * (1 << 16) + b'"}}')
