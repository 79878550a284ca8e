"""Models in memory, by name and by version or alias."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from service.bundle.repository import Repository
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleNotFound, ModelNotFound, ServiceError, VersionNotServed
from service.runtime.model import Model, load_model


@dataclass(frozen=True, slots=True)
class Served:
    """A model's aliased versions, loaded, and every version that lies on disk.

    Attributes
    ----------
    published : tuple of int
    aliases : dict of str to int
    models : dict of int to Model
    refusal : str or None
        Why what lies on disk now is not served; what is served is then what was loaded before.
    retired : tuple of int
        Versions that were withdrawn for good.
    """

    published: tuple[int, ...]
    aliases: dict[str, int]
    models: dict[int, Model]
    refusal: str | None = None
    retired: tuple[int, ...] = ()


class Registry:
    """What is served: every aliased version of every model of a repository.

    Parameters
    ----------
    served : dict of str to Served

    Attributes
    ----------
    generation : int
        Grows with every change, so that values derived from the models can be renewed.
    """

    def __init__(self, served: dict[str, Served], refused: Mapping[str, str] | None = None) -> None:
        self._served = dict(served)
        self._refused = dict(refused or {})
        self.generation = 0

    @property
    def refused(self) -> Mapping[str, str]:
        """Models of which no version is loaded, and why, in one line."""
        return MappingProxyType(self._refused)

    def replace(self, name: str, served: Served) -> None:
        """Serve other versions of a model from now on; a request under way keeps the model it began with."""
        self._refused.pop(name, None)
        self._served = {**self._served, name: served}  # one assignment: no reader ever sees half of a change
        self.generation += 1

    def remove(self, name: str) -> None:
        """Serve a model no longer, if it was at all; a request under way keeps the model it began with."""
        self._refused.pop(name, None)
        self._served = {other: served for other, served in self._served.items() if other != name}
        self.generation += 1

    def refuse(self, name: str, refusal: str) -> None:
        """Go on serving what is loaded, and keep the reason why what lies on disk is not."""
        self.replace(name, replace(self._served[name], refusal=refusal))

    def names(self) -> list[str]:
        """Served models."""
        return sorted(self._served)

    def find(self, name: str) -> Served | None:
        """A model's versions, or None for a name that is not served."""
        return self._served.get(name)

    def served(self, name: str) -> Served:
        """A model's versions; ModelNotFound for any other name."""
        try:
            return self._served[name]
        except KeyError:
            detail = "no model has that name; the list of models shows the served ones"
            raise ModelNotFound(detail if self._served else f"{detail}: each was unloaded, or has no alias") from None

    def model(self, name: str, *, version: int | None = None, alias: str | None = None) -> Model:
        """The model that answers: by version, by alias, or `stable`.

        Raises
        ------
        ModelNotFound
        VersionNotServed
            Listing what is served.
        """
        served = self.served(name)
        number = version if version is not None else served.aliases.get(alias or FIRST_ALIAS)
        if number is None or number not in served.models:
            known = ", ".join(f"{label} = {v}" for label, v in served.aliases.items())
            if number in served.retired:
                raise VersionNotServed(f"that version of {name} is retired and does not come back; served are {known}")
            raise VersionNotServed(f"that version or alias of {name} is not served; served are {known}")
        return served.models[number]

    def all_models(self) -> list[Model]:
        """Every loaded version."""
        served = self._served
        return [model for name in sorted(served) for model in served[name].models.values()]


def load_registry(repository: Repository, *, threads: int = 1, strict: bool = True) -> Registry:
    """Load every aliased version.

    Parameters
    ----------
    repository : Repository
    threads : int
    strict : bool
        Whether anything unreadable stops the start; otherwise its model is refused.

    Raises
    ------
    BundleNotFound
        If nothing is published: a service without a model is not ready for anything.
    """
    named = (name for name in repository.names() if repository.versions(name))
    names = [name for name in named if not repository.has_no_alias_left(name)]
    served: dict[str, Served] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            served[name] = load_served(repository, name, threads=threads)
        except (ServiceError, OSError) as error:
            if strict:
                raise
            refused[name] = " ".join(str(error).split())
    if not served and not refused:
        raise BundleNotFound(
            f"no model is published in {repository.root}, or none has an alias; `temperance fit` or `publish` makes a "
            f"version, {repository.command('alias', 'NAME', FIRST_ALIAS, 'VERSION')} serves one"
        )
    return Registry(served, refused)


def load_served(
    repository: Repository, name: str, *, threads: int, loaded: Mapping[int, Model] | None = None
) -> Served:
    """Every aliased version of one model.

    Parameters
    ----------
    repository : Repository
    name : str
    threads : int
    loaded : mapping of int to Model, optional
        Versions in memory already: they are immutable, and not loaded again.

    Raises
    ------
    BundleError, GraphError
    """
    aliases = repository.aliases(name)
    if not aliases:
        command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
        raise BundleNotFound(f"{name} has versions but no alias; {command} serves one")
    known = loaded or {}
    number = sorted(set(aliases.values()))
    models = {v: known[v] if v in known else load_model(repository.bundle(name, v), threads=threads) for v in number}
    retired = tuple(repository.retired(name))
    return Served(tuple(repository.versions(name)), aliases, models, retired=retired)
