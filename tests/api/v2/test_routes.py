"""Paths and methods of `/v2`."""

import pytest

from tests.api.v2.bodies import INFER


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/missing", 404),
        ("GET", "/v2/models/missing/ready", 404),
        ("POST", "/v2/models/missing/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/9/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/x/infer", 404),
        ("GET", "/v2/models/breast-cancer/config", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/repository/index", 403),
        ("POST", "/v2/repository/models/breast-cancer/load", 403),
        ("POST", "/v2/repository/models/breast-cancer/unload", 403),
        ("GET", "/v2/repository/index", 405),
    ],
)
async def test_every_failure_under_v2_is_an_error_string(client, method, path, status) -> None:
    refused = await client.request(method, path, content=b"{}" if method == "POST" else None)
    assert refused.status_code == status
    assert list(refused.json()) == ["error"]
