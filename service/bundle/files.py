"""The one place where files of a repository are opened: regular ones, of a bounded size, and never waited for."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from service.errors import BundleDamaged

FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe without a writer is not waited for


@contextmanager
def opened(path: Path, *, follow: bool = True, limit: int | None = None) -> Iterator[BufferedReader]:
    """A regular file, opened for reading.

    Hard links are regular files: sums are of bytes, and ``rsync --link-dest`` and ``cp -al`` make them.

    Parameters
    ----------
    path : Path
    follow : bool
        Whether it may be a symbolic link. The folders above it always may.
    limit : int, optional
        Bytes.

    Raises
    ------
    BundleDamaged
        If it is missing, anything but a regular file, larger than the limit, or unreadable.
    """
    try:
        _check(path, path.stat(follow_symlinks=follow), limit)  # first, because opening a device can do harm
        with open(os.open(path, FLAGS | (0 if follow else os.O_NOFOLLOW)), "rb") as file:  # noqa: PTH123  # a descriptor
            _check(path, os.fstat(file.fileno()), limit)
            yield file
    except OSError as error:
        raise BundleDamaged(_reason(path, error)) from None


def read_file(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """All bytes of a regular file; `opened` describes the parameters and errors.

    A file that grows while it is read, or does not state its size, is not read beyond the limit either.
    """
    with opened(path, follow=follow, limit=limit) as file:
        content = file.read(limit + 1) or b""
    if len(content) > limit:
        raise BundleDamaged(_too_large(path, limit))
    return content


def read_optional_file(path: Path, *, limit: int) -> bytes | None:
    """As `read_file`; None where nothing lies there. A link to nothing is a fault."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BundleDamaged(_reason(path, error)) from None
    return read_file(path, limit=limit)


def file_sha256(path: Path, *, follow: bool = True, limit: int | None = None) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal; `opened` describes the parameters and errors."""
    with opened(path, follow=follow, limit=limit) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_regular(path: Path, *, limit: int | None = None) -> None:
    """Raise BundleDamaged, as `opened` does, for what is no readable regular file or a link to one."""
    with opened(path, limit=limit):
        pass


def names_in(folder: Path) -> list[str]:
    """Names of everything in a folder, sorted; BundleDamaged if it cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise BundleDamaged(_reason(folder, error)) from None


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, and of links to folders, sorted; none where there is no such folder.

    Raises
    ------
    BundleDamaged
        If it cannot be read: what is unreadable for a moment is not gone.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BundleDamaged(_reason(folder, error)) from None


def _check(path: Path, status: os.stat_result, limit: int | None) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise BundleDamaged(f"{path} is not a regular file: it is {KINDS.get(kind, 'of another kind')}")
    if limit is not None and status.st_size > limit:
        raise BundleDamaged(_too_large(path, limit))


def _too_large(path: Path, limit: int) -> str:
    return f"{path} is larger than the {_size(limit)} that such a file can have"


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _reason(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is a link to nothing" if path.is_symlink() else f"{path} is missing"
    if error.errno == errno.ELOOP:
        return f"{path} is not a regular file: it is {KINDS[stat.S_IFLNK]}"
    return f"{path} cannot be read: {error.strerror or type(error).__name__}"


KINDS: Final[dict[int, str]] = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
}
"""Type bits of a file's mode -> what messages call it."""
