"""What deployments change on disk, seen at little cost: one listing and two small files for every model."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from service.bundle.files import read_file
from service.bundle.repository import ALIASES_FILE, MOST_LISTED, NAME, RETIRED_FILE, VERSION
from service.errors import BundleDamaged

FileLook = tuple[int, int, bytes] | int | None
"""Size, time of the last change in ns, and text, which is empty where it is too large for a list or cannot be read; of
a path that cannot be looked at, the number of the error."""

Files = tuple[tuple[str, int, int, int], ...]
"""Version and name, size, time of the last change in ns, and inode of every file of some versions."""


@dataclass(frozen=True, slots=True)
class Look:
    """One model as it lies on disk.

    Attributes
    ----------
    versions : tuple of int
        Folders that can be versions.
    aliases, retired : FileLook
    error : int or None
        Number of the error of a folder that cannot be listed.
    """

    versions: tuple[int, ...]
    aliases: FileLook
    retired: FileLook
    error: int | None = None

    @property
    def is_published(self) -> bool:
        """Whether there is anything but a draft."""
        return bool(self.versions) or self.retired is not None or self.error is not None


def published(root: Path) -> dict[str, Look]:
    """Every model that has a version, or had one.

    Raises
    ------
    OSError
        If the repository cannot be listed.
    """
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_dir())
    looks = ((name, look_at(root / name)) for name in names)
    return {name: look for name, look in looks if look.is_published}


def look_at(folder: Path) -> Look:
    """One model; a folder that is missing or cannot be listed is a look of its own."""
    try:
        with os.scandir(folder) as entries:
            versions = sorted(int(entry.name) for entry in entries if VERSION.fullmatch(entry.name) and entry.is_dir())
    except OSError as error:
        return Look((), None, None, error.errno)
    return Look(tuple(versions), _look_at_file(folder / ALIASES_FILE), _look_at_file(folder / RETIRED_FILE))


def files_of(folder: Path, versions: list[int]) -> Files:
    """The files of some versions of a model; none of a version whose folder cannot be listed."""
    return tuple(sorted(file for version in versions for file in _files(folder / str(version))))


def _files(folder: Path) -> Files:
    try:
        with os.scandir(folder) as entries:
            found = [(f"{folder.name}/{entry.name}", entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError:  # a file can be renamed meanwhile: the next look sees all of them
        return ()
    return tuple((name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in found)


def _look_at_file(path: Path) -> FileLook:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_LISTED:
            return status.st_size, status.st_mtime_ns, b""
        # Its text too: two versions of a list can be as long, and be written within one tick of the clock.
        return status.st_size, status.st_mtime_ns, read_file(path, limit=MOST_LISTED)
    except BundleDamaged:  # it cannot be read, or has become something else: the loader says so
        return status.st_size, status.st_mtime_ns, b""
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno or 0
