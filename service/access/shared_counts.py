"""What callers sent in the last minute, counted second by second by several processes together without locks.

One file is mapped into every process. Each process writes in a region of its own and reads all regions. A count and its
second are one aligned word of 64 bits, so no reader sees half of a change, and old counts need no clearing. A region is
held by a lock on a file beside it, which the system gives back when the process ends.
"""

import fcntl
import logging
import mmap
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, NamedTuple

SECONDS: Final = 61
"""Seconds that count, the present one among them: whatever 60 seconds are looked at, nothing in them was forgotten."""
CELLS: Final = 64  # of one count, one for each second, used in turn
BUCKETS: Final = 256
WAYS: Final = 8
"""Callers of one bucket; of `BUCKETS` times `WAYS`, 2048, each process can count at once."""
KINDS: Final = {"requests": 0, "rows": CELLS}
"""Kind of count -> its first word of a caller's."""
WORD: Final = 8
WORDS_OF_A_CALLER: Final = CELLS * len(KINDS)
WORDS_OF_A_BUCKET: Final = WAYS * (1 + WORDS_OF_A_CALLER)
WORDS_OF_A_REGION: Final = BUCKETS * WORDS_OF_A_BUCKET
DIGESTS: Final = struct.Struct(f"={WAYS}Q")
RING: Final = struct.Struct(f"={CELLS}Q")
COUNT: Final = (1 << 32) - 1
LOOK_SECONDS: Final = 0.1
"""For which counts of other processes are remembered, unless this process counted more than a grain meanwhile."""

Kind = Literal["requests", "rows"]

log = logging.getLogger("temperance")


class _Place(NamedTuple):
    digest: int  # of a caller's name
    bucket: int  # words from the start of a region


@lru_cache(maxsize=BUCKETS * WAYS)
def _place(name: str) -> _Place:
    digest = int.from_bytes(blake2b(name.encode(), digest_size=WORD).digest()) or 1  # 0 is an empty way
    return _Place(digest, digest % BUCKETS * WORDS_OF_A_BUCKET)


@dataclass(slots=True)
class _Window:
    """What this process counted of one kind for one caller, and what the others had when it last looked."""

    ring: int  # its first word
    total: int = 0
    second: int = 0  # up to which the total holds
    others: int = 0
    looked: float = float("-inf")  # when
    total_then: int = 0


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
        self._windows: dict[Kind, dict[str, _Window]] = {"requests": {}, "rows": {}}
        self._names: dict[int, str] = {}  # by the place of a caller in the own region

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

    def sent(self, name: str, kind: Kind, now: float, *, grain: int = 0) -> int:
        """What all processes counted for a caller in the last minute.

        Parameters
        ----------
        name : str
        kind : str
        now : float
            In seconds.
        grain : int, optional
            What this process may count until it looks again at what the others have.
        """
        window = self._windows[kind].get(name) or self._window(name, kind, int(now))
        if int(now) > window.second:
            self._forget(window, int(now))
        if self._others and (now - window.looked >= LOOK_SECONDS or window.total - window.total_then > grain):
            window.others = sum(map(sum, self._ages_of_others(name, kind, int(now))))
            window.looked, window.total_then = now, window.total
        return window.total + window.others

    def add(self, name: str, kind: Kind, now: float, amount: int) -> None:
        """Count for a caller."""
        second = int(now)
        window = self._windows[kind].get(name) or self._window(name, kind, second)
        if second > window.second:
            self._forget(window, second)
        cell = window.ring + second % CELLS
        word = self._words[cell]
        count = min(amount, COUNT - (word & COUNT)) if word >> 32 == second else amount
        self._words[cell] = word + count if word >> 32 == second else second << 32 | count
        window.total += count

    def by_age(self, name: str, kind: Kind, now: float) -> list[int]:
        """What all processes counted for a caller, by the seconds that it is old."""
        window = self._windows[kind].get(name) or self._window(name, kind, int(now))
        rings = [self._ages(window.ring, int(now)), *self._ages_of_others(name, kind, int(now))]
        return [sum(counts) for counts in zip(*rings, strict=True)]

    def _forget(self, window: _Window, second: int) -> None:
        if second - window.second >= SECONDS:
            window.total = 0
        else:
            for old in range(window.second - SECONDS + 1, second - SECONDS + 1):
                word = self._words[window.ring + old % CELLS]
                window.total -= word & COUNT if word >> 32 == old else 0
        window.second = second

    def _window(self, name: str, kind: Kind, second: int) -> _Window:
        digest, bucket = _place(name)
        found = self._found(self._own + bucket, digest)  # by this process, or by the one that had the region before
        way = self._claimed(name, second) if found is None else found
        self._names[way] = name
        ring = way + KINDS[kind]
        window = self._windows[kind][name] = _Window(ring, sum(self._ages(ring, second)), second)
        return window

    def _ages_of_others(self, name: str, kind: Kind, second: int) -> list[list[int]]:
        digest, bucket = _place(name)
        ways = (self._found(region + bucket, digest) for region, used in self._others if self._words[used])
        return [self._ages(way + KINDS[kind], second) for way in ways if way is not None]

    def _ages(self, ring: int, second: int) -> list[int]:
        counts = [0] * SECONDS
        for word in RING.unpack_from(self._memory, ring * WORD):
            age = max(0, second - (word >> 32))  # another process may be a moment ahead
            if age < SECONDS:
                counts[age] += word & COUNT
        return counts

    def _found(self, bucket: int, digest: int) -> int | None:
        digests = DIGESTS.unpack_from(self._memory, bucket * WORD)
        if digest not in digests:
            return None
        return bucket + WAYS + digests.index(digest) * WORDS_OF_A_CALLER

    def _claimed(self, name: str, second: int) -> int:
        # An empty way, or that of the caller who sent least of late: its counts are lost, and nothing else is.
        digest, bucket = _place(name)
        start = self._own + bucket
        ways = [start + WAYS + number * WORDS_OF_A_CALLER for number in range(WAYS)]
        number = min(range(WAYS), key=lambda number: self._recent(start + number, ways[number], second))
        for windows in self._windows.values():
            windows.pop(self._names.get(ways[number], ""), None)
        self._words[start + number] = 0
        self._words[ways[number] : ways[number] + WORDS_OF_A_CALLER] = _EMPTY
        self._words[start + number] = digest
        return ways[number]

    def _recent(self, digest: int, way: int, second: int) -> int:
        if not self._words[digest]:
            return -1
        windows = [own.get(self._names.get(way, "")) for own in self._windows.values()]
        return sum(window.total for window in windows if window is not None and second - window.second < SECONDS)


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


_EMPTY: Final = memoryview(bytes(WORDS_OF_A_CALLER * WORD)).cast("Q")
