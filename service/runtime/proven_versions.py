"""Versions that passed their self-test here, kept in the data directory, so that a second start costs nothing.

Only passes are kept: a refusal may have come from a slow disk or a full memory. An entry holds for a digest together
with all that the self-test depends on beside it, so that another release or another processor proves again.
"""

import logging
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from service.private_files import FOLDER_MODE, alone_in, replace_file
from service.runtime.provider_packages import RUNTIMES, installed

FOLDER: Final = "proofs"
"""Of the data directory; a folder of its own has a lock of its own."""
FILE: Final = "proven.txt"
"""One entry per line, the newest last."""
ENTRY: Final = re.compile("[0-9a-f]{64}")
MOST: Final = 1000
LARGEST: Final = 1 << 20
WAIT_SECONDS: Final = 3.0
"""For which a process waits while another proves: mostly the same versions, of which it then proves none."""

log = logging.getLogger("temperance")


@dataclass(slots=True)
class ProvenVersions:
    """Digests of versions that are proven; what cannot be kept on the disk is kept in memory.

    Attributes
    ----------
    folder : Path or None
        Where they are kept for later starts and other processes; None for this process alone.
    """

    folder: Path | None = None
    _own: set[str] = field(default_factory=set)
    _has_complained: bool = False

    def unproven(self, digests: Iterable[str]) -> set[str]:
        """Those of some digests that are not proven on this machine."""
        kept = self._own.union(self._kept())
        return {digest for digest in digests if entry_of(digest) not in kept}

    def add(self, digests: Iterable[str]) -> None:
        """Keep digests as proven; an error is logged once, and then they hold for this process."""
        new = [entry_of(digest) for digest in digests]
        self._own.update(new)
        if self.folder is None or not new:
            return
        entries = [*(entry for entry in self._kept() if entry not in new), *new][-MOST:]
        try:
            self._make_folder()
            replace_file(self.folder / FILE, "".join(f"{entry}\n" for entry in entries).encode())
        except OSError as error:
            self._complain(f"cannot be written: {error.strerror}; every start proves all versions again")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let other processes wait, for `WAIT_SECONDS`, so that they do not prove the same versions meanwhile."""
        with ExitStack() as exits:
            if self.folder is not None:
                with suppress(OSError):  # without a lock, two processes may prove the same
                    self._make_folder()
                    exits.enter_context(alone_in(self.folder, seconds=WAIT_SECONDS))
            yield

    def _make_folder(self) -> None:
        if self.folder is not None:
            self.folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self.folder.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def _kept(self) -> list[str]:
        if self.folder is None:
            return []
        try:
            return _parse(_read(self.folder / FILE))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain(f"cannot be read: {error.strerror}; every start proves all versions again")
        except ValueError:
            self._complain("is damaged; all versions are proven again, and it is written anew")
        return []

    def _complain(self, what: str) -> None:
        if not self._has_complained:
            log.warning("%s %s", self.folder and self.folder / FILE, what)
        self._has_complained = True


def entry_of(digest: str) -> str:
    """What stands for a digest on this machine, with these releases: a hash in hexadecimal."""
    return sha256(f"{digest}\n{_machine()}".encode()).hexdigest()


@cache
def _machine() -> str:
    releases = installed(("temperance", *RUNTIMES, "numpy"))
    return "\n".join([*releases, platform.python_version(), platform.machine(), *_processor()])


def _processor() -> list[str]:
    """What tells kinds of processors apart: the kernels that a library chooses depend on it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            first = file.read(LARGEST).partition("\n\n")[0]
    except OSError:
        return [platform.processor()]
    return [line for line in first.splitlines() if line.partition("\t")[0].strip() in _KIND_OF_PROCESSOR]


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _parse(content: bytes) -> list[str]:
    entries = content.decode("ascii").splitlines()
    if len(content) > LARGEST or not all(map(ENTRY.fullmatch, entries)):
        raise ValueError("no list of entries")
    return entries


_KIND_OF_PROCESSOR: Final = frozenset(
    {
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
    }
)
