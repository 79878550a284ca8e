"""What is deleted, and what of it is recorded: the clear text of a subject, and records that are older than a date.

Tested in tests/store/test_retention.py.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.store.anchors import HOUR, Sink, line_of, signed
from service.store.engine import Store
from service.store.entries import Event, Outcome
from service.store.secrets import Secrets
from service.store.signing import Signer
from service.store.streams import Head, Linked, Stream
from service.store.verification import PRUNED, segments_of

MINUTE: Final = 60_000_000
DAY: Final = 86_400_000_000
MOST_AT_ONCE: Final = 10_000
FULL: Final = 0.8
"""Share of a disk from which on an operator is warned."""


@dataclass(frozen=True, slots=True)
class Disk:
    """How full the disk of a folder is.

    Attributes
    ----------
    total, free : int
        Bytes; free are those that the service may use.
    """

    total: int
    free: int

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        """The disk of a folder.

        Raises
        ------
        OSError
            If there is no such folder.
        """
        found = os.statvfs(folder)
        return cls(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    @property
    def is_nearly_full(self) -> bool:
        """Whether 80 % of it are used."""
        return self.total > 0 and 1 - self.free / self.total >= FULL


def erase(store: Store, secrets: Secrets, subject: str, *, now: int, reason: str | None = None) -> int:
    """Destroy the keys of a subject's clear text, under every secret; how many tokens of it had any.

    The event names the token alone.
    """
    erased = 0
    for secret in secrets.by_id.values():
        token = secret.tokens.token("subject", subject)
        detail = {"subject": token.hex(), "key_id": secret.key_id, "reason": reason}
        erased += store.erase(token, Event(now, "erased", json.dumps(detail)))
    return erased


class Retention:
    """Deletes what is older than some days, and stored replies after a day; a chore of the thread that writes.

    At most some ten thousand entries at once, so that answers do not wait for it; the rest a minute later.

    Parameters
    ----------
    sink : Sink
        Where anchors go.
    signer : Signer
    days : int
        0 keeps all records.
    every : int
        Entries between two anchors.
    clock : callable
        Microseconds since 1970.
    """

    def __init__(
        self,
        sink: Sink,
        signer: Signer,
        *,
        days: int,
        every: int,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._sink = sink
        self._signer = signer
        self._days = days
        self._most = max(MOST_AT_ONCE, 2 * every)
        self._clock = clock
        self._next = 0

    def run(self, store: Store, *, is_last: bool = False) -> None:
        """Delete what is due, once an hour.

        Raises
        ------
        StoreUnavailable
            If store or anchors cannot be written.
        """
        now = self._clock()
        if is_last or now < self._next:
            return
        self._next = now + HOUR
        store.forget_replies(now - DAY)
        if self._days and prune(
            store, self._signer, self._sink, before=now - self._days * DAY, now=now, most=self._most
        ):
            self._next = now + MINUTE


def prune(store: Store, signer: Signer, sink: Sink, *, before: int, now: int, most: int | None = None) -> int:
    """Delete whole anchored segments of entries that are all older; how many entries were deleted.

    A stream whose entries are all older is anchored at its end first: a process that was killed wrote no last anchor.
    Stored replies older than a day are deleted too.

    Parameters
    ----------
    store : Store
    signer : Signer
    sink : Sink
        Where anchors go.
    before, now : int
        Microseconds since 1970.
    most : int, optional
        Entries of a stream to look at.

    Raises
    ------
    StoreUnavailable
        If store or anchors cannot be written.
    """
    gone = segments_of(store)
    own = store.head()
    found: dict[int, int] = {}
    for stream in store.streams():
        cut = _cut(store, stream, gone.get(stream.number, 0), before=before, most=most)
        if cut is not None and cut[1] and not (own and own.stream == stream.number):
            anchor = signed(cut[0], now, signer)
            sink.append(line_of(anchor))
            store.keep_anchor(anchor)
        sequence = _anchored(store, stream, cut)
        if sequence > gone.get(stream.number, 0):
            found[stream.number] = sequence
    store.forget_replies(now - DAY)
    return store.prune(found, _event({**gone, **found}, before, now)) if found else 0


def _cut(store: Store, stream: Stream, first: int, *, before: int, most: int | None) -> tuple[Head, bool] | None:
    """The last entry of a stream before which all are older, and whether it is the stream's last."""
    last: Linked | None = None
    for one in store.entries(stream.number):
        if _time(one) >= before or (most is not None and one.sequence > first + most):
            return None if last is None else (_head(stream, last), False)
        last = one
    return None if last is None or last.sequence <= first else (_head(stream, last), True)


def _head(stream: Stream, one: Linked) -> Head:
    return Head(stream.number, stream.name, one.sequence, one.link)


def _time(one: Linked) -> int:
    return one.entry.received if isinstance(one.entry, Outcome) else one.entry.created


def _anchored(store: Store, stream: Stream, cut: tuple[Head, bool] | None) -> int:
    last = 0 if cut is None else cut[0].sequence
    anchored: Sequence[int] = [one.sequence for one in store.anchors(stream.number) if one.sequence <= last]
    return max(anchored, default=0)


def _event(segments: dict[int, int], before: int, now: int) -> Event:
    return Event(now, PRUNED, json.dumps({"before": before, "segments": sorted(segments.items())}))
