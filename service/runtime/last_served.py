"""What the workers of a service serve, in a folder that they share, for the one that takes another's place.

A worker that is replaced while an alias or a version is damaged serves what the others serve.
"""

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from service.bundle.repository import Repository
from service.private_files import replace_file
from service.runtime.loader import Loader, Served
from service.runtime.proofs import Proofs
from service.runtime.provider_packages import ON_CPU_ALONE, Providers
from service.runtime.registry import Registry, published_names, registry_of

log = logging.getLogger("temperance")

FOLDER: Final = "served"


@dataclass(frozen=True, slots=True)
class ServedState:
    """What is served of a model.

    Attributes
    ----------
    aliases : dict of str to int
        Empty where no version is.
    refusal : str or None
        Why what lies on disk is not.
    """

    aliases: dict[str, int]
    refusal: str | None


@dataclass(frozen=True, slots=True)
class LastServed:
    """A file for every model; the last worker that changed what it serves wrote it.

    Attributes
    ----------
    folder : Path
        That the workers share, and that goes with them.
    """

    folder: Path

    def keep_all(self, registry: Registry) -> None:
        """Write what a registry serves, for workers that will be started."""
        for name in {*registry.names(), *registry.refused}:
            self.keep(registry, name)

    def keep(self, registry: Registry, name: str) -> None:
        """Write what a registry serves of a model, in one step for readers; what cannot be written is logged."""
        served = registry.find(name)
        refusal = registry.refused.get(name) if served is None else served.refusal
        if served is None and refusal is None:
            self._path(name).unlink(missing_ok=True)
            return
        try:
            self._write(name, ServedState({} if served is None else served.aliases, refusal))
        except OSError as error:
            log.warning("what is served of %s could not be written down for other workers: %s", name, error.strerror)

    def states(self) -> dict[str, ServedState]:
        """What was served last, by model; what cannot be read is absent."""
        found = {path.stem: _state(path) for path in sorted((self.folder / FOLDER).glob("*.json"))}
        return {name: state for name, state in found.items() if state is not None}

    def _write(self, name: str, state: ServedState) -> None:
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, json.dumps(asdict(state)).encode())

    def _path(self, name: str) -> Path:
        return self.folder / FOLDER / f"{name}.json"


def _state(path: Path) -> ServedState | None:
    with suppress(OSError, ValueError, TypeError):
        return ServedState(**json.loads(path.read_text(encoding="utf-8")))
    return None


def load_as_others(
    repository: Repository,
    last: LastServed,
    *,
    threads: int = 1,
    proofs: Proofs | None = None,
    providers: Providers = ON_CPU_ALONE,
) -> Registry:
    """Load what the aliases name, and of a model for which that fails, what the other workers serve.

    A model that the others refuse is not tried: it may take long, and the next look does it beside the requests.

    Raises
    ------
    BundleNotFound
        If nothing is published, nor served by others.
    """
    states, loader = last.states(), Loader(repository, threads, proofs, providers)
    refused = {name: state.refusal for name, state in states.items() if state.refusal is not None}
    names = {*published_names(repository), *states} - refused.keys()
    outcomes = loader.outcomes(sorted(names), {})
    refused |= {name: loader.reason(name, error) for name, error in outcomes.items() if isinstance(error, Exception)}
    before = loader.loadable({name: state.aliases for name, state in states.items() if name in refused})
    served = {name: replace(old, refusal=refused[name]) for name, old in before.items() if old.models}
    served |= {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Served)}
    return registry_of(repository, served, {name: why for name, why in refused.items() if name not in served})
