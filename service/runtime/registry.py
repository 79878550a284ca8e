"""Models in memory, by name and by version or alias."""

from dataclasses import dataclass

from service.bundle.repository import Repository
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleNotFound, ModelNotFound, VersionNotServed
from service.runtime.model import Model, load_model


@dataclass(frozen=True, slots=True)
class Served:
    """A model's aliased versions, loaded, and every version that lies on disk."""

    published: tuple[int, ...]
    aliases: dict[str, int]
    models: dict[int, Model]


class Registry:
    """What is served: every aliased version of every model of a repository.

    Parameters
    ----------
    served : dict of str to Served
    """

    def __init__(self, served: dict[str, Served]) -> None:
        self._served = served

    def names(self) -> list[str]:
        """Served models."""
        return sorted(self._served)

    def served(self, name: str) -> Served:
        """A model's versions; ModelNotFound for any other name."""
        try:
            return self._served[name]
        except KeyError:
            raise ModelNotFound(f"no model has that name; the served models are {', '.join(self.names())}") from None

    def model(self, name: str, *, version: int | None = None, alias: str | None = None) -> Model:
        """The model that answers: by version, by alias, or `stable`.

        Raises
        ------
        ModelNotFound
        VersionNotServed
            Listing what is served.
        """
        served = self.served(name)
        wanted = version if version is not None else served.aliases.get(alias or FIRST_ALIAS)
        if wanted is None or wanted not in served.models:
            known = ", ".join(f"{label} = {v}" for label, v in served.aliases.items())
            raise VersionNotServed(f"that version or alias of {name} is not served; served are {known}")
        return served.models[wanted]

    def all_models(self) -> list[Model]:
        """Every loaded version."""
        return [model for name in self.names() for model in self._served[name].models.values()]


def load_registry(repository: Repository, *, threads: int = 1) -> Registry:
    """Load every aliased version; anything unreadable stops the start.

    Raises
    ------
    BundleNotFound
        If nothing is published: a service without a model is not ready for anything.
    """
    served = {name: _load(repository, name, threads) for name in repository.names() if repository.versions(name)}
    if not served:
        raise BundleNotFound(f"no model is published in {repository.root}; `temperance fit` or `publish` makes one")
    return Registry(served)


def _load(repository: Repository, name: str, threads: int) -> Served:
    aliases = repository.aliases(name)
    if not aliases:
        raise BundleNotFound(f"{name} has versions but no alias; `temperance alias {name} stable VERSION` serves one")
    models = {v: load_model(repository.bundle(name, v), threads=threads) for v in sorted(set(aliases.values()))}
    return Served(tuple(repository.versions(name)), aliases, models)
