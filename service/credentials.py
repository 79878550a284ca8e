"""Whose requests are answered, by the settings: what a start is refused for, and the objects that check credentials."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from service.access.authenticator import Authenticator, Tokens
from service.access.caller import SCOPES
from service.access.certificates import Certificates
from service.access.key_file import KEYS_FILE, KeyFile
from service.access.key_use import KeyUse
from service.access.watched_keys import WatchedKeys
from service.errors import SettingsInvalid
from service.log_format import error_lines
from service.settings import PREFIX, Settings
from service.telemetry import Telemetry

LOOK_SECONDS: Final = 1.0
USE_SECONDS: Final = 60.0

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the service, as a line of the log.

    Attributes
    ----------
    level : int
    sentence : str
    """

    level: int
    sentence: str


def keys_path(settings: Settings) -> Path:
    """Where the keys are kept."""
    return settings.keys or settings.data / KEYS_FILE


def keys_of(settings: Settings, telemetry: Telemetry | None = None) -> WatchedKeys:
    """The keys that are in force, and follow their file."""
    store = KeyFile(keys_path(settings))
    return WatchedKeys(store, time.time, are_needed=settings.keys is not None, telemetry=telemetry)


def key_use_of(settings: Settings) -> KeyUse:
    """Where the last uses of keys are written."""
    return KeyUse(settings.data)


def authenticator_of(settings: Settings, keys: WatchedKeys, tokens: Tokens | None = None) -> Authenticator:
    """Checks every kind of credential that is configured."""
    by_certificate = settings.client_certificate_header is not None
    scopes = frozenset(settings.client_certificate_scopes)
    return Authenticator(keys, tokens, Certificates(scopes) if by_certificate else None)


def check_access(settings: Settings) -> Access:
    """Refuse a start that would be open to other machines, or that no request could be answered after.

    Returns
    -------
    Access
        What the log says of it once the service is sure to start.

    Raises
    ------
    KeysInvalid
        If the file of keys cannot be read.
    SettingsInvalid
        With the ways out.
    """
    _check_certificates(settings)
    path, is_local = keys_path(settings), is_of_this_machine(settings)
    usable, may_refuse = _usable(settings, path), not is_local and not settings.insecure
    if usable or _others(settings):
        return Access(logging.INFO, f"credentials are needed: {', '.join(_credentials(settings, usable or 0))}")
    if usable is None:
        if may_refuse:
            raise SettingsInvalid(OPEN.format(host=settings.host, path=path))
        return OPEN_TO[is_local]
    if may_refuse:
        raise SettingsInvalid(
            f"no key in {path} is usable, so no request could be answered; {MAKE.format(path=path)} makes one"
            f"{IN_COMPOSE if settings.keys else ''}"
        )
    return Access(logging.WARNING, f"no key in {path} is usable: until there is one, every request is refused")


def keep_keys_needed(settings: Settings) -> None:
    """Let worker processes need keys although their file may be gone when they start."""
    if keys_path(settings).exists():
        os.environ[f"{PREFIX}KEYS"] = str(keys_path(settings))


def is_of_this_machine(settings: Settings) -> bool:
    """Whether only this machine can connect. Of names, that holds for localhost alone: others can mean any address."""
    if settings.uds is not None or settings.host == "localhost":
        return True
    try:
        address = ip_address(settings.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


@asynccontextmanager
async def following_keys(keys: WatchedKeys, use: KeyUse, *, seconds: float = LOOK_SECONDS) -> AsyncIterator[None]:
    """Keys follow their file, and their uses are written every so often and at the end, while the context lasts.

    Parameters
    ----------
    keys : WatchedKeys
    use : KeyUse
    seconds : float, optional
        Between two looks at the file.
    """
    follow = asyncio.create_task(_follow(keys, use, seconds))
    try:
        yield
    finally:
        follow.cancel()
        await asyncio.to_thread(use.add, keys.take_used())


async def _follow(keys: WatchedKeys, use: KeyUse, seconds: float) -> None:
    due = time.monotonic()
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(keys.poll)
            if time.monotonic() >= due:
                due = time.monotonic() + USE_SECONDS
                await asyncio.to_thread(use.add, keys.take_used())
        except Exception as error:  # noqa: BLE001  # whatever it is, a key that is revoked later must count
            log.error(UNSEEN, extra={"error_lines": error_lines(error)})  # noqa: TRY400  # the lines hold no message


def _usable(settings: Settings, path: Path) -> int | None:
    store = KeyFile(path)
    if store.revision() is None:
        if settings.keys is None:
            return None
        raise SettingsInvalid(f"{PREFIX}KEYS: there is no file {path}; {MAKE.format(path=path)} makes it{IN_COMPOSE}")
    store.read()  # what is wrong with it is reported now; later a damaged file changes nothing
    return keys_of(settings).usable()


def _others(settings: Settings) -> bool:
    return bool(settings.jwt_issuers) or settings.client_certificate_header is not None


def _check_certificates(settings: Settings) -> None:
    unknown = set(settings.client_certificate_scopes) - set(SCOPES)
    if unknown:
        raise SettingsInvalid(f"{PREFIX}CLIENT_CERTIFICATE_SCOPES: there are the scopes {', '.join(SCOPES)}")
    if settings.client_certificate_header is not None and not settings.proxies:
        raise SettingsInvalid(f"{PREFIX}CLIENT_CERTIFICATE_HEADER: {PREFIX}PROXIES must name who may send this header")


def _credentials(settings: Settings, usable: int) -> list[str]:
    counts = {"key": usable, "issuer": len(settings.jwt_issuers)}
    found = [_counted(number, word) for word, number in counts.items() if number]
    return [*found, *(["certificates"] if settings.client_certificate_header is not None else [])]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


UNSEEN: Final = "the keys could not be looked at; those of before stay in force until the next look"
MAKE: Final = "temperance keys create --name NAME --scopes predict --keys {path}"
IN_COMPOSE: Final = "; beside docker-compose.yml, docker compose run --rm keys create --name NAME does"
OPEN: Final = (
    "{host} can be reached from other machines, and no credential is configured, so everyone could use the service; "
    f"make a key ({MAKE}), or set {PREFIX}JWT_ISSUERS, or start with --insecure"
)
OPEN_TO: Final = {
    True: Access(logging.INFO, "no credential is configured: open to everyone on this machine"),
    False: Access(logging.WARNING, "no credential is configured: open to everyone who reaches the port (--insecure)"),
}
