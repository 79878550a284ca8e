"""Where the record and its keys lie, by the settings: for the server and for `temperance audit` alike."""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from service.errors import SettingsInvalid
from service.settings import PREFIX, Settings
from service.store.anchors import ANCHORS_FILE, Anchors, Sink, sink_of
from service.store.retention import Retention
from service.store.secrets import CREATE, SECRETS_FILE, Secrets

STORE_FILE: Final = "audit.db"
"""Its name in the data directory."""


def store_url(settings: Settings) -> str:
    """The URL of the store: the setting's, with the password of its file, or of a file in the data directory.

    Raises
    ------
    SettingsInvalid
        If the file of the password cannot be read, or does not go with the URL.
    """
    if settings.store_password_file is not None:
        return _with_password(settings.store or "", settings.store_password_file)
    return settings.store or f"sqlite://{quote(str(settings.data.absolute() / STORE_FILE))}"


def folder_of(url: str) -> Path | None:
    """The directory of an embedded store; None where the store is a server's."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)).parent if parts.scheme == "sqlite" else None


def secrets_path(settings: Settings) -> Path:
    """The file of secrets."""
    return settings.secrets or settings.data / SECRETS_FILE


def secrets_of(settings: Settings) -> Secrets:
    """The secrets of the store; made here for a store that begins in a file of this machine.

    Raises
    ------
    SettingsInvalid
        If there are none and several machines may share the store, or it has records that others were used for; and
        as `Secrets.read`.
    """
    path = secrets_path(settings)
    if path.exists():
        return Secrets.read(path)
    parts = urlsplit(store_url(settings))
    if parts.scheme != "sqlite":
        raise SettingsInvalid(
            f"all machines of this store need the same file of secrets: make one with `{CREATE}`, copy it to each of "
            f"them, and name it with {PREFIX}SECRETS"
        )
    if _has_content(Path(unquote(parts.path))) and not path.exists():
        raise SettingsInvalid(
            f"{path} is missing, and the store has records that were made with it: restore it from a backup, or begin "
            f"with another by `{CREATE}`"
        )
    return Secrets.read_or_made(path)


def anchor_sink(settings: Settings) -> Sink:
    """Where anchors are written to."""
    return sink_of(settings.anchors, default=settings.data / ANCHORS_FILE)


def anchors_of(settings: Settings, secrets: Secrets) -> Anchors:
    """The anchors of a process."""
    return Anchors(anchor_sink(settings), secrets.current.signer, every=settings.anchor_records)


def retention_of(settings: Settings, secrets: Secrets) -> Retention:
    """What a process deletes by itself."""
    sink, every = anchor_sink(settings), settings.anchor_records
    return Retention(sink, secrets.current.signer, days=settings.retention_days, every=every)


def _with_password(url: str, path: Path) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise SettingsInvalid(f"{PREFIX}STORE_PASSWORD_FILE needs {PREFIX}STORE=postgresql://USER@HOST:PORT/DATABASE")
    if ":" in parts.netloc.rpartition("@")[0] or "password" in parse_qs(parts.query):
        raise SettingsInvalid(
            f"{PREFIX}STORE has a password already: take it out, or unset {PREFIX}STORE_PASSWORD_FILE"
        )
    # As a parameter, for which libpq needs no user before the host.
    return f"{url.rstrip('?')}{'&' if parts.query else '?'}password={quote(_password(path), safe='')}"


def _password(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsInvalid(f"{PREFIX}STORE_PASSWORD_FILE: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{PREFIX}STORE_PASSWORD_FILE: {path} is not UTF-8") from None
    if not text:
        raise SettingsInvalid(f"{PREFIX}STORE_PASSWORD_FILE: {path} is empty")
    return text


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
