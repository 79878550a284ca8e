"""The keys of a running service: they follow their store, and remember when each was last used."""

import logging
from collections.abc import Callable

from service.access.caller import Caller
from service.access.key_file import KeyStore
from service.access.keys import KeyTable, id_of
from service.errors import KeysInvalid
from service.telemetry import Telemetry

log = logging.getLogger("temperance")


class WatchedKeys:
    """Checks keys against the last state of their store that could be read.

    A store that was there and is gone or damaged changes nothing: keys are taken away by revoking them.

    Parameters
    ----------
    store : KeyStore
    clock : callable
        Seconds since 1970.
    are_needed : bool, optional
        Whether a credential is needed although no key was ever made.
    telemetry : Telemetry, optional
        Counts changes of the store.
    """

    def __init__(
        self,
        store: KeyStore,
        clock: Callable[[], float],
        *,
        are_needed: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._store, self._clock, self._telemetry = store, clock, telemetry
        self._needed = are_needed
        self._table = KeyTable()
        self._revision: bytes | None = None
        self._fault = ""
        self._used: dict[str, float] = {}
        self.poll()

    def are_needed(self) -> bool:
        """Whether there are keys, or were, so that requests without one are refused."""
        return self._needed

    def caller(self, key: bytes) -> Caller:
        """Whose key this is.

        Raises
        ------
        Unauthenticated
            If no such key lives.
        TokenExpired
            If it lived once.
        """
        now = self._clock()
        caller = self._table.caller(key, now)
        self._used[id_of(key)] = now
        return caller

    def usable(self) -> int:
        """How many keys live now."""
        return self._table.usable(self._clock())

    def poll(self) -> bool:
        """Look at the store, and take over what has changed; whether anything has."""
        try:
            revision = self._store.revision()
            if revision == self._revision:
                return False
            table = KeyTable(self._store.read())
        except KeysInvalid as error:
            return self._keep(str(error))
        if revision is None:
            return self._keep("they are gone from where they were kept")
        is_first, self._revision, self._fault = self._revision is None, revision, ""
        self._table, self._needed = table, True
        if not is_first:
            self._count("ok")
            log.info("the keys have changed: %d are usable", self.usable())
        return True

    def take_used(self) -> dict[str, float]:
        """Ids of keys that were used since the last call, and when."""
        used, self._used = self._used, {}
        return used

    def _keep(self, fault: str) -> bool:
        self._needed = True
        if fault != self._fault:
            self._fault = fault
            self._count("refused")
            log.error("the keys of before stay in force: %s", fault)
        return False

    def _count(self, result: str) -> None:
        if self._telemetry is not None:
            self._telemetry.key_reloads.labels(result).inc()
