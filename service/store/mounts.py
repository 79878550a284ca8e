"""What kind of file system a file lies on.

References
----------
SQLite, *Write-Ahead Logging*, section 1: all processes must be on the same machine; it does not work over a network
file system. Linux, *proc_pid_mountinfo(5)*.
"""

import re
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "fuse"),
        *("fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.cephfs", "fuse.gcsfuse", "fuse.glusterfs"),
        *("fuse.goofys", "fuse.juicefs", "fuse.moosefs", "fuse.mountpoint-s3", "fuse.rclone", "fuse.s3fs"),
        *("fuse.seaweedfs", "fuse.sshfs", "fuse.vmhgfs-fuse"),
    )
)
"""Shared by several machines, or without locks and shared memory that hold between processes."""
VOLATILE: Final = frozenset({"overlay", "aufs", "tmpfs", "ramfs", "fuse.fuse-overlayfs"})
"""Gone with the container or the machine's next start."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def kind_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of the file system under a path, as the kernel names it; None where that is not known.

    Parameters
    ----------
    path : Path
        Absolute, with its links followed; need not exist.
    mounts : Path, optional
        The kernel's list.
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # another kernel than Linux
        return None
    found = [(len(point.parts), kind) for point, kind in map(_mount, lines) if path.is_relative_to(point)]
    deepest = max([depth for depth, _ in found], default=0)
    return next((kind for depth, kind in reversed(found) if depth == deepest), None)  # the last one covers others


def _mount(line: str) -> tuple[Path, str]:
    own, _, source = line.partition(" - ")
    point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), own.split(" ")[4])
    return Path(point), source.split(" ")[0]
