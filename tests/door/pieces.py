"""Bytes of a request, in pieces: texts, and short descriptions of what would be long or slow.

A piece is a text, or a table with one of these keys:

=============  =======================================================================================
`text`         the same as a text alone; with `encoding` in another one than UTF-8
`hex`          bytes that are no text
`repeat`       a text, `times` times, with `between` between them
`numbers`      `times` numbers from 0 up, `between` between them (a comma by default), each within `around`
`gzip`         pieces, compressed; also `deflate` (zlib) and `raw_deflate`
`chunked`      pieces in chunks of `size` bytes; `end` = false leaves out the last one, `extension` follows sizes
`wait`         seconds in which nothing is sent
`drip`         a text, sent one byte every `every` seconds
`split`        pieces whose bytes are sent one by one, in packets of their own
`half_close`   true: the client ends its side of the connection
`pad`          a text, repeated until the bytes before it and itself are `to` bytes
`cut`          pieces, of which only the first `at` bytes are sent; `after` has the others
=============  =======================================================================================
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Piece = str | Mapping[str, Any]
BLOCK: Final = 1 << 16  # bytes that are handed to the socket at once


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds in which nothing is sent."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """The end of the client's side."""


Step = bytes | Pause | HalfClose


class Template:
    """Fills words such as ``$row`` into texts; a dollar sign before any other word stays.

    Parameters
    ----------
    words : mapping of str to str
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        self._pattern = re.compile(r"\$(" + "|".join(sorted(words, key=len, reverse=True)) + r")\b")

    def filled(self, text: str) -> str:
        """The text with all its words."""
        return self._pattern.sub(lambda found: self._words[found[1]], text)


def steps(pieces: Piece | Sequence[Piece], template: Template, *, encoding: str = "utf-8") -> Iterator[Step]:
    """What is done to send these pieces, one thing after another."""
    before = 0
    for piece in [pieces] if isinstance(pieces, str | Mapping) else pieces:
        table: Mapping[str, Any] = {"text": piece} if isinstance(piece, str) else piece
        for step in _of_table(table, template, encoding, before):
            before += len(step) if isinstance(step, bytes) else 0
            yield step


def content(pieces: Piece | Sequence[Piece], template: Template, *, encoding: str = "utf-8") -> bytes:
    """The bytes of pieces in which nothing waits."""
    return b"".join(step for step in steps(pieces, template, encoding=encoding) if isinstance(step, bytes))


def _of_table(table: Mapping[str, Any], template: Template, encoding: str, before: int) -> Iterator[Step]:
    def bytes_of(key: str) -> bytes:
        return content(table[key], template, encoding=encoding)

    match table:
        case {"wait": seconds}:
            yield Pause(seconds)
        case {"half_close": _}:
            yield HalfClose()
        case {"pad": text, "to": end}:
            yield text.encode() * (int(template.filled(end)) - before)
        case {"cut": _, "at": at}:
            yield bytes_of("cut")[:at]
        case {"after": _, "at": at}:
            yield bytes_of("after")[at:]
        case {"drip": _, "every": seconds}:
            yield from _one_by_one(bytes_of("drip"), seconds)
        case {"split": _}:
            yield from _one_by_one(bytes_of("split"), 0.0)
        case {"chunked": _}:
            yield from _chunks(table, template, encoding)
        case _:
            yield _plain(table, template, encoding)


def _one_by_one(data: bytes, seconds: float) -> Iterator[Step]:
    for byte in data:
        yield from (bytes([byte]), Pause(seconds))


def _plain(table: Mapping[str, Any], template: Template, encoding: str) -> bytes:
    if "hex" in table:
        return bytes.fromhex(table["hex"])
    if "text" in table:
        return template.filled(table["text"]).encode(str(table.get("encoding", encoding)), "surrogatepass")
    if "repeat" in table:
        repeated = str(table.get("between", "")).join([str(table["repeat"])] * int(table["times"]))
        return template.filled(repeated).encode(encoding)
    if "numbers" in table:
        around = template.filled(table["numbers"])
        return (
            str(table.get("between", ","))
            .join(around.replace("#", str(i)) for i in range(table["times"]))
            .encode(encoding)
        )
    (name,) = table.keys() & COMPRESSED.keys()
    return COMPRESSED[name](content(table[name], template, encoding=encoding))


def _chunks(table: Mapping[str, Any], template: Template, encoding: str) -> Iterator[Step]:
    size, extension = table["size"], template.filled(table.get("extension", "")).encode("latin-1")
    whole = content(table["chunked"], template, encoding=encoding)
    parts = (whole[i : i + size] for i in range(0, len(whole), size))
    framed = bytearray()
    for part in parts:
        framed += b"%x%b\r\n%b\r\n" % (len(part), extension, part)
        if len(framed) > BLOCK:
            yield bytes(framed)
            framed.clear()
    yield bytes(framed) + (b"0\r\n\r\n" if table.get("end", True) else b"")


def _raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


COMPRESSED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": lambda data: zlib.compress(data),  # noqa: PLW0108  # its other parameters are none of ours
    "raw_deflate": _raw_deflate,
}
