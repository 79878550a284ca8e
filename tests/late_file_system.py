"""A file system over a folder that behaves as network shares do: it shows changes late, and handles go stale.

Run as ``python -m tests.late_file_system FOLDER MOUNT SECONDS``. What a path looked like is shown for so many seconds,
as an NFS client's attribute cache shows it. The first reading of a folder or file after it was replaced fails with
ESTALE, and its path is printed. Nothing is ever notified: inotify sees no changes that others make. A file that is
deleted while it is open stays as ``.fuse_hidden…``, which is what NFS clients call a silly rename.
"""

import errno
import os
import sys
import time
from typing import Any

import mfusepy as fuse


class Late(fuse.Operations):
    """The folder, late."""

    use_ns = True

    def __init__(self, root: str, seconds: float) -> None:
        self._root = root
        self._seconds = seconds
        self._shown: dict[tuple[str, str], tuple[float, Any]] = {}
        self._inodes: dict[str, int] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        del fh
        return dict(self._late("attributes", path, self._attributes))

    def readdir(self, path: str, fh: int) -> list[str]:
        del fh
        return list(self._late("entries", path, self._entries))

    def readlink(self, path: str) -> str:
        return os.readlink(self._root + path)  # noqa: PTH115  # a text

    def open(self, path: str, flags: int) -> int:
        self._check_stale(path)
        return os.open(self._root + path, flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        del path
        os.close(fh)
        return 0

    def _late(self, kind: str, path: str, look: Any) -> Any:
        """What was seen of a path, as long as it is not too old; an error is never kept."""
        now = time.monotonic()
        seen = self._shown.get((kind, path))
        if seen is None or now - seen[0] >= self._seconds:
            seen = self._shown[kind, path] = (now, look(path))
        return seen[1]

    def _attributes(self, path: str) -> dict[str, Any]:
        status = os.lstat(self._root + path)
        names = ("st_mode", "st_nlink", "st_size", "st_mtime_ns", "st_uid", "st_gid", "st_ino")
        found = {name: getattr(status, name) for name in names}
        return {**{k: v for k, v in found.items() if k != "st_mtime_ns"}, "st_mtime": found["st_mtime_ns"]}

    def _entries(self, path: str) -> list[str]:
        self._check_stale(path)
        return [".", "..", *os.listdir(self._root + path)]  # noqa: PTH208  # names

    def _check_stale(self, path: str) -> None:
        """ESTALE, once, for what another machine has replaced."""
        inode = os.lstat(self._root + path).st_ino
        known = self._inodes.setdefault(path, inode)
        self._inodes[path] = inode
        if known != inode:
            print(path, flush=True)  # noqa: T201  # what failed, for who runs this
            raise fuse.FuseOSError(errno.ESTALE)


if __name__ == "__main__":
    fuse.FUSE(Late(sys.argv[1], float(sys.argv[3])), sys.argv[2], foreground=True, nothreads=True, ro=True)
