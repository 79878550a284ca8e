"""What is counted and measured of the record: groups, faults, and how full the disk is.

Tested in tests/test_record_metrics.py and tests/test_record_parts.py.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from service.store.engine import Store
from service.store.retention import Disk
from service.store.submissions import Submission
from service.telemetry import Telemetry

MEASURE_SECONDS: Final = 15.0

log = logging.getLogger("temperance")


class CountedGroups:
    """Counts what the thread that writes did; a `service.store.commit_thread.Observer`.

    Parameters
    ----------
    telemetry : Telemetry
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        telemetry.store_up.set(1)

    def committed(self, submissions: Sequence[Submission], seconds: float) -> None:
        """A group is durable."""
        records = sum([len(submission.write.predictions) for submission in submissions])
        self._telemetry.records.inc(records)
        self._telemetry.record_group.observe(records)
        self._telemetry.commit_seconds.observe(seconds)

    def fault(self, *, is_up: bool) -> None:
        """The store failed, or can be written again."""
        self._telemetry.store_up.set(1 if is_up else 0)


class MeasuredStore:
    """The chore of measuring the store and its disk, every 15 seconds.

    Parameters
    ----------
    telemetry : Telemetry
    folder : Path or None
        Whose disk the store is on; None where it is a server's.
    waiting : callable
        Submissions that wait.
    """

    def __init__(self, telemetry: Telemetry, folder: Path | None, waiting: Callable[[], int]) -> None:
        self._telemetry, self._folder, self._waiting = telemetry, folder, waiting
        self._due = 0.0
        self._was_full = False

    def run(self, store: Store, *, is_last: bool) -> None:
        """Measure, where it is due."""
        now = time.monotonic()
        if now < self._due or is_last:
            return
        self._due = now + MEASURE_SECONDS
        self._telemetry.record_waiting.set(self._waiting())
        self._telemetry.store_bytes.set(store.size())
        if self._folder is not None:
            self._measure(Disk.of(self._folder))

    def _measure(self, disk: Disk) -> None:
        self._telemetry.store_free.set(disk.free)
        if disk.is_nearly_full and not self._was_full:
            log.warning("the disk of the record is nearly full: %d MiB are left", disk.free >> 20)
        self._was_full = disk.is_nearly_full
