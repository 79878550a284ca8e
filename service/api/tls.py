"""TLS with certificates that are renewed while connections last."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uvicorn.config import Config

from service.errors import SettingsInvalid

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What an operator sets.

    Attributes
    ----------
    certificate : Path
        Chain, the server's own first.
    key : Path or None
        Private key; None where the chain's file holds it.
    password : Path or None
        File with the password of the key.
    authorities : Path or None
        By which certificates of clients are checked; clients need none without it.
    """

    certificate: Path
    key: Path | None = None
    password: Path | None = None
    authorities: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a server, with TLS 1.2 at least.

        Raises
        ------
        SettingsInvalid
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Take the files' present contents.

        Raises
        ------
        SettingsInvalid
            Naming the file, never what is in it.
        """
        try:
            context.load_cert_chain(self.certificate, self.key, self._password())
        except (OSError, ValueError) as error:
            files = " and ".join(str(path) for path in (self.certificate, self.key) if path)
            raise SettingsInvalid(f"{files}: no certificate with its private key ({_reason(error)})") from None
        if self.authorities is not None:
            self._load_authorities(self.authorities, context)

    def _load_authorities(self, authorities: Path, context: ssl.SSLContext) -> None:
        try:
            context.load_verify_locations(authorities)
        except OSError as error:
            raise SettingsInvalid(f"{authorities}: no certificates of authorities ({_reason(error)})") from None
        context.verify_mode = ssl.CERT_REQUIRED

    def _password(self) -> str:
        # Without a password of ours OpenSSL reads one from the terminal, and a service has none.
        return self.password.read_text(encoding="utf-8").rstrip("\r\n") if self.password else ""


class Tls:
    """The context in use; uvicorn takes it once, in the process that serves.

    Parameters
    ----------
    files : CertificateFiles
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._context: ssl.SSLContext | None = None

    def __call__(self, config: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """As `ssl_context_factory` of uvicorn."""
        del config, default
        self._context = self._files.context()
        return self._context

    def reload(self) -> None:
        """Give new connections what the files hold now; if they cannot be used, what was loaded stays."""
        try:
            self._files.context()  # a context that fails half-way would keep a certificate without its key
            if self._context is not None:
                self._files.load_into(self._context)
        except SettingsInvalid as error:
            log.error("the certificate in use stays: %s", error.detail)  # noqa: TRY400  # the trace says nothing more
        else:
            log.info("the certificate was loaded again")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unreadable").replace("_", " ").lower()
    return error.strerror or "unreadable" if isinstance(error, OSError) else "a wrong password"
