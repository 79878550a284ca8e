"""What a pull reads from, whatever it is: files by path, from any byte on, below an address.

Tested in `tests/pull/test_source_kinds.py`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from service.pull.pull_errors import PullFailed, SourceInterrupted, SourceMissing

T = TypeVar("T")

CHUNK: Final = 1 << 20
"""Bytes that are read and written at once."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a source, being read.

    Attributes
    ----------
    offset : int
        Byte at which the chunks begin; 0 where the source cannot begin later.
    size : int or None
        Bytes of the whole file; None where the source does not state them.
    chunks : iterator of bytes
        Raises SourceInterrupted where the source stops early.
    """

    offset: int
    size: int | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """A place that holds versions by the paths of a repository: ``NAME/aliases.toml``, ``NAME/VERSION/SHA256SUMS``."""

    @property
    def title(self) -> str:
        """How messages call it: its address, without credentials."""

    def close(self) -> None:
        """End its connections."""

    def names(self) -> list[str]:
        """Models that it holds.

        Raises
        ------
        PullFailed
            Where it cannot list them.
        """

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Bytes of the files of a folder as its index states them; empty where it has no index."""

    def read(self, path: str, offset: int = 0) -> AbstractContextManager[Content]:
        """Open a file, from a byte on.

        Raises
        ------
        SourceMissing, SourceInterrupted, PullFailed
        """


def tried(attempt: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """What an attempt comes to; where the source is interrupted, that of another one."""
    for seconds in (0.5, 1.0):
        try:
            return attempt()
        except SourceInterrupted:
            pause(seconds)
    return attempt()


def read_text(source: Source, path: str, *, limit: int) -> str | None:
    """All of a small text file; None where the source does not hold it.

    Raises
    ------
    PullFailed
        If it is larger than the limit, or no text.
    """
    try:
        read = tried(partial(_read, source, path, limit))
    except SourceMissing:
        return None
    try:
        return read.decode("utf-8")
    except UnicodeDecodeError:
        raise PullFailed(f"{source.title}/{path} is not UTF-8 text") from None


def _read(source: Source, path: str, limit: int) -> bytes:
    with source.read(path) as content:
        return read_within(content.chunks, limit, f"{source.title}/{path}")


def read_within(chunks: Iterator[bytes], limit: int, title: str) -> bytes:
    """All of a small file.

    Raises
    ------
    PullFailed
        If it is larger than the limit.
    """
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > limit:
            raise PullFailed(f"{title} is larger than the {limit >> 10} KiB that such a file can have")
    return bytes(found)
