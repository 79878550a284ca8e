"""Which models share replicas: groups, as a file names them, each with its own number of replicas and resources."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.bundle.manifest import describe
from service.errors import SettingsInvalid

REST: Final = "*"
"""As a group's model: every model that no other group names."""
MOST_GROUPS: Final = 64
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,31}$")]
ModelName = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$")]


class Size(BaseModel):
    """How many processes there are, and where.

    Attributes
    ----------
    replicas : int
        Processes at the start, and at least.
    most_replicas : int or None
        Processes at most; as many as `replicas` where it is absent, and then their number is fixed.
    requests : float
        Requests under way in one replica, waiting ones among them, that the number of replicas aims at.
    processors : float
        That Ray sets aside for one replica.
    resources : dict of str to float
        Other resources that Ray sets aside, by which a group is placed on some nodes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    most_replicas: Annotated[int | None, Field(ge=1, le=10_000)] = None
    requests: Annotated[float, Field(gt=0, le=10_000)] = 8.0
    processors: Annotated[float, Field(ge=0, le=1024)] = 1.0
    resources: Annotated[dict[str, float], Field(max_length=16)] = {}

    @model_validator(mode="after")
    def _can_grow(self) -> Self:
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise ValueError("most_replicas must not be below replicas")
        return self


class Group(Size):
    """Models that share replicas.

    Attributes
    ----------
    models : tuple of str
        `*` is every model that no other group names.
    resident : int or None
        Models in the memory of one replica at most: each is loaded by its first request, and the one that was used
        least recently leaves. Absent, every replica loads all models before it takes requests.
    """

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = (REST,)
    resident: Annotated[int | None, Field(ge=1, le=10_000)] = None


class Groups(BaseModel):
    """Every group of a deployment, and the front that takes their requests where there are several.

    Attributes
    ----------
    groups : dict of str to Group
    front : Size
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Annotated[dict[GroupName, Group], Field(min_length=1, max_length=MOST_GROUPS)]
    front: Size = Size()

    @model_validator(mode="after")
    def _share_no_model(self) -> Self:
        counts = Counter(name for group in self.groups.values() for name in set(group.models))
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{min(twice)} is in several groups; a model belongs to one")
        return self

    @property
    def has_front(self) -> bool:
        """Whether requests come to a front. Replicas of a single group that hold all models take them themselves."""
        return len(self.groups) > 1 or any(group.resident is not None for group in self.groups.values())

    @property
    def names(self) -> list[str]:
        """Names of the groups, in the order of the file."""
        return list(self.groups)

    def of(self, model: str) -> str:
        """The group of a model; a model that no group names belongs to the first, which answers that it is unknown."""
        rest = self.names[0]
        for name, group in self.groups.items():
            if model in group.models:
                return name
            if REST in group.models:
                rest = name
        return rest

    def members(self, group: str, published: Iterable[str]) -> list[str]:
        """Those of the published models that are in a group."""
        return [model for model in published if self.includes(group, model)]

    def includes(self, group: str, model: str) -> bool:
        """Whether a group has a model."""
        return self.of(model) == group and bool({model, REST} & {*self.groups[group].models})


def one_group(values: Mapping[str, Any]) -> Groups:
    """All models in one group.

    Parameters
    ----------
    values : mapping
        Attributes of the group.

    Raises
    ------
    SettingsInvalid
    """
    return _checked({"groups": {"all": dict(values)}}, "the options")


def read_groups(path: Path) -> Groups:
    """The groups of a file.

    Raises
    ------
    SettingsInvalid
        Naming the file and what is wrong in it.
    OSError
        If it cannot be read.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"{path} is not TOML: {error}") from None
    return _checked(content, str(path))


def _checked(content: Mapping[str, Any], where: str) -> Groups:
    try:
        return Groups.model_validate(content)
    except ValidationError as error:
        raise SettingsInvalid(f"{where}: {describe(error)}") from None
