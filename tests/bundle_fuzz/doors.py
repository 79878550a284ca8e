"""The three ways by which a version comes in: `verify`, a start, and a reload of a service that runs."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from service.bundle.repository import ALIASES_FILE, Repository
from service.errors import LoadFailed
from service.runtime.loader import Loader
from service.runtime.proofs import Numbered, Proofs
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloader
from tests.bundle_fuzz.cases import Prepared


class Known(Proofs):
    """What a process proved before: the child takes many versions of many cases, one after the other."""

    def __init__(self, refusals: dict[str, str]) -> None:
        super().__init__()
        self._known = refusals

    def refusals(self, repository: Repository, versions: Iterable[Numbered]) -> dict[Numbered, str]:
        """Those of before."""
        folders = {version: str(repository.folder(version[0]) / str(version[1])) for version in versions}
        return {version: self._known[folder] for version, folder in folders.items() if folder in self._known}


def prove(prepared: list[Prepared]) -> Known:
    """Load the damaged versions of many cases in one process under limits."""
    with tempfile.TemporaryDirectory(prefix="fuzz-proofs-") as folder:
        together = Repository(Path(folder))
        own = {f"case-{i}": case for i, case in enumerate(prepared)}
        for name, case in own.items():
            (together.root / name).symlink_to(case.folder)
        refused = Proofs().refusals(together, [(name, 2) for name in own])
    places = {name: (str(together.root / name), str(case.folder)) for name, case in own.items()}
    return Known({f"{places[n][1]}/2": text.replace(*places[n]) for (n, _), text in refused.items()})


def verify(case: Prepared, known: Known) -> None:
    """As `temperance verify`; raises what it refuses by."""
    repository = Repository(case.root)
    name = case.case.model
    known.check(repository, [(name, version) for version in repository.versions(name)])
    repository.aliases(name)


def start(case: Prepared, known: Known) -> Registry:
    """As `temperance serve`."""
    return load_registry(Repository(case.root), proofs=known)


def begin(case: Prepared, known: Known) -> Reloader:
    """A service that runs on version 1."""
    loader = Loader(Repository(case.root), 1, known)
    return Reloader(loader, load_registry(loader.repository, proofs=known))


def reload(reloader: Reloader, name: str) -> Registry:
    """The alias was moved: what is served then; LoadFailed with the refusal that is shown."""
    reloader.poll()
    reloader.poll()
    reloader.listing()
    if name in reloader.registry.refused:
        raise LoadFailed(reloader.registry.refused[name])
    served = reloader.registry.find(name)
    if served is not None and served.refusal is not None:
        raise LoadFailed(served.refusal)
    if served is None:
        raise LoadFailed(f"{reloader.repository.folder(name) / ALIASES_FILE}: every alias was removed")
    return reloader.registry
