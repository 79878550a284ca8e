"""What is written stays written, also after a power failure; or why it cannot be written.

Tested in `tests/bundle/test_writer.py`.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.errors import BundleError

NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS})
"""What CIFS, FUSE and some NFS answer to fsync of a folder: their entries are durable without it, or never."""

NO_RENAME: Final = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.EMFILE}
)
"""What object stores that are mounted as folders answer to a rename (EMFILE: gcsfuse)."""


def sync(path: Path) -> None:
    """Let a file, or the entries of a folder, reach the disk.

    Parameters
    ----------
    path : Path
        A folder of a file system that knows no fsync of folders is left as it is.

    Raises
    ------
    OSError
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name in the same folder, in one step.

    Raises
    ------
    BundleError
        If the file system cannot do that.
    OSError
        If it can, but not now.
    """
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in NO_RENAME:
            raise
        raise BundleError(
            f"{target.parent}: its file system cannot rename a file or folder in one step ({error.strerror}), as "
            "object stores mounted as folders cannot; publish into a folder of a local disk, and copy that folder here"
        ) from None


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn a disk that is full or cannot be written into one line that names the place and what to do.

    Raises
    ------
    BundleError
    FileNotFoundError
        As it is: something that was to be read is not there.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in ADVICE:  # Python names the file that it copied from
            raise BundleError(f"{place} cannot be written: {reason}; {ADVICE[error.errno]}") from None
        raise BundleError(f"{error.filename or place}: {reason}") from None


ADVICE: Final[dict[int | None, str]] = {
    errno.ENOSPC: "free some space there, and repeat the command",
    errno.EDQUOT: "free some space there, and repeat the command",
    errno.EROFS: "it is read-only; publish where it can be written, and copy it from there",
    errno.EACCES: "run the command as a user who may write there",
}
"""Error of a write -> what to do."""
