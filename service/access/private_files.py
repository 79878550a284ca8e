"""Files of the service's own: whole or not at all, readable by their owner, with one writer at a time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle.durability import sync

FOLDER_MODE, FILE_MODE = 0o700, 0o600


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder's files while the context lasts; the folder is made where there is none.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OSError
        If the folder cannot be made or opened.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of the folder itself, so that no file of a lock is left behind
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Give a file other content: a reader finds all of the old or all of the new, also after a power failure.

    A file that is there keeps its mode and its owner, or is not replaced; a new one is its owner's alone.

    Parameters
    ----------
    path : Path
        A link is followed.
    content : bytes

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = path.resolve()
    before = path.stat() if path.exists() else None
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            _keep_access(file.fileno(), before)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync(path.parent)


def _keep_access(descriptor: int, before: os.stat_result | None) -> None:
    if before is None:
        os.fchmod(descriptor, FILE_MODE)
        return
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):  # as when root changes what the service must read
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)
