"""The pull: versions are fetched aside and renamed into place, and only then do aliases name them."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from service.bundle.aliases import Alias
from service.bundle.durability import sync, writing
from service.bundle.repository import Repository
from service.bundle.sums import SUMS_FILE
from service.bundle.writer import FIRST_ALIAS, adopt, replace_aliases
from service.errors import BundleDamaged, BundleError
from service.pull.fetching import Advance, Budget, Fetch
from service.pull.pull_errors import PullFailed
from service.pull.pull_plan import AliasRule, PlannedModel, PullRequest, is_here, planned
from service.pull.source import Source
from service.pull.source_index import ListedVersion
from service.pull.staging import clear, locked, staging_folder
from service.runtime.proofs import Proofs

Track = Callable[[int | None], AbstractContextManager[Advance]]
"""A progress bar over so many bytes; None where their number is not known."""


@dataclass(frozen=True, slots=True)
class PulledVersion:
    """A version that is here now, and whether this pull has brought it."""

    version: int
    digest: str
    state: Literal["pulled", "present"]


@dataclass(frozen=True, slots=True)
class PulledModel:
    """What came of a model.

    Attributes
    ----------
    name : str
    versions : tuple of PulledVersion
    aliases : dict of str to int
        Here, afterwards.
    aliases_set : bool
        Whether this pull has written them.
    differ : bool
        Whether the source has others.
    """

    name: str
    versions: tuple[PulledVersion, ...]
    aliases: dict[str, int]
    aliases_set: bool
    differ: bool


def pull(
    source: Source,
    repository: Repository,
    request: PullRequest,
    *,
    proofs: Proofs | None = None,
    track: Track | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> list[PulledModel]:
    """Bring versions from a source into a repository; those that are here already are left as they are.

    Parameters
    ----------
    source : Source
    repository : Repository
    request : PullRequest
    proofs : Proofs, optional
        Every version must load and answer before an alias names it.
    track : Track, optional
        None draws nothing.
    pause : callable
        Waits for so many seconds before another try.

    Raises
    ------
    PullFailed
        If something at the source is missing, damaged or not allowed here, or the source stops again and again.
    BundleError
        If the repository cannot be written, or what came is no version of a model.
    LoadFailed
        If a version does not pass its proof.
    """
    models = planned(source, repository, request)
    total = _check_sizes(repository, [version for model in models for version in model.missing], request)
    with (track or _untracked)(total) as advance:
        fetch = Fetch(source, Budget(request.max_bytes), advance, pause)
        return [_pull_model(fetch, repository, model, request.aliases, proofs) for model in models]


def _pull_model(
    fetch: Fetch, repository: Repository, model: PlannedModel, rule: AliasRule, proofs: Proofs | None
) -> PulledModel:
    with locked(repository.folder(model.name)) as is_shared:
        pulled = tuple(_pull_version(fetch, repository, version, is_shared=is_shared) for version in model.versions)
        if proofs is not None:
            proofs.check(repository, [(model.name, one.version) for one in pulled])
        before = repository.alias_entries(model.name)
        after = _aliases_after(repository, model, rule, before)
        if after != before:
            replace_aliases(repository, model.name, after)
    numbers = {label: alias.version for label, alias in after.items()}
    differ = bool(model.listed.aliases) and dict(model.listed.aliases) != after
    return PulledModel(model.name, pulled, numbers, after != before, differ)


def _pull_version(fetch: Fetch, repository: Repository, version: ListedVersion, *, is_shared: bool) -> PulledVersion:
    folder = repository.folder(version.name)
    if is_here(repository, version):
        if is_shared:  # else other pulls may be writing there
            clear(folder, version.version)
        return PulledVersion(version.version, version.digest, "present")
    staging = staging_folder(folder, version.version, version.digest, is_shared=is_shared)
    files, place = staging / "files", f"{version.name}/{version.version}"
    for name, expected in sorted(version.sums.items()):
        fetch.file(f"{place}/{name}", expected, staging / "parts" / name, files / name)
    _finish(repository, version, files)
    state: Literal["pulled", "present"] = "pulled"
    if not adopt(repository, version.name, version.version, files) and is_here(repository, version):
        state = "present"  # where locks are unknown, another pull may have been faster
    if is_shared:
        clear(folder, version.version)
    else:
        shutil.rmtree(staging, ignore_errors=True)
    return PulledVersion(version.version, version.digest, state)


def _finish(repository: Repository, version: ListedVersion, files: Path) -> None:
    """Write the sums, and check the whole as the service will: names, sums, manifest, record, state."""
    with writing(files):
        sums = files / SUMS_FILE
        sums.write_text(version.sums_text, encoding="utf-8", newline="")
        sums.chmod(0o644)
        sync(sums)
        sync(files)
    try:
        repository.bundle_in(files, version.name, version.version)
    except BundleError as error:
        if isinstance(error, BundleDamaged):
            shutil.rmtree(files.parent, ignore_errors=True)
        raise PullFailed(f"{version.title} was not taken over: {error}") from None


def _aliases_after(
    repository: Repository, model: PlannedModel, rule: AliasRule, before: dict[str, Alias]
) -> dict[str, Alias]:
    is_new = not before and not repository.has_no_alias_left(model.name)
    if rule == "set":
        return dict(model.listed.aliases)
    if rule == "keep" or not is_new:
        return before
    here = set(repository.versions(model.name))
    named = {label: alias for label, alias in model.listed.aliases.items() if alias.version in here}
    return named or {FIRST_ALIAS: Alias(max(version.version for version in model.versions))}


def _check_sizes(repository: Repository, versions: Sequence[ListedVersion], request: PullRequest) -> int | None:
    """Bytes to fetch; None where an index does not state all of them."""
    total = sum(size for version in versions for size in version.sizes.values())
    if total > request.max_bytes:
        raise PullFailed(f"{total} bytes would be fetched, and --max-bytes allows {request.max_bytes}")
    place = next((place for place in (repository.root, *repository.root.absolute().parents) if place.is_dir()), None)
    if place is not None and total > (free := shutil.disk_usage(place).free):
        raise PullFailed(f"{place} has {free} bytes free, and {total} would be fetched")
    return total if all(version.sizes.keys() == version.sums.keys() for version in versions) else None


def _untracked(total: int | None) -> AbstractContextManager[Advance]:
    del total
    return nullcontext(_UNSEEN)


_UNSEEN: Final[Advance] = lambda _: None  # noqa: E731  # drawn nowhere
