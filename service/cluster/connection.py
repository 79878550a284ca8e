"""The door to Ray: nothing is sent anywhere, no page is shown, and no one without the cluster's token gets in.

Ray reads its variables when it is imported, so they are set here, before that.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from service.errors import SettingsInvalid

INSTALL: Final = "pip install 'temperance[ray]'"
FIXED: Final[Mapping[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",  # else Ray reports to its makers every hour
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the way of coming releases; without it Ray warns at every start
}
REACH_SECONDS: Final = 20.0
DEFAULTS: Final[Mapping[str, str]] = {"RAY_AUTH_MODE": "token"}
"""An operator may set these; without a token, any program that reaches a port of Ray can run code on its machines."""


def prepare() -> None:
    """Set Ray's variables of this process, and of all that it starts.

    Raises
    ------
    SettingsInvalid
        If Ray is not installed.
    """
    if find_spec("ray") is None:
        raise SettingsInvalid(f"Ray is not installed: {INSTALL}")
    os.environ.update(FIXED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected(address: str | None, **options: Any) -> Iterator[None]:
    """Be connected to a cluster; without an address, to one on this machine that ends with the context.

    Parameters
    ----------
    address : str or None
        `HOST:PORT` of the head node, or `auto` for the cluster that runs on this machine.
    **options
        Of `ray.init`.

    Raises
    ------
    SettingsInvalid
        If Ray is not installed, or the cluster cannot be reached.
    """
    prepare()
    if address is not None and address != "auto":
        _check_reachable(address)
    import ray  # noqa: PLC0415  # after its variables are set

    try:
        ray.init(address or "local", include_dashboard=None if address else False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:300]
        raise SettingsInvalid(f"the Ray cluster at {address or 'this machine'} cannot be used: {detail}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise SettingsInvalid where nothing listens; Ray tries for minutes, and fills the terminal meanwhile."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise SettingsInvalid(f"{address} is not the head of a Ray cluster: HOST:PORT, from a machine of the cluster")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        detail = getattr(error, "strerror", None) or error
        raise SettingsInvalid(f"the Ray cluster at {address} cannot be reached: {detail}") from None
