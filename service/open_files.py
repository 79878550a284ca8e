"""How many files a process may have open at once: each connection is one, and so is each handle on a socket."""

import resource
from typing import Final, NamedTuple

from service.errors import SettingsInvalid

FEWEST: Final = 1024
"""That leave room for some nine hundred connections."""
BESIDE_HANDLES: Final = 64
"""Libraries, logs, locks and pipes of a process take some thirty; the rest is for a few connections."""
MOST: Final = 1 << 20


class OpenFiles(NamedTuple):
    """The limit of a process, as it was found and as it can be."""

    found: int
    possible: int


def limits() -> OpenFiles:
    """What a process may have open now, and what it could have without more rights."""
    soft, hard = (MOST if limit == resource.RLIM_INFINITY else limit for limit in _limits())
    return OpenFiles(soft, max(soft, min(hard, MOST)))


def raise_limit() -> OpenFiles:
    """Let this process, and those that it starts, open as many files as they may."""
    files = limits()
    if files.possible > files.found:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files.possible, _limits()[1]))
    return files


def check_room(most: int, handles: int) -> None:
    """Refuse a limit that does not hold the sockets on which a process listens.

    Parameters
    ----------
    most : int
        Files that may be open at once.
    handles : int
        On its sockets.

    Raises
    ------
    SettingsInvalid
    """
    needed = handles + BESIDE_HANDLES
    if most < needed:
        raise SettingsInvalid(f"`ulimit -n` lets {most} files be open at once, and {needed} are needed: raise it")


def _limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)
