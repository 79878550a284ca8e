"""Clear text, encrypted: of rows under a key of their subject, of stored replies under the master key.

Every request makes a random data key for each of its subjects, wrapped by the master key and stored beside the texts.
A key per request needs no agreement between processes and no look into the store before an answer leaves, and no
process holds a key that was erased. To erase a subject is to delete all of its keys, and its texts with them.

References
----------
NIST SP 800-38D: AES-GCM, with random nonces of 96 bits; a data key encrypts the few texts of one request.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.record_errors import StoreDamaged
from service.store.entries import Sealed, SealedKind, SubjectKey
from service.store.secrets import Secrets

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ClearText:
    """What is to be encrypted of one row.

    Attributes
    ----------
    row : int
    kind : str
    subject : bytes
        Token under whose key it lies, `Tokens.owner`.
    content : bytes
        UTF-8; of inputs, JSON.
    """

    row: int
    kind: SealedKind
    subject: bytes
    content: bytes


class Seals:
    """Encrypts with the current secret, decrypts with any.

    Parameters
    ----------
    secrets : Secrets
    """

    def __init__(self, secrets: Secrets) -> None:
        self._key_id = secrets.current.key_id
        self._masters = {key_id: AESGCM(secret.sealing_key) for key_id, secret in secrets.by_id.items()}

    def texts(self, request_id: str, texts: Sequence[ClearText]) -> tuple[list[Sealed], list[SubjectKey]]:
        """Encrypt the clear text of a request.

        Returns
        -------
        sealed : list of Sealed
        keys : list of SubjectKey
            One for each subject of the request.
        """
        keys = {text.subject: AESGCM.generate_key(KEY_BYTES * 8) for text in texts}
        ciphers = {subject: AESGCM(key) for subject, key in keys.items()}
        sealed = [self._sealed(request_id, text, ciphers[text.subject]) for text in texts]
        return sealed, [self._wrapped(request_id, subject, key) for subject, key in keys.items()]

    def text(self, sealed: Sealed, key: SubjectKey) -> bytes:
        """The clear text of a row.

        Raises
        ------
        StoreDamaged
            If text or key were changed, or are encrypted with a secret that is not at hand.
        """
        data_key = self._open(key.key_id, key.wrapped, _about_key(key.request_id, key.subject))
        about = _about_text(sealed.request_id, sealed.row, sealed.kind, sealed.subject)
        return _opened(AESGCM(data_key), sealed.content, about)

    def readable(self, sealed: Iterable[Sealed], keys: Mapping[bytes, SubjectKey]) -> dict[tuple[int, str], str]:
        """The clear text that is left of a request, by row and kind."""
        return {
            (one.row, one.kind): self.text(one, keys[one.subject]).decode("utf-8", "replace")
            for one in sealed
            if one.subject in keys
        }

    def reply(self, content: bytes, *, about: bytes) -> bytes:
        """Encrypt a reply that is kept for repeats of its request; ``about`` is the token of caller and key."""
        key_id = self._key_id.encode("ascii")
        return bytes([len(key_id)]) + key_id + _closed(self._masters[self._key_id], content, b"reply" + about)

    def read_reply(self, content: bytes, *, about: bytes) -> bytes:
        """A reply in clear text.

        Raises
        ------
        StoreDamaged
            If it was changed, or is encrypted with a secret that is not at hand.
        """
        end = 1 + content[0] if content else 0
        return self._open(content[1:end].decode("ascii", "replace"), content[end:], b"reply" + about)

    def _sealed(self, request_id: str, text: ClearText, cipher: AESGCM) -> Sealed:
        about = _about_text(request_id, text.row, text.kind, text.subject)
        content = _closed(cipher, text.content, about)
        return Sealed(request_id, text.row, text.kind, text.subject, self._key_id, content)

    def _wrapped(self, request_id: str, subject: bytes, key: bytes) -> SubjectKey:
        wrapped = _closed(self._masters[self._key_id], key, _about_key(request_id, subject))
        return SubjectKey(request_id, subject, self._key_id, wrapped)

    def _open(self, key_id: str, content: bytes, about: bytes) -> bytes:
        if key_id not in self._masters:
            raise StoreDamaged("clear text was encrypted with a secret that the secrets file does not have")
        return _opened(self._masters[key_id], content, about)


def _closed(cipher: AESGCM, content: bytes, about: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, content, about)


def _opened(cipher: AESGCM, content: bytes, about: bytes) -> bytes:
    try:
        return cipher.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        raise StoreDamaged("encrypted text was changed, or belongs to another row") from None


def _about_key(request_id: str, subject: bytes) -> bytes:
    return b"key" + request_id.encode("ascii", "replace") + subject


def _about_text(request_id: str, row: int, kind: str, subject: bytes) -> bytes:
    return f"text {request_id} {row} {kind} ".encode("ascii", "replace") + subject
