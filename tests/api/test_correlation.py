"""What a caller's own systems call a request: which of it is repeated."""

import pytest

from service.api.correlation import NONE, Correlation, correlation_of, identity

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLAIN = f"00-{TRACE_ID}-{SPAN_ID}-01"
LATER = f"01-{TRACE_ID}-{SPAN_ID}-01"


def read(*sent: tuple[str, str]) -> Correlation:
    return correlation_of([(name.encode(), value.encode("latin-1")) for name, value in sent])


@pytest.mark.parametrize("value", ["a", "A-1._z", "0" * 64, "req.2026-11-26"])
def test_a_request_id_of_plain_characters_is_kept(value: str) -> None:
    assert read(("host", "x"), ("x-request-id", value)).request_id == value


@pytest.mark.parametrize("value", ["", "0" * 65, "a b", "a\r\nb", "a\n", "\x1b[31m", "caf\xe9", "a,b", '"a"', "a\x00"])
def test_any_other_request_id_is_as_if_it_was_not_sent(value: str) -> None:
    assert read(("x-request-id", value)).request_id is None


@pytest.mark.parametrize("value", [PLAIN, PLAIN[:-1] + "0", LATER, f"{LATER}-more", f"cc-{TRACE_ID}-{SPAN_ID}-ff-x-y"])
def test_a_trace_as_the_standard_writes_it_is_kept(value: str) -> None:
    assert read(("traceparent", value)).traceparent == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        PLAIN.upper(),
        PLAIN[:-1],
        f"{PLAIN}-more",
        f"{PLAIN} ",
        f"{LATER}more",
        f"{LATER}-{'x' * 65}",
        f"{LATER}-caf\xe9",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID}g-{SPAN_ID}-01",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
    ],
)
def test_any_other_trace_is_as_if_it_was_not_sent(value: str) -> None:
    assert read(("traceparent", value)).traceparent is None


def test_what_is_sent_twice_is_unclear_and_not_kept() -> None:
    assert read(("x-request-id", "a"), ("x-request-id", "a")).request_id is None
    assert read(("traceparent", PLAIN), ("traceparent", PLAIN)).traceparent is None
    assert read(("x-request-id", "a"), ("traceparent", PLAIN), ("traceparent", PLAIN)) == Correlation("a")


def test_an_answer_names_our_id_whatever_the_caller_sent() -> None:
    assert identity("ours", NONE) == [(b"temperance-id", b"ours"), (b"x-request-id", b"ours")]
    assert identity("ours", Correlation(None, PLAIN))[:2] == identity("ours", NONE)
    assert identity("ours", Correlation("theirs", PLAIN)) == [
        (b"temperance-id", b"ours"),
        (b"x-request-id", b"theirs"),
        (b"traceparent", PLAIN.encode()),
    ]
