"""Whose `X-Forwarded-…` header fields count: those of the proxies that an operator names, and no other.

Everyone can send such a field. It says something only where a proxy of ours has set it, which is known by the address
at the other end of the connection.
"""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import SettingsInvalid

UNIX: Final = "unix"
PROXIED: Final = "is_proxied"
"""In the state of a request whose connection is with one of the proxies."""
MOST_PEERS: Final = 4096


@dataclass(frozen=True, slots=True)
class Proxies:
    """Addresses whose `X-Forwarded-…` fields count.

    Attributes
    ----------
    networks : tuple of networks
        An address is a network of one.
    unix : bool
        Whether what is connected to a Unix domain socket is a proxy.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def named(cls, names: Iterable[str]) -> Self:
        """Those of `TEMPERANCE_PROXIES`.

        Raises
        ------
        SettingsInvalid
        """
        listed = list(names)
        return cls(tuple(_network(name) for name in listed if name != UNIX), UNIX in listed)

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def include(self, host: str | None) -> bool:
        """Whether an address is one of them; None is the peer at a Unix domain socket."""
        if host is None:
            return self.unix
        address = _address(host)
        return address is not None and any(address in network for network in self.networks)


class ForwardedHeaders:
    """ASGI middleware: behind a proxy, the client and the scheme are those that the proxy names.

    Afterwards `is_proxied` knows whether the connection is with one of them.

    Parameters
    ----------
    app : ASGI application
    proxies : Proxies
    """

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._include = lru_cache(MOST_PEERS)(proxies.include)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass one request on."""
        if scope["type"] == "http":
            peer = scope.get("client")  # None at a Unix domain socket
            if self._include(peer and peer[0]):
                scope.setdefault("state", {})[PROXIED] = True
                self._adopt(scope, _forwarded(scope["headers"]))
        return self._app(scope, receive, send)

    def _adopt(self, scope: Scope, forwarded: dict[bytes, list[bytes]]) -> None:
        schemes = forwarded.get(b"x-forwarded-proto", [])
        if len(schemes) == 1 and schemes[0] in _SCHEMES:
            scope["scheme"] = schemes[0].decode()
        client = self._client(b",".join(forwarded.get(b"x-forwarded-for", [])).decode("latin-1").split(","))
        if client is not None:
            scope["client"] = (client, 0)

    def _client(self, hops: Sequence[str]) -> str | None:
        # Every proxy appends whom it was connected to, so the list counts from its end for as long as proxies wrote it.
        client = None
        for hop in reversed(hops):
            address = _address(hop.strip())
            if address is None:
                break
            client = str(address)
            if not self._include(client):
                break
        return client


def behind(app: ASGIApp, proxies: Proxies) -> ASGIApp:
    """The application behind its proxies; without any it is the application itself, which costs nothing."""
    return ForwardedHeaders(app, proxies) if proxies else app


def is_proxied(scope: Scope) -> bool:
    """Whether the connection of a request is with one of the proxies."""
    return PROXIED in scope.get("state", ())


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _FIELDS:
            found.setdefault(name, []).append(value.strip())
    return found


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name)
    except ValueError:
        detail = "an entry is neither an address, nor a network without bits beyond its prefix, nor `unix`"
        raise SettingsInvalid(f"TEMPERANCE_PROXIES: {detail}") from None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, which may have a port or brackets around it; None for anything else."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # A socket for both versions shows IPv4 peers as ::ffff:192.0.2.1.
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


_FIELDS: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_SCHEMES: Final = frozenset({b"http", b"https"})
