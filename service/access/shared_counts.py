"""What callers sent in this minute and in the one before, counted by several processes together without locks.

One file is mapped into every process. Each process writes in a region of its own and reads all regions. A count and
its minute are one aligned word of 64 bits, so no reader sees half of a change, and counts of past minutes need no
clearing. A region is held by a lock on a file beside it, which the system gives back when the process ends.
"""

import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, NamedTuple

BUCKETS: Final = 512
WAYS: Final = 8
"""Callers of one bucket; in a region are at most `BUCKETS` times `WAYS`, 4096, in two minutes."""
KINDS: Final = {"requests": 0, "rows": 2}
"""Kind of count -> its first word of a caller's; it has two, for even and odd minutes."""
WORD: Final = 8
WORDS_OF_A_CALLER: Final = 2 * len(KINDS)
WORDS_OF_A_BUCKET: Final = WAYS * (1 + WORDS_OF_A_CALLER)
WORDS_OF_A_REGION: Final = BUCKETS * WORDS_OF_A_BUCKET
DIGESTS: Final = struct.Struct(f"={WAYS}Q")
COUNT: Final = (1 << 32) - 1

Kind = Literal["requests", "rows"]

log = logging.getLogger("temperance")


class _Place(NamedTuple):
    digest: int  # of a caller's name
    bucket: int  # words from the start of a region


@lru_cache(maxsize=BUCKETS * WAYS)
def _place(name: str) -> _Place:
    digest = int.from_bytes(blake2b(name.encode(), digest_size=WORD).digest()) or 1  # 0 is an empty way
    return _Place(digest, digest % BUCKETS * WORDS_OF_A_BUCKET)


class SharedCounts:
    """Counts by caller.

    Parameters
    ----------
    memory : mmap
    own : int
        Region that this process writes.
    lock : int, optional
        File descriptor that holds the region.
    """

    def __init__(self, memory: mmap.mmap, own: int = 0, *, lock: int | None = None) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        regions = len(self._words) // WORDS_OF_A_REGION
        self._own = own * WORDS_OF_A_REGION
        # Behind the regions is a word for each, which says whether it was ever used.
        used = {number * WORDS_OF_A_REGION: number - regions for number in range(regions)}
        self._words[used.pop(self._own)] = 1
        self._others = list(used.items())
        self._lock = lock
        self._ways: dict[str, int] = {}  # of callers that have one in the own region, which no other process changes
        self._names: dict[int, str] = {}  # whose they are

    @classmethod
    def alone(cls) -> "SharedCounts":
        """Of one process."""
        return cls(mmap.mmap(-1, _size(1)))

    @classmethod
    def joined(cls, folder: Path, workers: int) -> "SharedCounts":
        """Of this worker together with those that use the same folder.

        Parameters
        ----------
        folder : Path
            Of this run of the service, writable for it alone.
        workers : int
            As every worker states it.
        """
        regions = 2 * workers + 1  # where workers are replaced one by one, the old and the new ones live together
        memory = _mapped(folder / "quotas", _size(regions))
        for own in range(regions):
            lock = _locked(folder / f"quotas.{own}.lock")
            if lock is not None:
                return cls(memory, own, lock=lock)
        log.warning("no region is free for the counts of quotas: this process counts for itself")
        return cls.alone()

    def leave(self) -> None:
        """Give the region back, as the end of the process does; what was counted in it still counts."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def totals(self, name: str, kind: Kind, minute: int) -> tuple[int, int]:
        """What all processes counted for a caller in a minute, and in the one before."""
        words, column, odd = self._words, KINDS[kind], minute & 1
        current = previous = 0
        own = self._ways[name] if name in self._ways else self._before(name)
        for way in self._of_others(name) if own is None else (own, *self._of_others(name)):
            now, before = words[way + column + odd], words[way + column + 1 - odd]
            if now >> 32 == minute:
                current += now & COUNT
            if before >> 32 == minute - 1:
                previous += before & COUNT
        return current, previous

    def add(self, name: str, kind: Kind, minute: int, amount: int) -> None:
        """Count for a caller in a minute."""
        way = self._ways.get(name)
        if way is None:
            before = self._before(name)
            way = self._ways[name] = self._claimed(name, minute) if before is None else before
        cell = way + KINDS[kind] + (minute & 1)
        word = self._words[cell]
        count = word & COUNT if word >> 32 == minute else 0
        self._words[cell] = minute << 32 | min(count + amount, COUNT)

    def _of_others(self, name: str) -> Sequence[int]:
        if not self._others:
            return ()
        digest, bucket = _place(name)
        ways = (self._found(region + bucket, digest) for region, used in self._others if self._words[used])
        return [way for way in ways if way is not None]

    def _found(self, bucket: int, digest: int) -> int | None:
        digests = DIGESTS.unpack_from(self._memory, bucket * WORD)
        if digest not in digests:
            return None
        return bucket + WAYS + digests.index(digest) * WORDS_OF_A_CALLER

    def _before(self, name: str) -> int | None:
        # The process that had the region before may have counted for this caller.
        digest, bucket = _place(name)
        return self._found(self._own + bucket, digest)

    def _claimed(self, name: str, minute: int) -> int:
        # An empty way, or that of the caller who sent least of late: its counts are lost, and nothing else is.
        digest, bucket = _place(name)
        start = self._own + bucket
        way = min(range(WAYS), key=lambda way: self._recent(start + WAYS + way * WORDS_OF_A_CALLER, minute))
        words = start + WAYS + way * WORDS_OF_A_CALLER
        self._ways.pop(self._names.get(words, ""), None)
        self._names[words] = name
        self._words[start + way] = 0
        for word in range(words, words + WORDS_OF_A_CALLER):
            self._words[word] = 0
        self._words[start + way] = digest
        return words

    def _recent(self, words: int, minute: int) -> int:
        cells = self._words[words : words + WORDS_OF_A_CALLER].tolist()
        return sum(cell & COUNT for cell in cells if cell >> 32 >= minute - 1)


def _size(regions: int) -> int:
    return regions * (WORDS_OF_A_REGION + 1) * WORD


def _mapped(path: Path, size: int) -> mmap.mmap:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, size)  # every worker states the same size, so none loses what another counted
        return mmap.mmap(handle, size)
    finally:
        os.close(handle)


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
