"""Who signs: the part of the secrets that streams and anchors need.

Tested in tests/store/test_secrets.py.
"""

from typing import Protocol


class Signer(Protocol):
    """Signs with Ed25519."""

    @property
    def key_id(self) -> str:
        """Of the key that signs now."""

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
