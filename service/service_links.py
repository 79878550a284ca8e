"""Variables that Kubernetes sets in every container for each Service of its namespace: they are no settings.

A Service `temperance` gives `TEMPERANCE_PORT=tcp://10.0.0.1:8000`, `TEMPERANCE_SERVICE_HOST` and more; a Service
`temperance-api` gives `TEMPERANCE_API_PORT_80_TCP_ADDR` and more. `enableServiceLinks: false` switches them off.

References
----------
Kubernetes, *Service*, "Environment variables": https://kubernetes.io/docs/concepts/services-networking/service/
"""

import re
from collections.abc import Mapping
from typing import Final

PROTOCOL: Final = "(?:TCP|UDP|SCTP)"
ADDRESS: Final = r"[0-9A-Fa-f.:]+|[a-z0-9.-]+"
PORT: Final = r"\d{1,5}"
URL: Final = r"(?:tcp|udp|sctp)://[^/\s]+:\d{1,5}"


def service_links(environment: Mapping[str, str], prefix: str) -> list[str]:
    """Names of the variables that begin with a prefix and have the name and the value of a service link, sorted.

    Parameters
    ----------
    environment : mapping of str to str
    prefix : str
        With its underscore.

    Examples
    --------
    >>> service_links({"X_PORT": "tcp://10.0.0.1:80", "X_PORT_80_TCP_PROTO": "tcp", "X_PORTS": "80"}, "X_")
    ['X_PORT', 'X_PORT_80_TCP_PROTO']
    """
    ours = ((name, value) for name, value in environment.items() if name.startswith(prefix))
    return sorted(name for name, value in ours if _is_link(name.removeprefix(prefix), value))


def _is_link(name: str, value: str) -> bool:
    # The value counts too: `TEMPERANCE_PORT=8000` is a setting, and a misspelt setting is no link.
    return any(form.fullmatch(name) and value_form.fullmatch(value) for form, value_form in _FORMS)


def _form(name: str, value: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(f"(?:[A-Z0-9_]+_)?{name}"), re.compile(value)


_FORMS: Final = (
    _form("SERVICE_HOST", ADDRESS),
    _form("SERVICE_PORT(?:_[A-Z0-9_]+)?", PORT),
    _form("PORT", URL),
    _form(rf"PORT_\d{{1,5}}_{PROTOCOL}", URL),
    _form(rf"PORT_\d{{1,5}}_{PROTOCOL}_PROTO", "tcp|udp|sctp"),
    _form(rf"PORT_\d{{1,5}}_{PROTOCOL}_PORT", PORT),
    _form(rf"PORT_\d{{1,5}}_{PROTOCOL}_ADDR", ADDRESS),
)
"""Forms of a name, behind the prefix and what else a Service is called, and of its value."""
