"""Pseudonyms and digests that need a key: with the store alone, names cannot be tried until one fits.

References
----------
RFC 7693: keyed BLAKE2b, with a personalisation for each use, so that tokens of different uses have nothing in common.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

from service.store.entries import TOKEN_BYTES

Use = Literal["id", "subject", "group", "row", "reply"]
Content = bytes | bytearray | memoryview
NONE: Final = bytes(TOKEN_BYTES)


class Tokens:
    """Keyed digests of 16 bytes under one secret.

    Parameters
    ----------
    key_id : str
        Of the secret; kept beside whatever was made with it.
    key : bytes
        32 of them.
    """

    def __init__(self, key_id: str, key: bytes) -> None:
        self._key_id = key_id
        # Copies of a keyed state: half the time of a new one, whose first block is the key.
        self._states = {
            use: hashlib.blake2b(digest_size=TOKEN_BYTES, key=key, person=use.encode("ascii")) for use in USES
        }

    @property
    def key_id(self) -> str:
        """Of the secret."""
        return self._key_id

    def token(self, use: Use, text: str) -> bytes:
        """The token of a text.

        Parameters
        ----------
        use : str
            ``id``, ``subject``, ``group`` or ``reply``: the same text has another token for every use.
        text : str
        """
        return self._digest(use, text.encode("utf-8", "surrogatepass"))

    def tokens(self, texts: Sequence[str | None], use: Use = "subject") -> bytes:
        """Tokens of several texts, joined; zeros where there is none."""
        return b"".join([NONE if text is None else self.token(use, text) for text in texts])

    def digests(self, rows: Sequence[Content]) -> bytes:
        """Digests of decoded rows, joined."""
        return b"".join([self._digest("row", row) for row in rows])

    def owner(self, subject: str | None, *, identifier: str | None, prediction_id: str) -> bytes:
        """Token under whose key the clear text of a row lies: its subject's, or else its id's, or else its own."""
        return self.token("subject", next(text for text in (subject, identifier, prediction_id) if text is not None))

    def _digest(self, use: Use, content: Content) -> bytes:
        state = self._states[use].copy()
        state.update(content)
        return state.digest()


USES: Final[tuple[Use, ...]] = ("id", "subject", "group", "row", "reply")
