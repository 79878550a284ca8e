"""Versions that are new to this machine are loaded and tested in a limited process before this one loads them.

A graph may crash ONNX Runtime, never end, or fill the memory. Whatever it does, it does it there, and is refused here.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from service.bundle.accepted_providers import ProviderName
from service.bundle.files import file_sha256
from service.bundle.repository import DRAFT, Repository
from service.bundle.sums import MOST_BYTES, SUMS_FILE
from service.bundle.wording import one_line
from service.errors import BundleDamaged, LoadFailed
from service.runtime.limited_process import (
    GIBIBYTE,
    OUT_OF_MEMORY,
    Ended,
    LimitedProcess,
    Limits,
    limited_process,
)
from service.runtime.proven_versions import FOLDER, ProvenVersions
from service.runtime.provider_packages import ON_CPU_ALONE, Providers, releases_of

MODULE: Final = "service.runtime.proof_process"
DEFAULT_LIMITS: Final = Limits(seconds=15.0, memory=GIBIBYTE)
MEMORY_OF_FILES: Final = 4
"""Bytes of memory for every byte of a version's files, beside what each version may take."""
MEMORY_OF_PROVIDER: Final[dict[ProviderName, int]] = {
    "cpu": 0,
    "openvino": 2 * GIBIBYTE,
    "cuda": 1 << 46,  # CUDA reserves addresses for all memory of the machine and its devices
    "tensorrt": 1 << 46,
}
"""Bytes of address space for a provider's own libraries."""
LONGEST_REFUSAL: Final = 1000

DRAFT_NUMBER: Final = 0
"""Stands for a draft where a version is a number; versions begin at 1."""

log = logging.getLogger("temperance")

Numbered = tuple[str, int]
"""A model's name and one of its versions."""


class Proofs:
    """What is known of versions before this process loads them.

    Parameters
    ----------
    limits : Limits
        Of one version: seconds for loading and self-test, and bytes beyond Python's own and those of its files.
    data : Path, optional
        Data directory, where passes are kept for later starts and other processes; they are not by default.
    providers : Providers
        Which execution provider every model is proven on: a pass holds for that one, and its release.
    """

    def __init__(
        self, limits: Limits = DEFAULT_LIMITS, *, data: Path | None = None, providers: Providers = ON_CPU_ALONE
    ) -> None:
        self._limits = limits
        self._providers = providers
        self._proven = ProvenVersions(None if data is None else data / FOLDER)
        self._ends = threading.Event()
        self._child: LimitedProcess | None = None

    def refusals(self, repository: Repository, versions: Iterable[Numbered]) -> dict[Numbered, str]:
        """Why versions cannot be served, in one line each; those that can are absent.

        Parameters
        ----------
        repository : Repository
        versions : iterable of (str, int)
        """
        digests = {one: _on(self._providers.of(one[0]), digest_of(repository, one)) for one in versions}
        if not self._unproven(digests):
            return {}
        with self._proven.alone():
            new = self._unproven(digests)  # another process may have proven some
            found = self._timed(repository, new)
            self._proven.add(digest for version in new if found[version] is None and (digest := digests[version]))
        return {version: refusal for version, refusal in found.items() if refusal is not None}

    def check(self, repository: Repository, versions: Iterable[Numbered]) -> None:
        """As `refusals`, for who needs all of the versions.

        Raises
        ------
        LoadFailed
            With the first reason.
        """
        for refusal in self.refusals(repository, versions).values():
            raise LoadFailed(refusal)

    def check_draft(self, repository: Repository, name: str) -> None:
        """As `check`, for a draft: it is loaded without its calibration, and nothing is kept of it."""
        self.check(repository, [(name, DRAFT_NUMBER)])

    def end(self) -> None:
        """End a proof that is under way in another thread, and prove no more: the process is about to end."""
        self._ends.set()
        if self._child is not None:
            self._child.kill()

    def _unproven(self, digests: dict[Numbered, str | None]) -> list[Numbered]:
        unproven = self._proven.unproven(filter(None, digests.values()))
        return [version for version, digest in digests.items() if digest is None or digest in unproven]

    def _timed(self, repository: Repository, versions: Sequence[Numbered]) -> dict[Numbered, str | None]:
        began = time.monotonic()
        found = self._prove(repository, versions)
        if versions:
            log.info("tested %d version(s) new to this machine in %.1f s", len(versions), time.monotonic() - began)
        return found

    def _prove(self, repository: Repository, versions: Iterable[Numbered]) -> dict[Numbered, str | None]:
        left, found = deque(versions), dict[Numbered, str | None]()
        try:
            while left:
                self._prove_in_one_process(repository, left, found)
        except OSError as error:
            reason = f"no process could be started to load it in: {error.strerror}"
            found |= {version: f"{_folder(repository, version)}: {reason}" for version in left}
        return found

    def _prove_in_one_process(
        self, repository: Repository, left: deque[Numbered], found: dict[Numbered, str | None]
    ) -> None:
        """Prove versions until none is left, or one has made the process unusable for others."""
        try:
            with limited_process(MODULE) as self._child:
                while left and self._child.is_usable:
                    found[left[0]] = self._refusal(self._child, repository, left[0])
                    left.popleft()
        finally:
            self._child = None

    def _refusal(self, child: LimitedProcess, repository: Repository, version: Numbered) -> str | None:
        name, number = version
        provider = self._providers.of(name)
        request = {
            "root": str(repository.root),
            "is_named": repository.is_named,
            "name": name,
            "version": number or None,
            "provider": provider,
        }
        folder = _folder(repository, version)
        memory = self._limits.memory + MEMORY_OF_FILES * _size(folder) + MEMORY_OF_PROVIDER[provider]
        limits = Limits(self._limits.seconds, memory)
        if self._ends.is_set():
            return f"{folder} was not loaded: the process is about to end"
        try:
            error = child.answer(request, limits).get("error")
        except Ended as end:
            return f"{folder}: {self._late() if end.late else _DIED.format(cause=end.cause)}"
        if error == OUT_OF_MEMORY:
            return f"{folder}: {_TOO_LARGE.format(gibibytes=limits.memory / GIBIBYTE)}"
        return None if error is None else _of_folder(folder, error)

    def _late(self) -> str:
        return f"it did not load and pass its self-test within {self._limits.seconds:g} s; {_ENDLESS}"


def digest_of(repository: Repository, version: Numbered) -> str | None:
    """A version's digest as its sums state it, which are not compared with its files; None where there are none."""
    sums = _folder(repository, version) / SUMS_FILE
    try:
        return f"sha256:{file_sha256(sums, follow=False, limit=MOST_BYTES[SUMS_FILE])}"
    except BundleDamaged:
        return None


def _on(provider: ProviderName, digest: str | None) -> str | None:
    """What is proven: a version on a provider, with the releases that bring it."""
    return digest if digest is None or provider == "cpu" else "\n".join([digest, provider, *releases_of(provider)])


def _folder(repository: Repository, version: Numbered) -> Path:
    name, number = version
    return repository.folder(name) / (DRAFT if number == DRAFT_NUMBER else str(number))


def _of_folder(folder: Path, error: str) -> str:
    """An error in one line that names the version."""
    line = one_line(error, most=LONGEST_REFUSAL)
    return line if str(folder) in line else f"{folder}: {line}"


def _size(folder: Path) -> int:
    """Bytes of the files of a folder, which nothing has checked so far."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError:
        return 0


_ENDLESS: Final = (
    "look for a loop that does not end or constants that take long to compute, or let it have more with "
    "TEMPERANCE_LOAD_SECONDS"
)
_TOO_LARGE: Final = (
    "it needs more than {gibibytes:.3g} GiB of memory to load and pass its self-test; look for a tensor of absurd "
    "size, or let it have more with TEMPERANCE_LOAD_MEMORY"
)
_DIED: Final = (
    "the process that loaded it died ({cause}); a file that crashes ONNX Runtime is not served: export the model "
    "again, or let the machine have more memory, for want of which it sends SIGKILL"
)
