"""How a pull logs in to a registry: what `docker login` or a mounted pull secret wrote, and the token that it gives.

Tested in `tests/pull/test_registry_source.py`.
"""

import base64
import binascii
import json
import os
import re
from pathlib import Path
from typing import Any, Final

import httpx

from service.bundle.files import read_file
from service.errors import BundleDamaged
from service.pull.pull_errors import PullFailed
from service.pull.source import read_within
from service.pull.web_client import WebClient, below_user, check_status, parsed, titled

MOST_BYTES: Final = 1 << 20
"""Of a token's answer, and of the file of credentials."""
_PART: Final = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


def authorization(client: WebClient, url: httpx.URL, challenge: str, registry: str) -> str:
    """The header `Authorization` that a registry's challenge needs.

    Parameters
    ----------
    client : WebClient
    url : httpx.URL
        What was requested.
    challenge : str
        Of the header ``WWW-Authenticate``.
    registry : str
        Host and port, under which credentials are kept.

    Raises
    ------
    PullFailed
        If the challenge is of a kind that no registry has, or there is no credential for it.
    """
    scheme, _, rest = challenge.partition(" ")
    known = credential(registry)
    if scheme.lower() == "basic":
        if known is None:
            raise PullFailed(f"{titled(url)}: access refused; {_WHERE.format(registry=registry)}")
        return f"Basic {known}"
    if scheme.lower() != "bearer":
        raise PullFailed(f"{titled(url)}: the registry needs a kind of login that is not known here")
    return f"Bearer {_token(client, url, dict(_PART.findall(rest)), known)}"


def credential(registry: str) -> str | None:
    """User and password of a registry in base64, from `config.json` of Docker; None where it has none.

    Raises
    ------
    PullFailed
        If that file cannot be read.
    """
    folder = os.environ.get("DOCKER_CONFIG")
    path = below_user(folder or "~/.docker") / "config.json"
    entries = _json(path).get("auths", {})
    entry = entries.get(registry) if isinstance(entries, dict) else None
    found = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(found, str):
        return None
    try:
        base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError):
        raise PullFailed(f"{path}: auths.{registry}.auth is not base64") from None
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_file(path, limit=MOST_BYTES))
    except BundleDamaged as error:
        raise PullFailed(str(error)) from None
    except (ValueError, RecursionError):
        raise PullFailed(f"{path} is not JSON") from None
    return found if isinstance(found, dict) else {}


def _token(client: WebClient, url: httpx.URL, parts: dict[str, str], known: str | None) -> str:
    realm = _realm(url, parts)
    headers = {} if known is None else {"Authorization": f"Basic {known}"}
    with client.get(realm, headers) as response:
        check_status(realm, response)
        body = read_within(response.iter_raw(), MOST_BYTES, f"the answer of {titled(realm)}")
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise PullFailed(f"{titled(realm)}: its answer holds no token")
    return token


def _realm(url: httpx.URL, parts: dict[str, str]) -> httpx.URL:
    try:
        realm = parsed(parts["realm"])
    except (KeyError, httpx.InvalidURL, ValueError):
        raise PullFailed(f"{titled(url)}: the registry names no place of its tokens") from None
    if realm.scheme != "https" and (realm.scheme, realm.host) != (url.scheme, url.host):
        raise PullFailed(f"{titled(url)}: the registry's tokens come over {realm.scheme or 'nothing'}, not https")
    return realm.copy_merge_params({key: parts[key] for key in ("service", "scope") if key in parts})


_WHERE: Final = (
    "`docker login {registry}` or a mounted config.json in the folder that DOCKER_CONFIG names states credentials"
)
