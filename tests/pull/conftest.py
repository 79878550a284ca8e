"""Places to pull from, and a repository to pull into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from tests.certificates import make_pair
from tests.pull.file_server import Files, file_server
from tests.pull.places import PLACES, Place
from tests.shipped_model import SHIPPED


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the person who runs the tests."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """One of every kind, filled with the shipped model."""
    with PLACES[request.param](tmp_path) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        found.fill(SHIPPED)
        yield found


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """A web server with TLS, over the shipped model; its certificate is accepted."""
    pair = make_pair(tmp_path, "web")
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
    with file_server(SHIPPED, pair) as files:
        yield files


@pytest.fixture
def here(tmp_path: Path) -> Repository:
    """An empty repository."""
    (tmp_path / "here").mkdir()
    return Repository(tmp_path / "here")
