"""What a pull will do, decided before it fetches or writes anything.

Tested in `tests/pull/test_pull_versions.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from service.bundle.repository import NAME, VERSION, Repository
from service.bundle.sums import verify_sums
from service.pull.pull_errors import PullFailed
from service.pull.source import Source, tried
from service.pull.source_index import ListedModel, ListedVersion, listed_model, listed_version

AliasRule = Literal["new", "set", "keep"]
"""Aliases of a model that has none here, of every model, or of none are set as the source has them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of the source, and one version of it, or those that its aliases name there."""

    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a pull is to bring.

    Attributes
    ----------
    choices : tuple of Choice
        None: every model that the source lists.
    aliases : AliasRule
    digests : frozenset of str
        ``sha256:…`` of the versions that may come; none allows every version.
    max_bytes : int
        That may be fetched.
    """

    choices: tuple[Choice, ...] = ()
    aliases: AliasRule = "new"
    digests: frozenset[str] = frozenset()
    max_bytes: int = 1 << 40


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model of a pull.

    Attributes
    ----------
    listed : ListedModel
    versions : tuple of ListedVersion
        That are to be here in the end.
    missing : tuple of ListedVersion
        Those of them that were not here when the pull was planned.
    """

    listed: ListedModel
    versions: tuple[ListedVersion, ...]
    missing: tuple[ListedVersion, ...] = ()

    @property
    def name(self) -> str:
        """Of the model."""
        return self.listed.name


def choice(text: str) -> Choice:
    """What ``NAME`` or ``NAME/VERSION`` stands for.

    Raises
    ------
    PullFailed
    """
    name, slash, version = text.partition("/")
    if not NAME.fullmatch(name) or (slash and not VERSION.fullmatch(version)):
        raise PullFailed("what is pulled is NAME or NAME/VERSION, such as breast-cancer or breast-cancer/3")
    return Choice(name, int(version) if slash else None)


def planned(source: Source, repository: Repository, request: PullRequest) -> list[PlannedModel]:
    """Every version that a pull brings or finds, each allowed here.

    Parameters
    ----------
    source : Source
    repository : Repository
    request : PullRequest

    Raises
    ------
    PullFailed
        If the source does not hold what is to come, or it may not come here.
    """
    choices = request.choices or tuple(Choice(name) for name in tried(source.names))
    if not choices:
        raise PullFailed(f"{source.title} holds no model: versions lie in NAME/VERSION there")
    names = dict.fromkeys(one.name for one in choices)
    models = [_model(source, name, [c.version for c in choices if c.name == name]) for name in names]
    for model in models:
        _check_aliases(source, repository, model, request)
        for version in model.versions:
            _check_digest(version, request.digests)
    return [replace(model, missing=tuple(v for v in model.versions if not is_here(repository, v))) for model in models]


def is_here(repository: Repository, version: ListedVersion) -> bool:
    """Whether a version lies in the repository, whole.

    Raises
    ------
    PullFailed
        If it is retired, or its number belongs to other files.
    BundleDamaged
        If its files do not match their sums.
    """
    if version.version in repository.retired(version.name):
        raise PullFailed(f"{version.title} is retired in {repository.root} and does not come back")
    path = repository.folder(version.name) / str(version.version)
    if not path.is_dir() or not any(path.iterdir()):
        return False
    here = verify_sums(path).digest
    if here != version.digest:
        raise PullFailed(f"{path} is {here}, and the source's is {version.digest}: {_IMMUTABLE}")
    return True


def _model(source: Source, name: str, versions: Sequence[int | None]) -> PlannedModel:
    listed = listed_model(source, name)
    numbers = sorted({n for v in versions for n in (listed.versions if v is None else [v])})
    if None in versions and not listed.aliases:
        raise PullFailed(
            f"{source.title}/{name}/aliases.toml is missing or names no version; check the address, "
            f"or pull {name}/VERSION"
        )
    for number in numbers:
        if number in listed.retired:
            raise PullFailed(f"{name} version {number} is retired at {source.title}")
    return PlannedModel(listed, tuple(listed_version(source, name, number) for number in numbers))


def _check_digest(version: ListedVersion, digests: Iterable[str]) -> None:
    if digests and version.digest not in digests:
        raise PullFailed(f"{version.title} is {version.digest} at the source, which no --digest allows")


def _check_aliases(source: Source, repository: Repository, model: PlannedModel, request: PullRequest) -> None:
    if request.aliases != "set":
        return
    if not model.listed.aliases:
        raise PullFailed(f"{source.title}/{model.name}/aliases.toml names no version, which --aliases set needs")
    coming = {version.version for version in model.versions}
    for number in model.listed.versions:
        if number not in coming and not _is_same(source, repository, model.name, number, request):
            raise PullFailed(
                f"the source's aliases of {model.name} name version {number}, which does not come: "
                f"pull {model.name} without a VERSION, or leave out --aliases set"
            )


def _is_same(source: Source, repository: Repository, name: str, number: int, request: PullRequest) -> bool:
    """Whether a version that an alias names lies here already, with the source's files; PullFailed for other files."""
    if number not in repository.versions(name):
        return False
    version = listed_version(source, name, number)
    _check_digest(version, request.digests)
    return is_here(repository, version)


_IMMUTABLE: Final = "a version never changes; publish the other files as another version"
