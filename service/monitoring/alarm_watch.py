"""Looks at every version every so often, by one process at a time among all workers and machines.

A lease in the store says who looks: one that a process left behind when it ended is taken over once it has run out.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import getLogger
from threading import Event
from typing import Final

import orjson

from service.monitoring.alarms import (
    Alarm,
    CurrentEvidence,
    Watched,
    alarms_of,
    evidence_of,
    look,
    record_alarms,
)
from service.record_errors import StoreDamaged
from service.store.engine import Store

log = getLogger("temperance")

LEASE_NAME: Final = "alarms:lease"
LEASE_SECONDS: Final = 120
MOST_CHUNKS: Final = 200
"""Of one look at a version; what is left is for the next."""

MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class AlarmWatch:
    """What a process needs to look.

    Attributes
    ----------
    owner : str
        Unique to the process.
    versions : callable
        Those that are served now.
    ending : Event
        Set when the process ends: a look then stops between two chunks.
    clock : callable
        Microseconds since 1970.
    """

    owner: str
    versions: Callable[[], Iterable[Watched]]
    ending: Event
    clock: Callable[[], int] = lambda: time.time_ns() // 1000

    def look(self, store: Store) -> list[Alarm]:
        """Look at all versions if it is this process' time to; all alarms that there are.

        Parameters
        ----------
        store : Store
            Opened with a signer.

        Raises
        ------
        StoreUnavailable
        """
        if leased(store, self.owner, now=self.clock()):
            try:
                self._look_at_all(store)
            finally:
                leased(store, self.owner, now=self.clock(), seconds=0)
        return alarms_of(store)

    def evidence(self, store: Store) -> list[CurrentEvidence]:
        """How far every test of every version is, whichever process looked last.

        Parameters
        ----------
        store : Store

        Raises
        ------
        StoreUnavailable
        """
        return [evidence for watched in self.versions() for evidence in evidence_of(store, watched)]

    def _look_at_all(self, store: Store) -> None:
        for watched in self.versions():
            try:
                self._look_at(store, watched)
            except StoreDamaged as error:  # of one version; others are sound
                log.warning("no alarms of %s version %d: %s", watched.model, watched.version, error.detail)

    def _look_at(self, store: Store, watched: Watched) -> None:
        arrival, chunks = -1, 0
        while chunks < MOST_CHUNKS and not self.ending.is_set() and leased(store, self.owner, now=self.clock()):
            progress, chunks = look(store, watched), chunks + 1
            if progress is None or progress.arrival == arrival:
                return
            arrival = progress.arrival
            for raised in record_alarms(store, watched, progress, now=self.clock()):
                name = f"{watched.model} version {watched.version}"
                log.warning("alarm of %s: %s, after %d outcomes", name, raised.test, raised.outcomes)


def leased(store: Store, owner: str, *, now: int, seconds: int = LEASE_SECONDS) -> bool:
    """Whether a process may look for so many seconds from now; with 0 seconds, its lease ends.

    Parameters
    ----------
    store : Store
    owner : str
    now : int
        Microseconds since 1970.
    seconds : int
    """
    before = store.state(LEASE_NAME)
    held = None if before is None else orjson.loads(before)
    if held is not None and held["owner"] != owner and held["until"] > now:
        return False
    content = orjson.dumps({"owner": owner, "until": now + seconds * MICROSECONDS}).decode()
    return content == before or store.keep_state(LEASE_NAME, content, expected=before)
