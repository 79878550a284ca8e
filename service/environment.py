"""Settings as they are read: from variables that command-line options stand above, each known by where it came from.

Tested in tests/test_settings.py, tests/test_start_checks.py and tests/test_bad_configurations.py.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from service.bundle.manifest import describe
from service.errors import ServiceError, SettingsInvalid
from service.metrics_folder import SHARED_METRICS
from service.service_links import service_links
from service.settings import PLATFORM, PREFIX, Settings

SWITCH_OFF: Final = "`enableServiceLinks: false` in the pod's specification switches them off"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values of settings came from.

    Attributes
    ----------
    options : frozenset of str
        Settings that are options of the command line.
    variables : frozenset of str
        Settings that are in the environment.
    platform : frozenset of str
        Settings that a variable of a platform sets, since neither of the others does.
    links : tuple of str
        Variables of Kubernetes, which are none of them.
    has_shared_metrics : bool
        Whether a folder is named in which another program would count; the service counts in its own.
    """

    options: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    platform: frozenset[str] = frozenset()
    links: tuple[str, ...] = ()
    has_shared_metrics: bool = False

    @classmethod
    def of_environment(cls, options: Iterable[str] = ()) -> "Sources":
        """What is in the environment now, where options have been written too."""
        links = service_links(os.environ, PREFIX)
        names = {name.upper() for name in os.environ if name not in links}
        variables = frozenset(field for field in Settings.model_fields if variable(field) in names)
        platform = frozenset(field for field, name in PLATFORM.items() if name in os.environ) - variables
        has_shared_metrics = SHARED_METRICS in (name.upper() for name in os.environ)
        return cls(frozenset(options), variables, platform, tuple(links), has_shared_metrics)

    def of(self, field: str) -> str:
        """Where the value of a setting came from, as the end of a sentence."""
        if field in self.options:
            return f"from --{field.replace('_', '-')}"
        if field in self.platform:
            return f"from {PLATFORM[field]}"
        return "from the environment" if field in self.variables else "by default"

    def ignored(self) -> Iterator[str]:
        """A line for every kind of variable that is in the environment and counts for nothing."""
        if self.links:
            yield f"not settings but variables that Kubernetes sets: {', '.join(self.links)}; {SWITCH_OFF}"
        if self.has_shared_metrics:
            yield f"{SHARED_METRICS} is ignored: the service makes that folder itself; unset it"

    def explained(self, detail: str, *fields: str) -> SettingsInvalid:
        """An error with the settings at fault, and where they came from.

        Parameters
        ----------
        detail : str
            A text that begins with a variable names them itself.
        *fields : str
            The settings, in any other case.
        """
        first, *others = [name.removeprefix(PREFIX).lower() for name in _NAMES.findall(detail)] or [""]
        if not detail.startswith(PREFIX):
            found = ", ".join(f"{variable(field)} {self.of(field)}" for field in fields)
        elif others:
            found = ", ".join(f"{variable(field)} {self.of(field)}" for field in dict.fromkeys([first, *others]))
        else:
            found = self.of(first)
        return SettingsInvalid(f"{detail} ({found})" if found else detail)

    @contextmanager
    def named(self, *fields: str) -> Iterator[None]:
        """Errors that arise in the context name these settings, and where they came from.

        Raises
        ------
        SettingsInvalid
            In place of each.
        """
        try:
            yield
        except ServiceError as error:
            raise self.explained(error.detail, *fields) from None
        except OSError as error:
            detail = f"{error.filename or 'the file system'}: {error.strerror or type(error).__name__}"
            raise self.explained(detail, *fields) from None


def variable(field: str) -> str:
    """The variable of a setting.

    Examples
    --------
    >>> variable("port")
    'TEMPERANCE_PORT'
    """
    return f"{PREFIX}{field.upper()}"


def read_settings(sources: Sources | None = None) -> Settings:
    """Settings from `TEMPERANCE_…` variables, but for those that Kubernetes sets, and from variables of platforms.

    Parameters
    ----------
    sources : Sources, optional
        By default, all that is set is in the environment.

    Raises
    ------
    SettingsInvalid
        Naming the variable that is unknown or has a value it cannot have, and where that came from.
    """
    _check_known()
    try:
        return Settings()
    except SettingsError:
        place, reason = "jwt_issuers", "must be JSON, a list of objects"
    except ValidationError as error:
        place, _, reason = describe(error).partition(": ")
    field, _, within = place.partition(".")
    detail = f"{variable(field)}: {f'{within}: ' if within else ''}{reason}"
    raise (sources or Sources.of_environment()).explained(detail)


def _check_known() -> None:
    known, links = sorted(map(variable, Settings.model_fields)), service_links(os.environ, PREFIX)
    ours = (name for name in os.environ if name.upper().startswith(PREFIX) and name not in links)
    unknown = sorted(name for name in ours if name.upper() not in known)
    if unknown:
        raise SettingsInvalid(f"{unknown[0]} is no setting (from the environment); there are {', '.join(known)}")


_NAMES: Final = re.compile(rf"\b{PREFIX}[A-Z0-9_]+")
