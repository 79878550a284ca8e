"""What is wrong with an answer: nothing, or sentences."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.door.answers import Answer
from tests.door.cases import Case, Expected
from tests.door.exchange import Exchange
from tests.door.targets import CANARY

MOST_BYTES: Final = 16 << 10
MOST_ERRORS: Final = 20
URN: Final = "urn:temperance:problem:"
EXPECTED_5XX: Final = frozenset({501, 503, 504, 505})
INTERNALS: Final = re.compile(
    rb"Traceback|File \"|site-packages|\.py\b|onnxruntime|starlette|pydantic|uvicorn|httptools|0x[0-9a-f]{8}"
    rb"|" + b"|".join(re.escape(str(place).encode()) for place in (Path(__file__).parents[2], tempfile.gettempdir()))
)
OWED: Final[dict[int, tuple[str, ...]]] = {
    401: ("www-authenticate",),
    405: ("allow",),
    415: ("accept",),
    429: ("retry-after",),
    503: ("retry-after",),
}
"""Status -> fields that every answer with it has."""


def faults(case: Case, seen: Exchange, *, proxied: bool) -> list[str]:
    """Every way in which an exchange is not as its case says."""
    own = proxied and case.proxied == "own" and not _is_ours(seen)
    return [*_order(case.expected, seen, own=own, proxied=proxied), *_contents(case, seen, own=own)]


def _is_ours(seen: Exchange) -> bool:
    return bool(seen.answers) and "x-request-id" in seen.answers[-1].headers


def _order(expected: Expected, seen: Exchange, *, own: bool, proxied: bool) -> Iterator[str]:
    statuses = [answer.status for answer in seen.answers]
    if own:
        if any(status < 400 for status in statuses) or not (statuses or seen.closed):
            yield f"the proxy answered {statuses or 'nothing'}, and should refuse"
        return
    yield from _statuses(expected, seen, statuses)
    if seen.rest:
        yield f"{len(seen.rest)} bytes follow that are no whole answer"
    if expected.closes is not None and not proxied and statuses and seen.closed is not expected.closes:
        yield "the connection stays open" if expected.closes else "the connection was closed"


def _statuses(expected: Expected, seen: Exchange, statuses: list[int]) -> Iterator[str]:
    allowed = expected.statuses
    got: list[Any] = [*statuses, *(["close"] if seen.closed and len(statuses) < len(allowed) else [])]
    if len(got) < len(allowed) or (not got and allowed):
        yield f"no answer within {expected.within} s, the connection stays open" + (f"; before it {got}" if got else "")
    elif len(got) > len(allowed):
        yield f"{len(got)} answers in place of {len(allowed)}: {got}"
    elif any(one not in among for one, among in zip(got, allowed, strict=True)):
        yield f"{got} in place of {[list(one) for one in allowed]}" + (" (reset)" if seen.reset else "")


def _contents(case: Case, seen: Exchange, *, own: bool) -> Iterator[str]:
    for answer in seen.answers:
        yield from _leaks(answer)
        if not own:
            yield from _form(case, answer)
    if seen.answers and not own:
        yield from _last(case.expected, seen.answers[-1])


def _leaks(answer: Answer) -> Iterator[str]:
    everything = answer.body + repr(answer.headers).encode()
    if CANARY.encode() in everything:
        yield "the answer repeats what was sent"
    if answer.status >= 400 and INTERNALS.search(answer.body):
        yield "the answer shows internals"


def _form(case: Case, answer: Answer) -> Iterator[str]:
    if "x-request-id" not in answer.headers:
        yield f"a {answer.status} without X-Request-Id"
    if answer.status < 400:
        return
    if answer.status >= 500 and answer.status not in EXPECTED_5XX:
        yield f"status {answer.status}"
    for name in OWED.get(answer.status, ()):
        if name not in answer.headers:
            yield f"a {answer.status} without {name.title()}"
    if case.method != "HEAD" and not case.sent().startswith(b"HEAD "):
        yield from _error(case, answer)


def _error(case: Case, answer: Answer) -> Iterator[str]:
    if len(answer.body) > MOST_BYTES:
        yield f"an error of {len(answer.body)} bytes"
    if answer.headers.get("cache-control") != "no-store":
        yield f"a {answer.status} without Cache-Control: no-store"
    if case.path.startswith("/v2") and answer.media_type == "application/json":
        yield from _v2_error(answer)
    elif answer.media_type == "application/problem+json":
        yield from _problem(answer)
    else:
        yield f"a {answer.status} of type {answer.media_type or 'none'}"


def _v2_error(answer: Answer) -> Iterator[str]:
    document = answer.document()
    if not isinstance(document, dict) or not isinstance(document.get("error"), str) or not document["error"]:
        yield "an error under /v2 that is not {error: text}"


def _problem(answer: Answer) -> Iterator[str]:
    document = answer.document()
    if not isinstance(document, dict):
        yield "a problem that is no JSON object"
        return
    if not str(document.get("type")).startswith(URN):
        yield "a problem of another type than ours"
    if document.get("status") != answer.status:
        yield "a problem with another status than the answer's"
    if not (isinstance(document.get("title"), str) and isinstance(document.get("detail"), str)):
        yield "a problem without title or detail"
    if len(document.get("errors", ())) > MOST_ERRORS:
        yield f"a problem with {len(document['errors'])} errors"


def _last(expected: Expected, answer: Answer) -> Iterator[str]:
    document = answer.document() if answer.status >= 400 else None
    if expected.codes and isinstance(document, dict) and "type" in document:
        code = str(document["type"]).removeprefix(URN)
        if code not in expected.codes:
            yield f"code {code} in place of {', '.join(sorted(expected.codes))}"
    for name, value in expected.headers.items():
        if answer.headers.get(name) is None or value not in ("*", answer.headers[name]):
            yield f"{name.title()} is {'absent' if name not in answer.headers else 'another one'}"
    yield from (f"{name.title()} is there" for name in expected.absent if name in answer.headers)
