"""What a deployment on Ray is refused for, and the variables that its processes get."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from service.credentials import Access
from service.environment import Sources, variable
from service.errors import SettingsInvalid
from service.record_places import store_url
from service.service_links import service_links
from service.settings import PREFIX, Settings
from service.start_checks import check_settings

EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # compared with, and bound by Ray's own choice


def check_ray_settings(settings: Settings, sources: Sources, *, haproxy: bool) -> Access:
    """Check what can be checked before Ray starts.

    Parameters
    ----------
    settings : Settings
    sources : Sources
    haproxy : bool
        Whether HAProxy takes the requests: replicas then listen on every address of their machines.

    Raises
    ------
    SettingsInvalid
        Naming the setting.
    """
    for field, is_wrong, reason in _REFUSED:
        if is_wrong(settings):
            raise sources.explained(f"{variable(field)} {reason}", field)
    open_to = settings.model_copy(update={"host": EVERY_ADDRESS}) if haproxy else settings
    return check_settings(open_to, sources)


def check_nodes(settings: Settings, nodes: int) -> None:
    """Refuse a store that only one machine can write to where there are several.

    Raises
    ------
    SettingsInvalid
    """
    if nodes > 1 and settings.audit != "off" and _is_embedded(settings):
        raise SettingsInvalid(
            f"the cluster has {nodes} nodes, and {variable('store')} is a file of one machine: name a database that "
            "all of them reach, postgresql://…"
        )


def variables_of(settings: Settings) -> dict[str, str]:
    """The settings for processes on every node: as they are in the environment, and paths from the root."""
    links = service_links(os.environ, PREFIX)
    own = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    found = {name: value for name, value in own.items() if name not in links}
    paths = {field: getattr(settings, field) for field in ("models", "data", *settings.model_fields_set)}
    return found | {variable(name): str(path.absolute()) for name, path in paths.items() if isinstance(path, Path)}


def _is_embedded(settings: Settings) -> bool:
    return urlsplit(store_url(settings)).scheme == "sqlite"


def _has_password(settings: Settings) -> bool:
    parts = urlsplit(settings.store or "")
    return bool(parts.password) or bool({"password", "sslpassword"} & parse_qs(parts.query).keys())


def _is_set(*fields: str) -> Callable[[Settings], bool]:
    return lambda settings: bool(settings.model_fields_set & set(fields))


_NOT_HERE: Final = "cannot be used on Ray"
_REFUSED: Final[tuple[tuple[str, Callable[[Settings], bool], str], ...]] = (
    ("uds", _is_set("uds"), f"{_NOT_HERE}: its proxies listen on an address and a port"),
    (
        "ssl_certfile",
        _is_set("ssl_certfile"),
        f"{_NOT_HERE}: put TLS in front of it, in the load balancer of its nodes",
    ),
    (
        "proxies",
        lambda settings: bool(settings.proxies),
        f"{_NOT_HERE}: requests come from Ray's own proxy, which hands on X-Forwarded-… fields as clients send them",
    ),
    (
        "client_certificate_header",
        _is_set("client_certificate_header"),
        f"{_NOT_HERE}: Ray's proxy hands on header fields as clients send them, so everyone could name a certificate",
    ),
    (
        "workers",
        lambda settings: settings.workers > 1,
        f"{_NOT_HERE}: replicas take the place of workers; --replicas sets their number",
    ),
    (
        "repository_api",
        lambda settings: settings.repository_api,
        f"{_NOT_HERE}: a load would reach one replica; move an alias with `temperance alias`, which all of them follow",
    ),
    (
        "store",
        _has_password,
        f"has a password, which Ray would keep and show: put it into a file on every node, {PREFIX}STORE_PASSWORD_FILE",
    ),
)
"""A field, when it is wrong, and why."""
