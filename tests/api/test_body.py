"""Strict JSON: what is refused, why, and that honest documents get through unchanged."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.body import JSON_TYPE, parse_json
from service.errors import DuplicateKey, MalformedBody, NonFiniteNumber, NumberOutOfRange, TooDeep

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(documents)
@settings(max_examples=50)
def test_an_honest_document_is_read_as_python_reads_it(document: object) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_survives_to_the_last_bit(value: float) -> None:
    read = parse_json(repr(value).encode())
    assert isinstance(read, float)
    assert math.copysign(1.0, read) == math.copysign(1.0, value)
    assert read == value


REFUSED = {
    b"": MalformedBody,
    b" ": MalformedBody,
    b"{": MalformedBody,
    b'{"a": }': MalformedBody,
    b'{"a": 1,}': MalformedBody,
    b"[1,]": MalformedBody,
    b"[01]": MalformedBody,
    b"[+1]": MalformedBody,
    b"[.5]": MalformedBody,
    b"[1.]": MalformedBody,
    b"[0x10]": MalformedBody,
    b"[1_000]": MalformedBody,
    b"[1] [2]": MalformedBody,
    b"\xef\xbb\xbf[1]": MalformedBody,
    b"\xff\xfe[\x001\x00]\x00": MalformedBody,
    b'["\xc3"]': MalformedBody,
    b'["\x01"]': MalformedBody,
    b'["\\ud800"]': MalformedBody,
    b'["\\udc00\\ud800"]': MalformedBody,
    b'["\\x41"]': MalformedBody,
    b'{"a": 1, "a": 1}': DuplicateKey,
    b'{"a": 1, "\\u0061": 1}': DuplicateKey,
    b'[{"b": {"a": 1, "a": 2}}]': DuplicateKey,
    b"NaN": NonFiniteNumber,
    b"[NaN]": NonFiniteNumber,
    b"[1,\n  Infinity]": NonFiniteNumber,
    b"[-Infinity]": NonFiniteNumber,
    b"[1e309]": NumberOutOfRange,
    b"[-1e309]": NumberOutOfRange,
    b'{"x": {"y": [1E+0999]}}': NumberOutOfRange,
    b"[" + b"9" * 309 + b".5]": NumberOutOfRange,
    b"[" + b"9" * 5000 + b"]": NumberOutOfRange,
    b"[" * 10_000: TooDeep,
    b'{"a":' * 10_000: TooDeep,
}


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: ascii(raw[:24]))
def test_what_is_not_strict_json_is_refused_for_its_own_reason(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_json(raw)
    assert type(caught.value) is REFUSED[raw]


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: ascii(raw[:24]))
def test_a_refusal_of_bytes_has_a_place(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_json(raw)
    assert caught.value.faults or caught.value.detail.startswith("line ")


def test_the_place_is_a_line_and_a_column() -> None:
    with pytest.raises(MalformedBody, match=r"^line 3, column 3: "):
        parse_json(b'{"a": 1,\n"b": 2,\n  zq7canary}')


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        parse_json(raw)
    except MalformedBody as error:
        assert error.detail  # noqa: PT017  # either outcome is fine; nothing else may be raised


@pytest.mark.parametrize(
    "raw", [b"[1e308]", b"[1e-400]", b"[" + b"9" * 308 + b"]", b"[1e+0005]", b'["1e999"]', b'["NaN"]']
)
def test_numbers_that_fit_and_words_that_only_look_wrong_pass(raw: bytes) -> None:
    assert parse_json(raw) == json.loads(raw)


def test_a_number_out_of_range_is_pointed_to_without_the_callers_keys() -> None:
    with pytest.raises(NumberOutOfRange) as caught:
        parse_json(b'{"instances": [[0], {"zq7canary": [1, 1e999]}]}')
    assert [fault.path for fault in caught.value.faults] == [("instances", 1, "?", 1)]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.kserve+json",
    ],
)
def test_json_goes_by_several_names(media_type: str) -> None:
    assert JSON_TYPE.fullmatch(media_type)


@pytest.mark.parametrize(
    "media_type",
    ["text/json", "application/jsonp", "application/json; charset=latin-1", "json", "application/xml+json2"],
)
def test_other_types_are_not_json(media_type: str) -> None:
    assert not JSON_TYPE.fullmatch(media_type)
