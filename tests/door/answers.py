"""HTTP answers, read from bytes as strictly as a client can: what is no answer is left over."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer.

    Attributes
    ----------
    status : int
    headers : dict of str to str
        By names in lower case.
    body : bytes
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def document(self) -> Any:
        """The body as JSON; None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def parsed(received: bytes | bytearray, is_head: bool, *, ended: bool) -> tuple[list[Answer], bytes]:  # noqa: FBT001
    """The whole answers at the beginning of what was received, and what follows them."""
    answers: list[Answer] = []
    rest = bytes(received)
    while rest:
        found = _first(rest, is_head=is_head and not answers, ended=ended)
        if found is None:
            break
        answer, rest = found
        if answer.status >= 200:
            answers.append(answer)
    return answers, rest


def _first(data: bytes, *, is_head: bool, ended: bool) -> tuple[Answer, bytes] | None:
    line, end = STATUS_LINE.match(data), data.find(b"\r\n\r\n")
    if line is None or end < 0:
        return None
    status, headers = int(line[1]), _headers(data[line.end() : end + 2])
    body = _body(data[end + 4 :], headers, is_empty=is_head or status < 200 or status in BODILESS, ended=ended)
    return None if body is None else (Answer(status, headers, body[0]), body[1])


def _headers(block: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in block.split(b"\r\n") if line)
    return {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in pairs}


def _body(data: bytes, headers: dict[str, str], *, is_empty: bool, ended: bool) -> tuple[bytes, bytes] | None:
    if is_empty:
        return b"", data
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunks(data)
    if "content-length" in headers:
        length = int(headers["content-length"])
        return (data[:length], data[length:]) if len(data) >= length else None
    return (data, b"") if ended else None


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    whole = b""
    while (end := data.find(b"\r\n")) >= 0:
        size = int(data[:end].partition(b";")[0], 16)
        if len(data) < end + 2 + size + 2:
            return None
        whole, data = whole + data[end + 2 : end + 2 + size], data[end + size + 4 :]
        if size == 0:
            return whole, data
    return None
