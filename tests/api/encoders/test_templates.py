"""JSON with places."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.api.encoders.templates import PLACE, Template, number_texts, place

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | FLOATS | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_values_land_in_their_places_whatever_is_around_them(around: object) -> None:
    template = Template({"first": place(1), "around": around, "second": [place(0)]})
    filled = template.filled_all([[b"0", b"1"], [b'{"a":"%"}', b"null"]], 2)
    assert json.loads(filled[0]) == {"first": {"a": "%"}, "around": around, "second": [0]}
    assert template.filled([b"0", b'{"a":"%"}']) == filled[0]
    assert json.loads(filled[1]) == {"first": None, "around": around, "second": [1]}


def test_a_place_is_longer_than_any_name() -> None:
    assert len(PLACE) > 200


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5), elements=FLOATS))
def test_numbers_are_the_same_alone_and_with_others(table: np.ndarray) -> None:
    columns = [table[:, 0], table]
    written = number_texts(columns, len(table))
    assert [float(number) for number in written] == [number for row in table.tolist() for number in (row[0], *row)]
    alone = [number_texts([column[i : i + 1] for column in columns], 1) for i in range(len(table))]
    assert written == [number for row in alone for number in row]


@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_no_number_is_null(rows: int) -> None:
    assert number_texts([np.full(rows, np.nan), np.ones(rows)], rows) == [b"null", b"1.0"] * rows
    assert number_texts([], rows) == []
