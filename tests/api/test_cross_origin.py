"""Pages of other origins: none may read answers unless the operator lists their origin."""

from collections.abc import Callable

import httpx
import pytest

from service.runtime.registry import Registry

PAGE = "https://page.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
PATH = "/v1/models/breast-cancer:decide"

MakeClient = Callable[..., httpx.AsyncClient]


@pytest.fixture
def listed(client_of: MakeClient, shipped: Registry) -> httpx.AsyncClient:
    return client_of(shipped, cors_origins=(PAGE,))


async def test_by_default_no_page_may_read_an_answer(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/v1/models", headers=PREFLIGHT), await client.options(PATH, headers=PREFLIGHT)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_page_of_a_listed_origin_may_read_an_answer_and_what_it_needs_of_its_header(
    listed: httpx.AsyncClient,
) -> None:
    answer = await listed.get("/v1/models", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert {"X-Request-Id", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_errors_may_be_read_too(listed: httpx.AsyncClient) -> None:
    answer = await listed.post(PATH, headers={"Origin": PAGE}, json={})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, PAGE)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://page.example", f"{PAGE}.evil.example", "null", "*"])
async def test_a_page_of_another_origin_may_not(origin: str, listed: httpx.AsyncClient) -> None:
    assert "access-control-allow-origin" not in (await listed.get("/v1/models", headers={"Origin": origin})).headers
    refused = await listed.options(PATH, headers={**PREFLIGHT, "Origin": origin})
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert "access-control-allow-origin" not in refused.headers


async def test_a_preflight_needs_no_credential_and_what_follows_does(
    client_of: MakeClient, shipped: Registry, tmp_path: object
) -> None:
    header = {**PREFLIGHT, "Access-Control-Request-Headers": "authorization, content-type"}
    closed = {"client_certificate_header": "X-Subject", "proxies": ("192.0.2.1",)}
    async with client_of(shipped, cors_origins=(PAGE,), data=tmp_path, **closed) as client:
        answer = await client.options(PATH, headers=header)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        assert (await client.options(PATH, headers={"Origin": PAGE})).status_code == 401
        refused = await client.post(PATH, headers={"Origin": PAGE}, json={})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize(
    "change", [{"Access-Control-Request-Method": "DELETE"}, {"Access-Control-Request-Headers": "x-other"}]
)
async def test_a_preflight_for_what_no_page_needs_is_refused(change: dict[str, str], listed: httpx.AsyncClient) -> None:
    assert (await listed.options(PATH, headers={**PREFLIGHT, **change})).status_code == 403
