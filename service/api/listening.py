"""The sockets on which requests arrive: made once, before workers are started, so that one and many listen alike."""

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.errors import SettingsInvalid

EVERY_ADDRESS: Final = "::"
NOT_FOR_OTHERS: Final = 0o117
"""Umask that leaves a socket to its owner and its group."""


def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of a host; `::` is every address of this machine, of IPv4 too.

    They are bound and do not listen yet, so that a client is refused, and not kept waiting, until models are loaded.

    Raises
    ------
    SettingsInvalid
    """
    sockets: list[socket.socket] = []
    for family, address in _addresses(host, port):
        taken = sockets[0].getsockname()[1] if sockets and not port else port
        try:
            sockets.append(_bound(family, (address, taken), is_dual=address == EVERY_ADDRESS))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # a name may have an address of a version that is switched off
                raise _unavailable(host, port, error) from None
    if not sockets:
        raise SettingsInvalid(f"cannot listen on {host} port {port}: this machine does not have that address")
    return sockets


def urls(sockets: Iterable[socket.socket], *, is_tls: bool) -> list[str]:
    """Where they are reached, for a log."""
    return [_url(one, "https" if is_tls else "http") for one in sockets]


@contextmanager
def bound_to_path(path: Path) -> Iterator[socket.socket]:
    """A Unix domain socket, for its owner and its group; its file goes when the context ends.

    Raises
    ------
    SettingsInvalid
        If something is at the path that is not a socket, or a socket that a process listens on.
    """
    _make_way(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        mask = os.umask(NOT_FOR_OTHERS)
        try:
            made.bind(str(path))
        except OSError as error:
            raise _unavailable(path, None, error) from None
        finally:
            os.umask(mask)
        number = path.stat().st_ino
        try:
            yield made
        finally:
            if path.exists() and path.stat().st_ino == number:  # another process may have replaced it
                path.unlink()


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsInvalid(f"cannot listen on {host} port {port}: the host has no address") from None
    return list(dict.fromkeys((int(family), str(address[0])) for family, *_, address in found))


def _bound(family: int, address: tuple[str, int], *, is_dual: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_dual))
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _make_way(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsInvalid(f"cannot listen on {path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # left behind by a process that was killed
            return
        except OSError as error:
            raise _unavailable(path, None, error) from None
    raise SettingsInvalid(f"cannot listen on {path}: another process does")


def _unavailable(place: str | Path, port: int | None, error: OSError) -> SettingsInvalid:
    where = f"{place}" if port is None else f"{place} port {port}"
    return SettingsInvalid(f"cannot listen on {where}: {error.strerror or 'the path is too long'}")


def _url(one: socket.socket, scheme: str) -> str:
    if one.family == socket.AF_UNIX:
        return f"unix:{one.getsockname()}"
    host, port = one.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
