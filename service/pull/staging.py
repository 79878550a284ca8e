"""Where a version lies while it is pulled: beside the versions, under a name that another pull finds again.

Tested in `tests/pull/test_pull_versions.py`.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.bundle.durability import sync, writing

PREFIX: Final = ".pulling-"
NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Let one pull at a time write into a model's folder, which is made; another one waits.

    Yields
    ------
    bool
        Whether the file system has locks. Where it has none, pulls must not share a folder.

    Raises
    ------
    BundleError
    """
    with writing(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder.parent)
        descriptor = os.open(folder / f"{PREFIX}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield _lock(descriptor)  # which ends with the process, however that ends
    finally:
        os.close(descriptor)


def staging_folder(folder: Path, version: int, digest: str, *, is_shared: bool) -> Path:
    """Folder of what has come of a version with that digest; it holds `files`, which are finished, and `parts`.

    Parameters
    ----------
    folder : Path
        Of the model.
    version : int
    digest : str
    is_shared : bool
        Whether the next pull of that version goes on in it.

    Raises
    ------
    BundleError
    """
    own = "" if is_shared else f"-{os.getpid()}"
    staging = folder / f"{PREFIX}{version}-{digest.removeprefix('sha256:')}{own}"
    with writing(staging):
        for place in (staging, staging / "files", staging / "parts"):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
    return staging


def clear(folder: Path, version: int) -> None:
    """Remove what pulls of a version have left in a model's folder, which is locked."""
    for left in folder.glob(f"{PREFIX}{version}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True
