"""Reload: what is served follows the repository while the service runs, by polling it and on request.

An alias that moves is noticed, and what it points at is loaded, proven and swapped in. What cannot be loaded leaves the
old versions serving, and is tried again. A model that may be loaded on request may also be unloaded: then it stays
away, whatever its aliases do, until a load is requested.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.bundle.repository import Repository
from service.errors import LoadFailed, ModelNotFound, ServiceError
from service.runtime.disk_look import Files, Look, files_of, look_at, published
from service.runtime.last_served import LastServed
from service.runtime.loader import Loader, Models, Outcome, Served, Withdrawn
from service.runtime.registry import Registry, every

log = logging.getLogger("temperance")

UNLOADED = "it was unloaded on request; a load brings it back"
WITHDRAWN = "all its aliases were removed; an alias brings it back"
UNNAMED = "no alias names this version"
RETIRED = "it is retired and does not come back"
SHADOW = "it runs as a shadow: its answers are recorded, and never returned"
PENDING = "an alias names this version, and it has not been loaded yet"

LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries of a load that failed, while nothing changes on disk."""
PAUSE_FOR_EACH_SECOND: Final = 10.0
"""Seconds of pause for each that a failed try took: what fails slowly takes a tenth of a processor at most."""


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


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a change on disk, or of another try.

    Attributes
    ----------
    name : str
    refusal : str or None
        Why what lies on disk is not served; None where it is.
    """

    name: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a model's versions are loaded from: as it looked before that began.

    Attributes
    ----------
    look : Look
    versions : list of int
        Those that its aliases name.
    files : Files
        Of those versions.
    """

    look: Look
    versions: list[int]
    files: Files


@dataclass(slots=True)
class _Followed:
    """How far one model was followed.

    Attributes
    ----------
    look : Look
        As it was when its versions were loaded, or could not be.
    failures : int
        Tries since then that have failed.
    due : float
        When it is tried again though nothing has changed, on the clock.
    versions : list of int
        Of which files are looked at, because they may still arrive.
    tried, seen : Files
        Those files at the last try and at the last look.
    """

    look: Look
    failures: int = 0
    due: float = 0.0
    versions: list[int] = field(default_factory=list)
    tried: Files = ()
    seen: Files = ()

    def has_settled(self, files: Files) -> bool:
        """Whether files have changed since the last try, and look now as they did at the last look."""
        is_still, self.seen = files == self.seen, files
        return is_still and files != self.tried

    def failed(self, now: float, took: float, attempt: _Attempt) -> None:
        """Another try has failed: the next one comes later, or when files change."""
        self.failures += 1
        self.due = now + max(min(2.0 ** (self.failures - 1), LONGEST_PAUSE), PAUSE_FOR_EACH_SECOND * took)
        self.versions, self.tried, self.seen = attempt.versions, attempt.files, attempt.files


class Reloader:
    """Brings a registry up to date with its repository, from one thread at a time.

    A version that cannot be loaded leaves the old one serving. It is tried again after 1, 2, 4 … 60 seconds, and as
    soon as its files have changed and look the same twice in a row: a copy that is under way is not read again and
    again.

    Parameters
    ----------
    loader : Loader
    registry : Registry
    last : LastServed, optional
        Where what is served is written down for other workers.
    clock : callable
        Seconds, monotonic.
    follows : callable
        Whether a model is followed that no load was requested for.
    """

    def __init__(
        self,
        loader: Loader,
        registry: Registry,
        *,
        last: LastServed | None = None,
        clock: Callable[[], float] = time.monotonic,
        follows: Callable[[str], bool] = every,
    ) -> None:
        self.loader = loader
        self.repository: Repository = loader.repository
        self.registry = registry
        self._last = last
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        self._unloaded: set[str] = set()
        self._requested: set[str] = set()
        self._follows = follows
        self._refusals = {**registry.refused, **_refusals_of(registry)}
        self._turn = threading.Lock()

    def poll(self) -> list[Reloaded]:
        """Act on what has changed since the last look, and try again what is due; what came of it."""
        with self._turn:
            looks = self._followed_looks()
            return self._act({name: look for name, look in looks.items() if self._is_due(name, look)})

    def reload(self) -> list[Reloaded]:
        """Act on every change now, on request, and try again all that failed; what came of it."""
        with self._turn:
            looks = self._followed_looks()
            return self._act({name: look for name, look in looks.items() if self._has_changed(name, look)})

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
            self._requested.add(name)
            self._act({name: look_at(self.repository.folder(name))})
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
            if self.registry.find(name) is None and name not in self.registry.refused:
                self._check_published(name)
            self._unloaded.add(name)
            self._requested.discard(name)
            self._remove(name)
            log.info("not serving %s: %s", name, UNLOADED)

    def end(self) -> None:
        """Let a look that is under way in another thread end soon: the process is about to."""
        if self.loader.proofs is not None:
            self.loader.proofs.end()

    def listing(self) -> list[Listed]:
        """Every published version of every model, and every version that is served."""
        return [listed for name, look in sorted(self._looks().items()) for listed in self._list(name, look)]

    def _list(self, name: str, look: Look) -> list[Listed]:
        served = self.registry.find(name)
        loaded = {} if served is None else served.models
        reason, retired = self._reasons(name), self._retired(name)
        versions = {*look.versions, *loaded} - (retired - loaded.keys())
        found = [Listed(name, version, None if version in loaded else reason(version)) for version in versions]
        withdrawn = [Listed(name, version, RETIRED) for version in retired - versions]
        return sorted([*found, *withdrawn], key=lambda listed: listed.version)

    def _retired(self, name: str) -> set[int]:
        try:
            return set(self.repository.retired(name))
        except (ServiceError, OSError):
            return set()

    def _reasons(self, name: str) -> Callable[[int], str]:
        if name in self._unloaded:
            return lambda _: UNLOADED
        refusal = self._refusals.get(name)
        try:
            aliases = self.repository.alias_entries(name).values()
        except (ServiceError, OSError) as error:
            reason = refusal or str(error)
            return lambda _: reason
        shadows, named = ({a.version for a in aliases if a.is_shadow is shadow} for shadow in (True, False))
        reasons = dict.fromkeys(shadows, SHADOW) | dict.fromkeys(named, PENDING)
        return lambda version: (refusal or reasons[version]) if version in reasons else UNNAMED

    def _is_due(self, name: str, look: Look) -> bool:
        if self._has_changed(name, look, is_requested=False):
            return True
        followed = self._followed[name]
        if not followed.failures:
            return False
        has_settled = followed.has_settled(files_of(self.repository.folder(name), followed.versions))
        return has_settled or self._clock() >= followed.due

    def _has_changed(self, name: str, look: Look, *, is_requested: bool = True) -> bool:
        followed = self._followed.get(name)
        return followed is None or look != followed.look or (is_requested and followed.failures > 0)

    def _act(self, due: dict[str, Look]) -> list[Reloaded]:
        if not due:
            return []
        attempts, began = {name: self._attempt(name, look) for name, look in due.items()}, self._clock()
        outcomes = self.loader.outcomes(due, {name: self._loaded(name) for name in due})
        took = self._clock() - began
        done = (self._take_over(name, attempt, outcomes[name], took) for name, attempt in attempts.items())
        return [reloaded for reloaded in done if reloaded is not None]

    def _attempt(self, name: str, look: Look) -> _Attempt:
        versions = self.loader.aliased(name)
        return _Attempt(look, versions, files_of(self.repository.folder(name), versions))

    def _loaded(self, name: str) -> Models:
        served = self.registry.find(name)
        return {} if served is None else served.loaded

    def _take_over(self, name: str, attempt: _Attempt, outcome: Outcome, took: float) -> Reloaded | None:
        followed = self._followed.get(name)
        if followed is None or attempt.look != followed.look:
            followed = self._followed[name] = _Followed(attempt.look)
        if isinstance(outcome, Exception):
            followed.failed(self._clock(), took, attempt)
            return self._refuse(name, self.loader.reason(name, outcome))
        followed.failures = 0
        return self._withdraw(name) if isinstance(outcome, Withdrawn) else self._serve(name, outcome)

    def _refuse(self, name: str, refusal: str) -> Reloaded:
        if self._refusals.get(name) != refusal:  # once; not at every try
            self._refusals[name] = refusal
            self.registry.refuse(name, refusal)
            self._keep(name)
            log.error(_KEPT if self.registry.find(name) else _REFUSED, name, refusal)
        return Reloaded(name, refusal)

    def _withdraw(self, name: str) -> Reloaded | None:
        if self.registry.find(name) is None and name not in self.registry.refused:
            self._refusals[name] = WITHDRAWN
            return None
        self._remove(name)
        self._refusals[name] = WITHDRAWN
        log.info("not serving %s: %s", name, WITHDRAWN)
        return Reloaded(name, None)

    def _serve(self, name: str, new: Served) -> Reloaded | None:
        self._refusals.pop(name, None)
        if new == self.registry.find(name):
            return None
        self.registry.replace(name, new)
        self._keep(name)
        log.info("serving %s: %s", name, ", ".join(f"{label} = {version}" for label, version in new.aliases.items()))
        return Reloaded(name, None)

    def _remove(self, name: str) -> None:
        self._refusals.pop(name, None)
        self.registry.remove(name)
        self._keep(name)

    def _keep(self, name: str) -> None:
        if self._last is not None:
            self._last.keep(self.registry, name)

    def _check_published(self, name: str) -> None:
        if name not in (self._published() or {}):
            raise ModelNotFound("no model of that name is published; the index of the repository shows those that are")

    def _published(self) -> dict[str, Look] | None:
        try:
            return published(self.repository.root)
        except OSError:
            return None

    def _looks(self) -> dict[str, Look]:
        """Models as they lie on disk, and those that are served or refused and do not lie there."""
        found = self._published() or {}
        names = {*self.registry.names(), *self.registry.refused} - found.keys()
        return found | {name: look_at(self.repository.folder(name)) for name in sorted(names)}

    def _followed_looks(self) -> dict[str, Look]:
        self._forget_refused()
        return {name: look for name, look in self._looks().items() if self._is_followed(name)}

    def _is_followed(self, name: str) -> bool:
        return name not in self._unloaded and (name in self._requested or self._follows(name))

    def _forget_refused(self) -> None:
        """Models that were never served, and lie on disk no more."""
        if not self.registry.refused or (found := self._published()) is None:
            return
        for name in self.registry.refused.keys() - found.keys():
            self._remove(name)


def _refusals_of(registry: Registry) -> dict[str, str]:
    found = ((name, registry.served(name).refusal) for name in registry.names())
    return {name: refusal for name, refusal in found if refusal is not None}


_KEPT: Final = "still serving the versions of %s that were loaded before: %s"
_REFUSED: Final = "not serving %s: %s"
