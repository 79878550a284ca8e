"""Reload: what is served follows the repository while the service runs, by polling it and on request.

An alias that moves is noticed, and what it points at is loaded, proven and swapped in. A model that may be
loaded on request may also be unloaded: then it stays away, whatever its aliases do, until a load is requested.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from service.bundle.repository import ALIASES_FILE, Repository
from service.errors import LoadFailed, ModelNotFound, ServiceError
from service.runtime.registry import Registry, Served, load_served

log = logging.getLogger("temperance")

Look = tuple[bytes | None, tuple[int, ...]]
"""What a deployment changes on disk: the text of `aliases.toml` and the versions beside it."""

UNLOADED = "it was unloaded on request; a load brings it back"
WITHDRAWN = "all its aliases were removed; an alias brings it back"
UNNAMED = "no alias names this version"
RETIRED = "it is retired and does not come back"
PENDING = "an alias names this version, and it has not been loaded yet"


@dataclass(frozen=True, slots=True)
class Listed:
    """A published version.

    Attributes
    ----------
    name : str
    version : int
    reason : str or None
        Why it is not served; None where it is.
    """

    name: str
    version: int
    reason: str | None


@dataclass(slots=True)
class Reloader:
    """Brings a registry up to date with its repository, from one thread at a time.

    A change is acted upon once it looks the same twice in a row, so that a copy under way is not mistaken for one.
    A version that cannot be loaded leaves the old one serving; it is tried again when something changes.

    Attributes
    ----------
    repository : Repository
    registry : Registry
    threads : int
    """

    repository: Repository
    registry: Registry
    threads: int
    _acted: dict[str, Look] = field(init=False)
    _seen: dict[str, Look] = field(init=False)
    _unloaded: set[str] = field(init=False, default_factory=set)
    _refusals: dict[str, str] = field(init=False, default_factory=dict)
    _turn: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._seen = self._look()
        self._acted = dict(self._seen)

    def poll(self) -> bool:
        """Act on changes that have settled since the last poll; whether anything was done."""
        with self._turn:
            before, self._seen = self._seen, self._look()
            settled = [name for name, look in self._seen.items() if look == before.get(name)]
            return self._act(lambda name: name in settled)

    def reload(self) -> bool:
        """Act on every change now, on request."""
        with self._turn:
            self._seen = self._look()
            return self._act(lambda _: True)

    def load(self, name: str) -> None:
        """Serve what a model's aliases name now, also if it was unloaded.

        Raises
        ------
        ModelNotFound
            If no version of that name is published.
        LoadFailed
            With the reason; what was served before still is.
        """
        with self._turn:
            self._check_published(name)
            self._unloaded.discard(name)
            self._acted[name] = self._look_at(name)
            self._replace(name)
            if name in self._refusals:
                raise LoadFailed(self._refusals[name])

    def unload(self, name: str) -> None:
        """Serve a model no longer, until a load is requested; requests under way keep it.

        Raises
        ------
        ModelNotFound
            If it is neither served nor published.
        """
        with self._turn:
            if self.registry.find(name) is None:
                self._check_published(name)
            self._unloaded.add(name)
            self._refusals.pop(name, None)
            self.registry.remove(name)
            log.info("not serving %s: %s", name, UNLOADED)

    def listing(self) -> list[Listed]:
        """Every published version of every model, and every version that is served."""
        return [listed for name in self._names() for listed in self._list(name)]

    def _list(self, name: str) -> list[Listed]:
        served = self.registry.find(name)
        loaded = {} if served is None else served.models
        reason = self._reasons(name)
        versions = {*self.repository.versions(name), *loaded}
        found = [Listed(name, version, None if version in loaded else reason(version)) for version in versions]
        withdrawn = [Listed(name, version, RETIRED) for version in set(self.repository.retired(name)) - versions]
        return sorted([*found, *withdrawn], key=lambda listed: listed.version)

    def _reasons(self, name: str) -> Callable[[int], str]:
        if name in self._unloaded:
            return lambda _: UNLOADED
        refusal = self._refusals.get(name)
        try:
            aliased = self.repository.aliases(name).values()
        except (ServiceError, OSError) as error:
            reason = refusal or str(error)
            return lambda _: reason
        return lambda version: (refusal or PENDING) if version in aliased else UNNAMED

    def _act(self, is_due: Callable[[str], bool]) -> bool:
        looks = ((name, look) for name, look in self._seen.items() if name not in self._unloaded)
        changed = [name for name, look in looks if look != self._acted.get(name) and is_due(name)]
        for name in changed:
            self._acted[name] = self._seen[name]
            self._replace(name)
        return bool(changed)

    def _replace(self, name: str) -> None:
        old = self.registry.find(name)
        if self._is_withdrawn(name):
            self._refusals[name] = WITHDRAWN
            self.registry.remove(name)
            log.info("not serving %s: %s", name, WITHDRAWN)
            return
        try:
            new = load_served(self.repository, name, threads=self.threads, loaded=None if old is None else old.models)
        except (ServiceError, OSError) as error:
            self._keep(name, error, old)
            return
        self._refusals.pop(name, None)
        self.registry.replace(name, new)
        log.info("serving %s: %s", name, ", ".join(f"{label} = {version}" for label, version in new.aliases.items()))

    def _is_withdrawn(self, name: str) -> bool:
        try:
            return self.repository.has_no_alias_left(name)
        except (ServiceError, OSError):
            return False  # what cannot be read is no decision

    def _keep(self, name: str, error: Exception, old: Served | None) -> None:
        self._refusals[name] = str(error)
        if old is None:
            log.error("not serving %s: %s", name, error)
            return
        self.registry.refuse(name, str(error))
        log.error("still serving the versions of %s that were loaded before: %s", name, error)

    def _check_published(self, name: str) -> None:
        if name not in self._published():
            raise ModelNotFound("no model of that name is published; the index of the repository shows those that are")

    def _published(self) -> list[str]:
        try:
            names = self.repository.names()
            return [name for name in names if self.repository.versions(name) or self.repository.retired(name)]
        except (ServiceError, OSError):  # the models that are served are looked at all the same
            return []

    def _names(self) -> list[str]:
        return sorted({*self._published(), *self.registry.names()})

    def _look(self) -> dict[str, Look]:
        return {name: self._look_at(name) for name in self._names()}

    def _look_at(self, name: str) -> Look:
        try:
            text = (self.repository.folder(name) / ALIASES_FILE).read_bytes()
        except OSError:
            text = None
        try:
            return text, tuple(self.repository.versions(name))
        except (ServiceError, OSError):
            return text, ()
