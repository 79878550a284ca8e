"""What a caller's own systems call a request: `X-Request-Id`, and W3C Trace Context's `traceparent`.

Both are sent back as they came and recorded. Neither is an id of ours: gateways send the same one again for a retry.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
TRACEPARENT: Final = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[!-~]{1,64})?"
)

Headers = Iterable[tuple[bytes, bytes]]


class Correlation(NamedTuple):
    """What of it can be repeated safely.

    Attributes
    ----------
    request_id : str or None
        The caller's `X-Request-Id`; None where it sent none, several, or one with other characters.
    traceparent : str or None
    """

    request_id: str | None = None
    traceparent: str | None = None


NONE: Final = Correlation()


def correlation_of(headers: Headers) -> Correlation:
    """Read it off the header fields of a request, whose names are in lower case.

    References
    ----------
    W3C, *Trace Context*, 2021, section 3.2: one field, a version other than ff, ids that are not all zero; what a later
    version appends is kept.
    """
    sent = [(name, value) for name, value in headers if name in _FIELDS]
    if not sent:
        return NONE
    return Correlation(_only(sent, b"x-request-id", REQUEST_ID), _traceparent(sent))


def identity(request_id: str, correlation: Correlation) -> list[tuple[bytes, bytes]]:
    """Header fields that every answer carries: our id, the caller's where it sent one, and the trace.

    Parameters
    ----------
    request_id : str
        Ours.
    correlation : Correlation
    """
    ours = request_id.encode()
    if correlation is NONE:
        return [(b"temperance-id", ours), (b"x-request-id", ours)]
    theirs = ours if correlation.request_id is None else correlation.request_id.encode()
    fields = [(b"temperance-id", ours), (b"x-request-id", theirs)]
    if correlation.traceparent is not None:
        fields.append((b"traceparent", correlation.traceparent.encode()))
    return fields


def _traceparent(sent: list[tuple[bytes, bytes]]) -> str | None:
    found = _only(sent, b"traceparent", TRACEPARENT)
    # Version 00 has four parts and no more.
    return None if found is not None and found.startswith("00-") and len(found) != _LENGTH else found


def _only(sent: list[tuple[bytes, bytes]], name: bytes, form: "re.Pattern[bytes]") -> str | None:
    values = [value for key, value in sent if key == name]
    return values[0].decode("ascii") if len(values) == 1 and form.fullmatch(values[0]) else None


_LENGTH: Final = 55
_FIELDS: Final = frozenset({b"x-request-id", b"traceparent"})
