"""The application of one group: the single server's own, over the models of the group."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from service.main import compose, load, loader_of, repository_of
from service.runtime.registry import Registry, published_names
from service.runtime.reload import Reloader
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class GroupApp:
    """An application and the models that it serves.

    Attributes
    ----------
    app : ASGI application
    registry : Registry
    reloader : Reloader
    """

    app: ASGIApp
    registry: Registry
    reloader: Reloader


def group_app(settings: Settings, includes: Callable[[str], bool], *, loads_all: bool) -> GroupApp:
    """Put it together.

    Parameters
    ----------
    settings : Settings
    includes : callable
        Whether a model is of the group.
    loads_all : bool
        Whether all of its models are loaded now, and followed; otherwise a request loads each.

    Raises
    ------
    SettingsInvalid, BundleNotFound, ServiceError
        As the single server's start does.
    """
    registry = load(settings, includes) if loads_all else _unloaded(settings, includes)
    follows = includes if loads_all else _none
    reloader = Reloader(loader_of(settings), registry, follows=follows)
    expected = tuple(filter(follows, settings.expected_models))  # the group's own; none of those that requests load
    own = settings.model_copy(update={"expected_models": expected})
    return GroupApp(compose(own, registry, reloader=reloader), registry, reloader)


def _unloaded(settings: Settings, includes: Callable[[str], bool]) -> Registry:
    return Registry({}, on_request=filter(includes, published_names(repository_of(settings))))


def _none(name: str) -> bool:
    del name
    return False
