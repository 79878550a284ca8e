"""Callers that a proxy knows by their certificate: it checked the certificate, and names its subject in a header."""

import re
from typing import Final

from service.access.caller import Caller
from service.errors import Unauthenticated

_SUBJECT: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")


class Certificates:
    """Makes callers of the subjects of certificates.

    Parameters
    ----------
    scopes : frozenset of str
        What all of them may do.
    """

    def __init__(self, scopes: frozenset[str]) -> None:
        self._scopes = scopes

    def caller(self, subject: bytes) -> Caller:
        """The caller of a certificate.

        Parameters
        ----------
        subject : bytes
            As the proxy wrote it, for example `CN=ehr,O=Hospital`. It must come from that proxy, from no other peer.

        Raises
        ------
        Unauthenticated
            If it is not 1 to 256 printable characters of ASCII.
        """
        if _SUBJECT.fullmatch(subject) is None:
            raise Unauthenticated("the proxy names no subject of a certificate that can be a caller's name")
        return Caller(f"certificate:{subject.decode('ascii')}", self._scopes)
