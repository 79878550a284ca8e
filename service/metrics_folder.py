"""The folder in which workers count together: made at a start, gone at the end, cleared by the next if that was missed.

A process that is killed leaves its folder. Whether it lives is known by locks on files in the folder, its own and those
of its workers: the system gives them back when a process ends, whatever ends it.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from service.errors import SettingsInvalid

SHARED_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client counts in a folder, from when it is imported."""
NAMED: Final = "temperance-metrics-"
LOCK: Final = "service.lock"
LEAST_FREE: Final = 2 << 20
"""Bytes for each worker: its counters, and its region for quotas, which are mapped and so cannot be refused later."""


@contextmanager
def metrics_folder(workers: int) -> Iterator[str]:
    """A folder of this process and its workers; it goes when the context ends.

    Raises
    ------
    SettingsInvalid
        If there is no place for it.
    """
    try:
        check_room(Path(tempfile.gettempdir()), workers)
        made = tempfile.TemporaryDirectory(prefix=NAMED, ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_place(error.strerror) from None
    with made as folder, _held(Path(folder)):
        yield folder


def check_room(place: Path, workers: int) -> None:
    """Refuse a place that has too few bytes left: a process that writes to a map which has none is killed.

    Raises
    ------
    SettingsInvalid
    """
    free, needed = shutil.disk_usage(place).free, LEAST_FREE * workers
    if free < needed:
        raise _no_place(f"{place} has {free >> 20} MiB left, and {workers} workers need {needed >> 20}")


def clear_left_over() -> int:
    """Remove the folders of services that have ended without it; how many there were."""
    try:
        found = sorted(Path(tempfile.gettempdir()).glob(f"{NAMED}*"))
    except OSError:
        return 0
    return sum(map(_cleared, found))


def _no_place(reason: str | None) -> SettingsInvalid:
    return SettingsInvalid(
        f"TMPDIR: there is no place for the folder in which workers count together: {reason}; name another in TMPDIR, "
        "or serve with one worker"
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    # The lock is taken before the file has its name: another start sees it held, or not at all.
    made = folder / f"{LOCK}.new"
    with made.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder / LOCK)
        yield


def _cleared(folder: Path) -> bool:
    if not _is_ours(folder):
        return False
    with ExitStack() as held:
        # Its own lock comes first: no lock of a living service's workers is touched.
        locks = sorted(folder.glob("*.lock"), key=lambda path: path.name != LOCK)
        is_left_over = bool(locks) and locks[0].name == LOCK and all(_lock(path, held) for path in locks)
        if is_left_over:
            shutil.rmtree(folder, ignore_errors=True)
    return is_left_over and not folder.exists()


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _lock(path: Path, held: ExitStack) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        held.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
