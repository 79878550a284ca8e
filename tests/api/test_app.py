"""The application: its limits and its routes."""

from collections.abc import AsyncIterator, Callable

import httpx

from service.api.body_limit import SMALLEST_BODY_LIMIT
from service.runtime.registry import Registry

JSON = {"content-type": "application/json"}
DECIDE = "/v1/models/breast-cancer:decide"


async def test_the_largest_request_allowed_is_answered_in_either_form(
    client_of: Callable[..., httpx.AsyncClient], shipped: Registry, example_row: list[float], features: list[str]
) -> None:
    named = dict(zip(features, example_row, strict=True))
    async with client_of(shipped, max_rows=1000) as client:
        for row in (example_row, named):
            answer = await client.post("/v1/models/breast-cancer:predict", json={"instances": [row] * 1000})
            assert len(answer.json()["predictions"]) == 1000
        refused = await client.post("/v1/models/breast-cancer:predict", json={"instances": [example_row] * 1001})
    assert refused.json()["type"] == "urn:temperance:problem:too-many-rows"


async def test_a_body_that_grows_past_the_limit_is_not_read_to_its_end(
    client_of: Callable[..., httpx.AsyncClient], shipped: Registry
) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1 << 30:
            taken += 1 << 16
            yield b" " * (1 << 16)

    async with client_of(shipped, max_rows=1) as client:
        answer = await client.post(DECIDE, content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert taken <= SMALLEST_BODY_LIMIT + (1 << 17)


async def test_a_length_that_is_too_large_is_refused_before_anything_is_read(
    client_of: Callable[..., httpx.AsyncClient], shipped: Registry
) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with client_of(shipped) as client:
        answer = await client.post(DECIDE, content=never(), headers={**JSON, "content-length": str(1 << 40)})
    assert answer.status_code == 413


async def test_allowed_methods_are_in_one_order(client: httpx.AsyncClient) -> None:
    allowed = (await client.put("/openapi.json")).headers["allow"]
    assert allowed == "GET, HEAD, OPTIONS"
