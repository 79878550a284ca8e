"""Behind a real proxy that shows the service under a path of its own."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.proxies import ForwardedHeaders, Proxies
from service.api.root_path import RootPath, shown_under, under
from tests.api.openapi.browser import browsing
from tests.shipped_model import SHIPPED

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
PREFIXES = ["/stripped", "/kept", "/silent", ""]
CONFIGURATION = """\
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:{port}
  acl stripped path_beg /stripped/
  acl silent path_beg /silent/
  http-request set-header X-Forwarded-Prefix /stripped if stripped
  http-request replace-path /(stripped|silent)(/.*) \\2 if stripped || silent
  default_backend service
backend service
  server one {address}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def proxied(
    serving: Callable[..., AbstractContextManager[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of HAProxy, which takes `/stripped` and `/silent` away, names the former, and leaves `/kept`."""
    if not Path(HAPROXY).exists():
        pytest.skip("HAProxy is not installed")
    path, port = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg", free_port()
    with serving(SHIPPED, TEMPERANCE_ROOT_PATH="/kept", TEMPERANCE_PROXIES="127.0.0.1") as server:
        path.write_text(CONFIGURATION.format(port=port, address=server.client.base_url.netloc.decode()))
        with (
            subprocess.Popen([HAPROXY, "-db", "-f", str(path)], stderr=subprocess.DEVNULL) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            try:
                wait_for(client)
                yield client
            finally:
                process.terminate()


def wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.get("/livez")
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("HAProxy did not start")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_model_answers_under_the_prefix(prefix: str, proxied: httpx.Client, test_rows: list[list[float]]) -> None:
    answer = proxied.post(f"{prefix}/v1/models/breast-cancer:decide", json={"instances": test_rows[:1]})
    assert (answer.status_code, len(answer.json()["predictions"])) == (200, 1)
    assert proxied.get(f"{prefix}/v2/models/breast-cancer/versions/1").status_code == 200


@pytest.mark.parametrize("prefix", PREFIXES)
def test_links_of_the_page_lead_below_the_prefix(prefix: str, proxied: httpx.Client) -> None:
    page = proxied.get(f"{prefix}/docs")
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert len(loaded) >= 4
    for url in loaded:
        assert page.url.join(url).path.startswith(f"{prefix}/")
        assert proxied.get(page.url.join(url)).status_code == 200


@pytest.mark.parametrize(
    ("prefix", "server"), [("/stripped", "/stripped"), ("/kept", "/kept"), ("/silent", "/kept"), ("", "/kept")]
)
def test_the_document_names_the_prefix_that_a_proxy_of_the_operator_or_a_setting_names(
    prefix: str, server: str, proxied: httpx.Client
) -> None:
    assert proxied.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": server}]


def test_the_document_of_a_service_without_a_prefix_names_the_place_it_is_at(server: Any) -> None:
    for headers in ({}, {"x-forwarded-prefix": "/evil"}, {"host": "evil"}):  # of no proxy of ours
        document = server.client.get("/openapi.json", headers=headers)
        assert document.json()["servers"] == [{"url": "."}]
        assert "evil" not in document.text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("prefix", ["/stripped", "/kept"])
def test_requests_of_the_page_reach_the_service_under_the_prefix(
    prefix: str, proxied: httpx.Client, tmp_path: Path
) -> None:
    tried = ["operations-v1-list_models", "operations-v1-decide"]
    with browsing(tmp_path) as page:
        page.open(f"{proxied.base_url}{prefix}/docs")
        assert page.try_out(tried) == dict.fromkeys(tried, 200)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.skipif(not Path(HAPROXY).exists(), reason="HAProxy is not installed")
def test_requests_of_the_page_find_a_prefix_that_nothing_names(
    serving: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    port, path = free_port(), tmp_path / "haproxy.cfg"
    with serving(SHIPPED) as server:
        path.write_text(CONFIGURATION.format(port=port, address=server.client.base_url.netloc.decode()))
        with (
            subprocess.Popen([HAPROXY, "-db", "-f", str(path)], stderr=subprocess.DEVNULL) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
            browsing(tmp_path) as page,
        ):
            wait_for(client)
            page.open(f"{client.base_url}/silent/docs")
            assert page.try_out(["operations-v1-list_models"]) == {"operations-v1-list_models": 200}
            process.terminate()


def scope_of(*sent: tuple[bytes, bytes], path: str = "/docs") -> dict[str, Any]:
    return {"type": "http", "path": path, "headers": [*sent], "client": ("192.0.2.1", 1), "state": {}}


async def seen(app: Any, scope: dict[str, Any]) -> dict[str, Any]:
    await app(scope, None, None)
    return scope


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive, send


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/temperance/docs", "/docs"),
        ("/temperance/temperance/docs", "/temperance/docs"),
        ("/temperance/", "/"),
        ("/docs", "/docs"),
        ("/temperance", "/temperance"),
        ("/temperance-2/docs", "/temperance-2/docs"),
        ("/TEMPERANCE/docs", "/TEMPERANCE/docs"),
    ],
)
async def test_a_path_below_the_root_path_is_served_without_it(path: str, served: str) -> None:
    assert (await seen(RootPath(nothing, "/temperance"), scope_of(path=path)))["path"] == served


def test_without_a_root_path_nothing_stands_before_the_application() -> None:
    assert under(nothing, "") is nothing


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["/a"], "/a"),
        (["/a/b-c_d.e~f"], "/a/b-c_d.e~f"),
        ([], "/root"),
        (["/a", "/b"], "/root"),
        ([""], "/root"),
        (["/"], "/root"),
        (["a"], "/root"),
        (["//evil"], "/root"),
        (["/a/"], "/root"),
        (['/a"}'], "/root"),
        (["https://evil/a"], "/root"),
        (["/a" * 9], "/root"),
        (["/" + "a" * 65], "/root"),
    ],
)
async def test_a_prefix_counts_if_it_is_one_plain_path_from_a_proxy(values: list[str], shown: str) -> None:
    sent = [(b"x-forwarded-prefix", value.encode()) for value in values]
    proxied = await seen(ForwardedHeaders(nothing, Proxies.named(["192.0.2.1"])), scope_of(*sent))
    assert shown_under(proxied, "/root") == shown
    assert shown_under(scope_of(*sent), "/root") == "/root"
