"""Which model a path names, and the bounds on what may be sent to it.

Tested in tests/api/v1/test_targets.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from service.access.quotas import Quotas
from service.access.shared_counts import SharedCounts
from service.api.large_bodies import LargeBodies
from service.bundle.repository import VERSION
from service.errors import ModelNotFound, ModelNotReady, VersionNotServed
from service.runtime.model import Model
from service.runtime.registry import Registry

VERSION_PLACES: Final = ("", "/versions/{version}")
PLACES: Final = (*VERSION_PLACES, "/labels/{alias}")
"""What may stand behind a model's name in a path."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request, on the large bodies of all, and on what a caller sends in a minute.

    That on a request's bytes follows the served models.
    """

    body: Callable[[], int]
    rows: int
    bodies: LargeBodies = field(default_factory=LargeBodies)
    quotas: Quotas = field(default_factory=lambda: Quotas(SharedCounts.alone()))


def addressed(registry: Registry, place: Mapping[str, str]) -> Model:
    """The model of a path's ``name`` and ``version`` or ``alias``.

    Raises
    ------
    ModelNotFound, VersionNotServed
    ModelNotReady
        If no version of it could be loaded.
    """
    try:
        return _addressed(registry, place["name"], place.get("version"), place.get("alias"))
    except ModelNotFound:
        if place["name"] not in registry.refused:
            raise
    raise ModelNotReady("no version of this model could be loaded; GET /v1/models/ and its name shows why")


def _addressed(registry: Registry, name: str, version: str | None, alias: str | None) -> Model:
    if version is not None and not VERSION.fullmatch(version):
        registry.served(name)
        raise VersionNotServed("a version is a positive integer; an alias is addressed under /labels/")
    return registry.model(name, version=None if version is None else int(version), alias=alias)
