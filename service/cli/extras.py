"""Which extra of the distribution brings a package that is not installed: `temperance` alone is what serving needs."""

import re
from dataclasses import dataclass
from importlib.metadata import requires
from typing import Final

DISTRIBUTION: Final = "temperance"
_OF_AN_EXTRA: Final = re.compile(r"""(?P<package>[\w.-]+).*;.*\bextra == ["'](?P<extra>[\w-]+)["']""")


@dataclass(frozen=True, slots=True)
class Missing:
    """A package that is not installed.

    Attributes
    ----------
    module : str
    requirement : str
        What brings it, as `pip install` takes it.
    """

    module: str
    requirement: str

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> "Missing | None":
        """What an import missed; None if no extra brings it, and its absence is a defect."""
        module = error.name or ""
        extra = extra_of(module)
        return None if extra is None else cls(module, f"{DISTRIBUTION}[{extra}]")

    @property
    def sentence(self) -> str:
        """What to do."""
        return f"{self.module} is not installed, and this verb needs it: pip install '{self.requirement}'"


def extra_of(module: str) -> str | None:
    """The first extra that lists the package of a module; None for a package of no extra.

    Parameters
    ----------
    module : str
        Its name, dotted or not.

    Examples
    --------
    >>> extra_of("polars.series"), extra_of("numpy")
    ('offline', None)
    """
    package = module.partition(".")[0].replace("_", "-").lower()
    listed = filter(None, map(_OF_AN_EXTRA.match, requires(DISTRIBUTION) or ()))
    return next((entry["extra"] for entry in listed if entry["package"].lower() == package), None)
