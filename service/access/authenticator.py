"""Who sends a request: the one place where a credential becomes a caller."""

from typing import Final, Protocol

from service.access.caller import ANONYMOUS, Caller
from service.access.certificates import Certificates
from service.errors import Unauthenticated


class Keys(Protocol):
    """Checks API keys."""

    def are_needed(self) -> bool:
        """Whether there are keys, or were, so that requests without one are refused."""

    def caller(self, key: bytes) -> Caller:
        """Whose key this is; raises `Unauthenticated` or `TokenExpired`."""


class Tokens(Protocol):
    """Checks JSON web tokens."""

    async def caller(self, token: bytes) -> Caller:
        """Whose token this is; raises `Unauthenticated` or `TokenExpired`."""


class Authenticator:
    """Finds the caller of a request by its credential.

    Parameters
    ----------
    keys : Keys
    tokens : Tokens, optional
        None where no issuer is configured.
    certificates : Certificates, optional
        None where no proxy names subjects.
    """

    def __init__(self, keys: Keys, tokens: Tokens | None = None, certificates: Certificates | None = None) -> None:
        self._keys, self._tokens, self._certificates = keys, tokens, certificates
        self._is_configured = tokens is not None or certificates is not None

    def is_open(self) -> bool:
        """Whether everyone may do everything: no credential is configured, and no key was ever made."""
        return not self._is_configured and not self._keys.are_needed()

    async def caller(self, authorization: bytes | None, subject: bytes | None = None) -> Caller:
        """The caller of a request.

        Parameters
        ----------
        authorization : bytes, optional
            The field `Authorization`; it decides where there is a subject too.
        subject : bytes, optional
            Of the client's certificate, where the direct peer is a proxy that may name it. Empty is none.

        Raises
        ------
        Unauthenticated
            If there is no credential, or none that is known here.
        TokenExpired
            If it was valid once.
        """
        if self.is_open():
            return ANONYMOUS
        if authorization is not None:
            credential = _bearer(authorization)
            return self._keys.caller(credential) if credential.startswith(b"tmp_") else await self._by_token(credential)
        if subject and self._certificates is not None:
            return self._certificates.caller(subject)
        raise Unauthenticated(NEEDED)

    async def _by_token(self, token: bytes) -> Caller:
        if self._tokens is None:
            raise Unauthenticated(NEEDED)
        return await self._tokens.caller(token)


def _bearer(authorization: bytes) -> bytes:
    if authorization[:7].lower() != b"bearer ":
        raise Unauthenticated(NEEDED)
    return authorization[7:].strip(b" ")


NEEDED: Final = "send a credential of this service in the field Authorization: Bearer, a space, and the credential"
