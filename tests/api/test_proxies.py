"""A field that everyone can send counts only where a proxy of ours has set it."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from service.api.proxies import Proxies, behind, is_proxied
from service.errors import SettingsInvalid

PROXY = ("10.0.0.7", 5000)


async def seen(names: tuple[str, ...], client: tuple[str, int] | None, **headers: str) -> Scope:
    """The scope that an application behind these proxies gets."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        scopes.append(scope)

    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "client": client, "scheme": "http", "headers": listed, "state": {}}
    await behind(app, Proxies.named(names))(scope, None, None)  # type: ignore[arg-type]  # never called
    return scopes[0]


async def test_without_proxies_no_field_counts_and_nothing_is_put_in_front() -> None:
    scope = await seen((), PROXY, x_forwarded_for="192.0.2.1", x_forwarded_proto="https")
    assert (scope["client"], scope["scheme"]) == (PROXY, "http")
    assert not is_proxied(scope)
    app: Any = object()
    assert behind(app, Proxies()) is app


@pytest.mark.parametrize("name", ["10.0.0.7", "10.0.0.0/8", "::/0,10.0.0.7/32"])
async def test_a_proxys_client_and_scheme_count_and_the_proxy_stays_known(name: str) -> None:
    scope = await seen(tuple(name.split(",")), PROXY, x_forwarded_for="192.0.2.1", x_forwarded_proto="https")
    assert (scope["client"], scope["scheme"]) == (("192.0.2.1", 0), "https")
    assert is_proxied(scope)


async def test_another_peer_is_not_a_proxy_even_on_this_machine() -> None:
    scope = await seen(("10.0.0.7",), ("127.0.0.1", 1), x_forwarded_for="192.0.2.1", x_forwarded_proto="https")
    assert (scope["client"], scope["scheme"]) == (("127.0.0.1", 1), "http")
    assert not is_proxied(scope)


async def test_an_ipv4_peer_of_a_socket_for_both_versions_is_known_by_its_ipv4_address() -> None:
    assert is_proxied(await seen(("10.0.0.7",), ("::ffff:10.0.0.7", 1)))


@pytest.mark.parametrize(("names", "proxied"), [(("unix",), True), (("10.0.0.7",), False)])
async def test_the_peer_at_a_unix_socket_counts_where_it_is_named(names: tuple[str, ...], *, proxied: bool) -> None:
    scope = await seen(names, None, x_forwarded_for="192.0.2.1")
    assert is_proxied(scope) is proxied
    assert scope["client"] == (("192.0.2.1", 0) if proxied else None)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("198.51.100.1, 192.0.2.1", "192.0.2.1"),  # what a client has put in front does not count
        ("192.0.2.1, 10.1.1.1", "192.0.2.1"),  # another of our proxies is passed over
        ("10.1.1.1, 10.1.1.2", "10.1.1.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("198.51.100.1, unknown", "10.0.0.7"),
        ("", "10.0.0.7"),
        ("zq7canary", "10.0.0.7"),
    ],
)
async def test_the_client_is_the_last_address_that_no_proxy_has(value: str, client: str) -> None:
    assert (await seen(("10.0.0.0/8",), PROXY, x_forwarded_for=value))["client"][0] == client


@pytest.mark.parametrize("value", ["ws", "HTTPS", "https, http", "zq7canary", ""])
async def test_a_scheme_that_is_none_is_not_adopted(value: str) -> None:
    assert (await seen(("10.0.0.0/8",), PROXY, x_forwarded_proto=value))["scheme"] == "http"


@pytest.mark.parametrize("name", ["zq7canary", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_a_proxy_that_is_no_address_stops_the_start_and_is_not_repeated(name: str) -> None:
    with pytest.raises(SettingsInvalid, match="TEMPERANCE_PROXIES") as refused:
        Proxies.named((name,))
    assert "zq7canary" not in str(refused.value)
