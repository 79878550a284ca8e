"""A file from a source onto the disk: continued where an earlier try ended, and finished only if its sum is right.

Tested in `tests/pull/test_fetching.py`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from service.bundle.durability import sync, writing
from service.bundle.files import file_sha256
from service.pull.pull_errors import PullFailed, SourceInterrupted
from service.pull.source import Source
from service.pull.source_index import check_size

TRIES: Final = 6
"""In a row, of which none brings a byte."""
LONGEST_PAUSE: Final = 8.0
FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

Advance = Callable[[int], None]
"""Takes the bytes that have come; fewer than none where a file begins anew."""


@dataclass(slots=True)
class Budget:
    """Bytes that a pull may still fetch.

    Attributes
    ----------
    left : int
    """

    left: int

    def take(self, count: int) -> None:
        """Account for bytes; PullFailed where too many have come."""
        self.left -= count
        if self.left < 0:
            raise PullFailed("the source sends more bytes than --max-bytes allows")


@dataclass(frozen=True, slots=True)
class Fetch:
    """How files are fetched.

    Attributes
    ----------
    source : Source
    budget : Budget
    advance : callable
        Of a progress bar.
    pause : callable
        Waits for so many seconds.
    """

    source: Source
    budget: Budget
    advance: Advance = lambda _: None
    pause: Callable[[float], None] = time.sleep

    def file(self, path: str, expected: str, part: Path, target: Path) -> None:
        """Bring a file to the disk; one that is finished is left as it is.

        Parameters
        ----------
        path : str
            In the source.
        expected : str
            SHA-256 in hexadecimal.
        part : Path
            What has come so far; another pull may have left it.
        target : Path
            Name that the file gets, once it is durable and its sum is right.

        Raises
        ------
        PullFailed
            If the source does not hold what the sum is of, or stops again and again.
        """
        if target.exists():
            self.advance(target.stat().st_size)
            return
        was_begun = part.exists()
        self._complete(path, part)
        if was_begun and file_sha256(part, follow=False) != expected:  # perhaps of another file of that name
            self._drop(part)
            self._complete(path, part)
        if file_sha256(part, follow=False) != expected:
            part.unlink()
            raise PullFailed(f"{self.source.title}/{path} does not match its sum in SHA256SUMS")
        with writing(target):
            part.chmod(0o644)
            sync(part)
            part.rename(target)

    def _complete(self, path: str, part: Path) -> None:
        with writing(part), open(os.open(part, FLAGS, 0o644), "r+b", buffering=0) as file:  # noqa: PTH123  # a descriptor
            self.advance(file.seek(0, os.SEEK_END))
            failures = 0
            while True:
                before = file.tell()
                try:
                    self._append(path, file)
                except SourceInterrupted:
                    failures = 0 if file.tell() > before else failures + 1
                    if failures == TRIES:
                        raise
                    self.pause(min(0.25 * 2**failures, LONGEST_PAUSE))
                else:
                    return

    def _append(self, path: str, file: FileIO) -> None:
        with self.source.read(path, file.tell()) as content:
            check_size(self.source, path, content.size)
            self.advance(content.offset - file.tell())
            file.seek(content.offset)
            file.truncate()
            for chunk in content.chunks:
                self.budget.take(len(chunk))
                file.write(chunk)
                self.advance(len(chunk))
                check_size(self.source, path, file.tell())
            if content.size is not None and file.tell() != content.size:
                raise SourceInterrupted(f"{self.source.title}/{path}: the connection ended early")

    def _drop(self, part: Path) -> None:
        self.advance(-part.stat().st_size)
        part.unlink()
