"""Versions that have loaded and passed their self-test on this machine, in a process of its own.

Tested in tests/runtime/test_reload.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from service.bundle.repository import Repository

Numbered = tuple[str, int]
"""A model's name and one of its versions."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """What is known of versions before this process loads them."""

    def refusals(self, repository: Repository, versions: Iterable[Numbered]) -> dict[Numbered, str]:
        """Why versions cannot be served, in one line each; those that can are absent."""
        del self, repository, versions
        return {}
