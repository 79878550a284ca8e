"""Files of the service's own: whole or not at all, readable by their owner, with one writer at a time."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.bundle.durability import sync

FOLDER_MODE, FILE_MODE = 0o700, 0o600
LOOK_SECONDS: Final = 0.02
"""Between two tries to get a lock for which only a bounded time is waited."""


@contextmanager
def alone_in(folder: Path, *, seconds: float | None = None) -> Iterator[None]:
    """Be the only writer of a folder's files while the context lasts; the folder is made where there is none.

    Parameters
    ----------
    folder : Path
    seconds : float, optional
        How long to wait for another writer; as long as it takes by default.

    Raises
    ------
    OSError
        If the folder cannot be made or opened.
    TimeoutError
        If there still is another writer after these seconds.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, seconds)  # of the folder itself, so that no file of a lock is left behind
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, seconds: float | None) -> None:
    if seconds is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + seconds
    while not _is_locked(descriptor):
        if time.monotonic() > deadline:
            raise TimeoutError("another process writes there")
        time.sleep(LOOK_SECONDS)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
