"""Aliases watched: what they come to point at is loaded, proven and swapped in while the service runs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from service.bundle.repository import ALIASES_FILE, Repository
from service.errors import ServiceError
from service.runtime.registry import Registry, Served, load_served

log = logging.getLogger("temperance")

Look = tuple[bytes | None, tuple[int, ...]]
"""What a deployment changes on disk: the text of `aliases.toml` and the versions beside it."""


@dataclass(slots=True)
class Reloader:
    """Brings a registry up to date with its repository.

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

    def __post_init__(self) -> None:
        self._seen = self._look()
        self._acted = dict(self._seen)

    def poll(self) -> bool:
        """Act on changes that have settled since the last poll; whether anything was done."""
        before, self._seen = self._seen, self._look()
        settled = [name for name, look in self._seen.items() if look == before.get(name)]
        return self._act(lambda name: name in settled)

    def reload(self) -> bool:
        """Act on every change now: somebody asked for it."""
        self._seen = self._look()
        return self._act(lambda _: True)

    def _act(self, is_due: Callable[[str], bool]) -> bool:
        changed = [name for name, look in self._seen.items() if look != self._acted.get(name) and is_due(name)]
        for name in changed:
            self._acted[name] = self._seen[name]
            self._replace(name)
        return bool(changed)

    def _replace(self, name: str) -> None:
        old = self.registry.find(name)
        try:
            new = load_served(self.repository, name, threads=self.threads, loaded=None if old is None else old.models)
        except (ServiceError, OSError) as error:
            self._keep(name, error, old)
            return
        self.registry.replace(name, new)
        log.info("serving %s: %s", name, ", ".join(f"{label} = {version}" for label, version in new.aliases.items()))

    def _keep(self, name: str, error: Exception, old: Served | None) -> None:
        if old is None:
            log.error("not serving %s: %s", name, error)
            return
        self.registry.refuse(name, str(error))
        log.error("still serving the versions of %s that were loaded before: %s", name, error)

    def _look(self) -> dict[str, Look]:
        try:
            names = [name for name in self.repository.names() if self.repository.versions(name)]
        except (ServiceError, OSError):  # what is served is looked at below, and found gone
            names = []
        return {name: self._look_at(name) for name in sorted({*names, *self.registry.names()})}

    def _look_at(self, name: str) -> Look:
        try:
            text = (self.repository.folder(name) / ALIASES_FILE).read_bytes()
        except OSError:
            text = None
        return text, tuple(self.repository.versions(name))
