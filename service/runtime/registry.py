"""Models in memory, by name and by version or alias."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeVar

from service.bundle.repository import ALIASES_FILE, Repository
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleNotFound, LoadFailed, ModelNotFound, ServiceError, VersionNotServed
from service.runtime.disk_look import published
from service.runtime.loader import Loader, Served
from service.runtime.model import Model
from service.runtime.proofs import Proofs
from service.runtime.provider_packages import ON_CPU_ALONE, Providers

MOST_LISTED: Final = 12

V = TypeVar("V")


class Registry:
    """What is served: every aliased version of every model of a repository.

    Parameters
    ----------
    served : dict of str to Served
    refused : mapping of str to str, optional
    on_request : iterable of str, optional
        Models that are not in memory until a request names them.

    Attributes
    ----------
    generation : int
        Grows with every change, so that values derived from the models can be renewed.
    """

    def __init__(
        self, served: dict[str, Served], refused: Mapping[str, str] | None = None, on_request: Iterable[str] = ()
    ) -> None:
        self._served = dict(served)
        self._refused = dict(refused or {})
        self._on_request = frozenset(on_request)
        self.generation = 0

    @property
    def refused(self) -> Mapping[str, str]:
        """Models of which no version is loaded, and why, in one line."""
        return MappingProxyType(self._refused)

    def replace(self, name: str, served: Served) -> None:
        """Serve other versions of a model from now on; a request under way keeps the model it began with."""
        self._served = {**self._served, name: served}  # one assignment: no reader ever sees half of a change
        self._refused = _without(self._refused, name)
        self.generation += 1

    def remove(self, name: str) -> None:
        """Serve a model no longer, if it was at all; a request under way keeps the model it began with."""
        self._served, self._refused = _without(self._served, name), _without(self._refused, name)
        self.generation += 1

    def refuse(self, name: str, refusal: str) -> None:
        """Keep the reason why what lies on disk is not served; what is loaded is served on."""
        if name in self._served:
            self.replace(name, replace(self._served[name], refusal=refusal))
            return
        self._refused = {**self._refused, name: refusal}
        self.generation += 1

    @property
    def is_empty(self) -> bool:
        """Whether there is no model that a request can be sent to."""
        return not self._served and not self._on_request

    def names(self) -> list[str]:
        """Served models."""
        return sorted(self._served)

    def listed(self) -> list[str]:
        """Served models, refused ones, and those that are loaded when a request names them."""
        return sorted({*self._served, *self._refused, *self._on_request})

    def find(self, name: str) -> Served | None:
        """A model's versions, or None for a name that is not served."""
        return self._served.get(name)

    def missing(self, expected: Iterable[str]) -> list[str]:
        """Those of the names that are not served."""
        return [name for name in expected if name not in self._served]

    def served(self, name: str) -> Served:
        """A model's versions; ModelNotFound for any other name."""
        try:
            return self._served[name]
        except KeyError:
            detail = "no model has that name; the list of models shows the served ones"
            raise ModelNotFound(f"{detail}: each was unloaded, or has no alias" if self.is_empty else detail) from None

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
            known = ", ".join(f"{label} = {v}" for label, v in [*served.aliases.items()][:MOST_LISTED])
            if number in served.retired:
                raise VersionNotServed(f"that version of {name} is retired and does not come back; served are {known}")
            raise VersionNotServed(f"that version or alias of {name} is not served; served are {known}")
        return served.models[number]

    def all_models(self) -> list[Model]:
        """Every loaded version."""
        served = self._served
        return [model for name in sorted(served) for model in served[name].models.values()]


def every(name: str) -> bool:
    """Whether a model is one of all of them."""
    del name
    return True


def load_registry(
    repository: Repository,
    *,
    threads: int = 1,
    strict: bool = True,
    proofs: Proofs | None = None,
    includes: Callable[[str], bool] = every,
    providers: Providers = ON_CPU_ALONE,
) -> Registry:
    """Load every aliased version.

    Parameters
    ----------
    repository : Repository
    threads : int
    strict : bool
        Whether anything unreadable stops the start; otherwise its model is refused.
    proofs : Proofs, optional
        All versions that are new to this machine are proven first, in a process of their own.
    includes : callable, optional
        Whether a model is one of those that are served here.
    providers : Providers
        Which execution provider every model runs on.

    Raises
    ------
    BundleNotFound
        If nothing is published: a service without a model is not ready for anything.
    ServiceError
        Of the first model that cannot be loaded, where that stops the start.
    """
    loader = Loader(repository, threads, proofs, providers)
    outcomes = loader.outcomes(filter(includes, published_names(repository)), {})
    errors = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Exception)}
    if strict:
        _raise_first(errors, loader)
    return registry_of(
        repository,
        {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Served)},
        {name: loader.reason(name, error) for name, error in errors.items()},
    )


def registry_of(repository: Repository, served: dict[str, Served], refused: Mapping[str, str]) -> Registry:
    """The registry of a start; BundleNotFound where there is nothing to put into it."""
    if not served and not refused:
        if (repository.root / ALIASES_FILE).exists():  # as where a platform is given the URI of one model
            raise BundleNotFound(
                f"{repository.root} is the folder of one model, and no repository: name the folder above it, in which "
                "it has the name of the model"
            )
        raise BundleNotFound(
            f"no model is published in {repository.root}, or none has an alias; `temperance fit` or `publish` makes a "
            f"version, {repository.command('alias', 'NAME', FIRST_ALIAS, 'VERSION')} serves one"
        )
    return Registry(served, refused)


def published_names(repository: Repository) -> list[str]:
    """Models that have versions; BundleNotFound where the repository cannot be listed."""
    try:
        return [name for name, look in published(repository.root).items() if look.versions or look.error is not None]
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFound(f"the model repository {repository.root} is not a directory") from None
    except OSError as error:
        raise BundleNotFound(f"the model repository {repository.root} cannot be read: {error.strerror}") from None


def _raise_first(errors: Mapping[str, Exception], loader: Loader) -> None:
    for name, error in errors.items():
        raise error if isinstance(error, ServiceError) else LoadFailed(loader.reason(name, error)) from None


def _without(values: dict[str, V], name: str) -> dict[str, V]:
    return {other: value for other, value in values.items() if other != name}
