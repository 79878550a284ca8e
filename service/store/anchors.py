"""Signed anchors, written outside of the store: who cuts the end of a stream, or a whole one, contradicts them."""

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from service.errors import SettingsInvalid
from service.private_files import FILE_MODE, FOLDER_MODE
from service.record_errors import StoreUnavailable
from service.store.canonical import anchor_bytes
from service.store.engine import Store
from service.store.signing import Signer
from service.store.streams import Anchor, Head

ANCHORS_FILE: Final = "anchors.jsonl"
"""Its name in the data directory."""
HOUR: Final = 3_600_000_000
RETRY: Final = 5_000_000
"""Microseconds after an anchor that could not be written."""
KIND: Final = "temperance_anchor"


class Sink(Protocol):
    """Where lines of anchors go."""

    def append(self, line: bytes) -> None:
        """Write a line durably."""


class AnchorFile:
    """A file that is only appended to, its owner's alone.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, line: bytes) -> None:
        """Write a line durably; a line that a crash cut short is ended first.

        Raises
        ------
        StoreUnavailable
            If the file cannot be written.
        """
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, FILE_MODE)
            try:
                _append(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"anchors cannot be written to {self._path}: {error.strerror}") from None


class StandardOutput:
    """A line of standard output for each anchor, for a collector of logs to keep."""

    def append(self, line: bytes) -> None:
        """Write a line."""
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class Anchors:
    """Writes what is due of one process' stream; a chore of the thread that writes.

    An anchor is due with the first entry of a stream, after so many entries, an hour after the last one if there are
    new entries, and at the end of the process.

    Parameters
    ----------
    sink : Sink
    signer : Signer
    every : int
        Entries.
    clock : callable
        Microseconds since 1970.
    """

    def __init__(
        self, sink: Sink, signer: Signer, *, every: int, clock: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._sink = sink
        self._signer = signer
        self._every = every
        self._clock = clock
        self._last: Anchor | None = None
        self._failed = -RETRY

    def due(self, head: Head, now: int) -> bool:
        """Whether an anchor of this head is to be written now."""
        last = self._last
        if now < self._failed + RETRY:
            return False
        if last is None or last.name != head.name:
            return True
        return head.sequence >= last.sequence + self._every or (
            head.sequence > last.sequence and now >= last.created + HOUR
        )

    def run(self, store: Store, *, is_last: bool = False) -> None:
        """Write an anchor of the store's own stream, where one is due, and keep a copy in the store.

        Raises
        ------
        StoreUnavailable
            If it cannot be written. The next one is tried five seconds later.
        """
        head, now = store.head(), self._clock()
        if head is not None and (self.due(head, now) or (is_last and self._is_new(head))):
            self._failed = now
            store.keep_anchor(self.write(head, now))
            self._failed = -RETRY

    def write(self, head: Head, now: int) -> Anchor:
        """Sign and write an anchor, whether due or not.

        Raises
        ------
        StoreUnavailable
            If it cannot be written.
        """
        anchor = signed(head, now, self._signer)
        self._sink.append(line_of(anchor))
        self._last = anchor
        return anchor

    def _is_new(self, head: Head) -> bool:
        return self._last is None or (self._last.name, self._last.sequence) != (head.name, head.sequence)


def sink_of(path: Path | None, *, default: Path) -> Sink:
    """Where `TEMPERANCE_ANCHORS` says: ``-`` is standard output."""
    return StandardOutput() if path == Path("-") else AnchorFile(path or default)


def signed(head: Head, now: int, signer: Signer) -> Anchor:
    """An anchor of a head."""
    bare = Anchor(head.stream, head.name, head.sequence, head.link, now, signer.key_id, b"")
    signature = signer.sign(anchor_bytes(bare))
    return Anchor(head.stream, head.name, head.sequence, head.link, now, signer.key_id, signature)


def line_of(anchor: Anchor) -> bytes:
    """An anchor as a line of JSON."""
    members = {
        KIND: 1,
        "stream": anchor.stream,
        "name": anchor.name,
        "sequence": anchor.sequence,
        "link": anchor.link.hex(),
        "created": anchor.created,
        "key_id": anchor.key_id,
        "signature": anchor.signature.hex(),
    }
    return json.dumps(members).encode("ascii") + b"\n"


def read_anchors(path: Path) -> list[Anchor]:
    """The anchors of a file; other lines, as of a log beside them, are passed over.

    Raises
    ------
    SettingsInvalid
        If the file cannot be read, or a line of an anchor is damaged.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SettingsInvalid(f"{path} is no regular file")
        with path.open("rb") as file:
            return list(_anchors(path, file))
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}") from None


def _anchors(path: Path, lines: Iterator[bytes]) -> Iterator[Anchor]:
    for number, line in enumerate(lines, 1):
        if KIND.encode("ascii") in line and line.rstrip().endswith(b"}"):  # a crash may have cut a line short
            yield _anchor(path, number, line[line.index(b"{") :])


def _anchor(path: Path, number: int, line: bytes) -> Anchor:
    try:
        found: dict[str, Any] = json.loads(line)
        link, signature = bytes.fromhex(found["link"]), bytes.fromhex(found["signature"])
        stream, sequence, created = int(found["stream"]), int(found["sequence"]), int(found["created"])
        return Anchor(stream, str(found["name"]), sequence, link, created, str(found["key_id"]), signature)
    except (ValueError, KeyError, TypeError):
        raise SettingsInvalid(f"{path}, line {number}: this anchor is damaged") from None


def _append(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    if os.write(descriptor, line) != len(line):  # one call, so that lines of several processes do not mix
        raise OSError(28, "the disk is full")
    os.fsync(descriptor)
