"""What of a deployment on Ray can be seen without a cluster."""

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config

from service.cluster.serve_application import ray_variables
from service.settings import Settings


async def test_the_server_inside_ray_believes_no_forwarded_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object]] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append((scope["client"], scope["scheme"]))

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    for name, value in ray_variables(Settings(), haproxy=True).items():
        monkeypatch.setenv(name, value)
    server = Config(lambda: app, factory=True, lifespan="off", log_config=None)  # as Ray makes it
    server.load()
    forged = [(b"x-forwarded-for", b"203.0.113.1"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "scheme": "http", "client": ("127.0.0.1", 1), "headers": forged}
    await server.loaded_app(scope, None, None)  # neither of the two is used
    assert seen == [(("127.0.0.1", 1), "http")]
