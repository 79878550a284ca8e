"""Versions from disk into memory: their files are checked, they are proven in a process of their own, then loaded.

Whatever goes wrong with one model is the outcome of that model alone.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from service.bundle.aliases import Alias, parse_alias
from service.bundle.files import read_optional_file
from service.bundle.repository import ALIASES_FILE, MOST_LISTED, Bundle, Repository
from service.bundle.sums import verify_sums
from service.bundle.toml_text import parse_toml
from service.bundle.wording import one_line
from service.bundle.writer import FIRST_ALIAS
from service.errors import BundleDamaged, BundleError, BundleNotFound, LoadFailed, ServiceError
from service.runtime.model import Model
from service.runtime.proofs import Numbered, Proofs
from service.runtime.provider_packages import ON_CPU_ALONE, Providers
from service.runtime.provider_parity import load_on

log = logging.getLogger("temperance")

LONGEST_REASON: Final = 500

T = TypeVar("T")

Models = Mapping[int, Model]
"""Versions in memory."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that sees requests after they were answered, and whose own answers are recorded alone.

    Attributes
    ----------
    label : str
        Its alias.
    share : float
        Of the requests.
    model : Model
    """

    label: str
    share: float
    model: Model


@dataclass(frozen=True, slots=True)
class Served:
    """A model's aliased versions, loaded, and every version that lies on disk.

    Attributes
    ----------
    published : tuple of int
    aliases : dict of str to int
        Of the versions that answer.
    models : dict of int to Model
        Versions that answer.
    refusal : str or None
        Why what lies on disk now is not served; what is served is then what was loaded before.
    retired : tuple of int
        Versions that were withdrawn for good.
    shadows : tuple of Shadow
        Versions that run beside `stable`.
    """

    published: tuple[int, ...]
    aliases: dict[str, int]
    models: dict[int, Model]
    refusal: str | None = None
    retired: tuple[int, ...] = ()
    shadows: tuple[Shadow, ...] = ()

    @property
    def loaded(self) -> Models:
        """Every version in memory."""
        return self.models | {int(shadow.model.version): shadow.model for shadow in self.shadows}


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Every alias was removed on purpose: no version is to be served."""


Outcome = Served | Withdrawn | Exception
"""What came of a model; an error is why its versions cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model's aliases name.

    Attributes
    ----------
    name : str
    published, retired : tuple of int
    aliases : dict of str to Alias
    loaded : dict of int to Model
        Versions in memory already: they are immutable, and not loaded again.
    new : dict of int to Bundle
        The others, read and checked against their sums.
    """

    name: str
    published: tuple[int, ...]
    retired: tuple[int, ...]
    aliases: dict[str, Alias]
    loaded: dict[int, Model]
    new: dict[int, Bundle]


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads what the aliases of models name.

    Attributes
    ----------
    repository : Repository
    threads : int
        Of a session.
    proofs : Proofs or None
        None where versions are loaded without having been proven in a process of their own.
    providers : Providers
        Which execution provider every model runs on.
    """

    repository: Repository
    threads: int = 1
    proofs: Proofs | None = None
    providers: Providers = ON_CPU_ALONE

    def outcomes(self, names: Iterable[str], loaded: Mapping[str, Models]) -> dict[str, Outcome]:
        """What comes of models; all that is new in them is proven at once.

        Parameters
        ----------
        names : iterable of str
        loaded : mapping of str to (mapping of int to Model)
            What is in memory, by model.
        """
        plans = {name: _attempted(partial(self._plan, name, loaded.get(name, {}))) for name in names}
        refusals = self._refusals([(p.name, v) for p in plans.values() if isinstance(p, Plan) for v in p.new])
        return {
            name: _attempted(partial(self._carried_out, plan, refusals)) if isinstance(plan, Plan) else plan
            for name, plan in plans.items()
        }

    def loadable(self, aliases: Mapping[str, Mapping[str, int]]) -> dict[str, Served]:
        """Those versions of models that can be loaded, by aliases that are given.

        Parameters
        ----------
        aliases : mapping of str to (mapping of str to int)
            By model, in place of those on disk.
        """
        versions = [(name, version) for name, own in aliases.items() for version in sorted(set(own.values()))]
        refusals = self._refusals(versions)
        found = {one: _attempted(partial(self._loaded, *one)) for one in versions if one not in refusals}
        models = {one: model for one, model in found.items() if isinstance(model, Model)}
        return {name: _served_of(name, own, models) for name, own in aliases.items()}

    def reason(self, name: str, error: Exception) -> str:
        """Why a model's versions cannot be loaded, in one line: what a deployment under way still lacks, or an error.

        Errors that nothing foresaw state their kind alone; the log has the places in the code, at `debug`.
        """
        if isinstance(error, BundleError):
            missing = _attempted(partial(self._missing, name, str(error)))
            return one_line(missing if isinstance(missing, str) else error, most=LONGEST_REASON)
        if isinstance(error, ServiceError | OSError):
            return one_line(error, most=LONGEST_REASON)
        log.debug("an error that nothing foresaw", exc_info=error)
        return f"{self.repository.folder(name)}: it could not be loaded ({type(error).__name__})"

    def aliased(self, name: str) -> list[int]:
        """Versions that aliases name as they lie there, whether or not they exist; none where that cannot be read."""
        found = _attempted(partial(_numbers, self.repository.folder(name) / ALIASES_FILE))
        return [] if isinstance(found, Exception) else found

    def _plan(self, name: str, loaded: Models) -> Plan | Withdrawn:
        repository = self.repository
        aliases = repository.alias_entries(name)
        published, retired = repository.versions(name), repository.retired(name)
        if all(alias.is_shadow for alias in aliases.values()):
            if repository.has_no_alias_left(name) or (retired and not published):
                return Withdrawn()
            if not published:
                raise BundleNotFound(f"{repository.folder(name)} holds no version")
            command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
            raise BundleNotFound(f"{name} has versions but no alias; {command} serves one")
        versions = sorted({alias.version for alias in aliases.values()})
        known = {version: loaded[version] for version in versions if version in loaded}
        new = {version: repository.bundle(name, version) for version in versions if version not in loaded}
        return Plan(name, tuple(published), tuple(retired), aliases, known, new)

    def _refusals(self, versions: Sequence[Numbered]) -> dict[Numbered, str]:
        if self.proofs is None or not versions:
            return {}
        found = _attempted(partial(self.proofs.refusals, self.repository, versions))
        if isinstance(found, Exception):
            return {(name, version): self.reason(name, found) for name, version in versions}
        return found

    def _carried_out(self, plan: Plan, refusals: Mapping[Numbered, str]) -> Served:
        for version in plan.new:
            if (refusal := refusals.get((plan.name, version))) is not None:
                raise LoadFailed(refusal)
        new = {version: self._on_its_provider(bundle) for version, bundle in plan.new.items()}
        models = plan.loaded | new
        aliases = {label: alias.version for label, alias in plan.aliases.items() if not alias.is_shadow}
        answering = {version: models[version] for version in sorted(set(aliases.values()))}
        shadows = [
            Shadow(label, alias.share, models[alias.version])
            for label, alias in plan.aliases.items()
            if alias.share is not None
        ]
        return Served(plan.published, aliases, answering, retired=plan.retired, shadows=tuple(shadows))

    def _loaded(self, name: str, version: int) -> Model:
        return self._on_its_provider(self.repository.bundle(name, version))

    def _on_its_provider(self, bundle: Bundle) -> Model:
        return load_on(bundle, threads=self.threads, provider=self.providers.of(bundle.name))

    def _missing(self, name: str, error: str) -> str | None:
        """What a version still lacks that an alias names; None where all have arrived, and something else is wrong."""
        for version in self.aliased(name):
            folder = self.repository.folder(name) / str(version)
            fault = _fault(folder) if folder.is_dir() else error
            if fault is not None:
                return f"waiting for version {version}: {fault}"
        return None


def _attempted(attempt: Callable[[], T]) -> T | Exception:
    """What an attempt comes to; the one place where errors of a model, of any kind, become its outcome."""
    try:
        return attempt()
    except Exception as error:  # noqa: BLE001  # whatever it is, it must end neither the watch nor other models
        return error


def _fault(folder: Path) -> str | None:
    try:
        verify_sums(folder)
    except BundleDamaged as error:
        return str(error)
    return None


def _served_of(name: str, aliases: Mapping[str, int], models: Mapping[tuple[str, int], Model]) -> Served:
    own = {
        version: model for (other, version), model in sorted(models.items(), key=lambda one: one[0]) if other == name
    }
    return Served(tuple(own), {label: version for label, version in aliases.items() if version in own}, own)


def _numbers(path: Path) -> list[int]:
    content = read_optional_file(path, limit=MOST_LISTED) or b""
    entries = parse_toml(content.decode("utf-8"), where=path)
    found = (_attempted(partial(parse_alias, value)) for value in entries.values())
    return sorted({alias.version for alias in found if isinstance(alias, Alias)})
