"""Fixtures of container tests; without an engine they skip, with the reason."""

from collections.abc import Iterator

import pytest

from tests.deploy.engine import Docker, Engine, EngineMissing, engine


@pytest.fixture(scope="session", name="engine")
def engine_of_tests() -> Iterator[Engine]:
    """A Docker Engine and what images start from there."""
    try:
        with engine() as found:
            yield found
    except EngineMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def docker(engine: Engine) -> Docker:
    """The engine's command line."""
    return engine.docker


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[str]:
    """Tag of the image that serves, built from deploy/Dockerfile."""
    with engine.temperance() as tag:
        yield tag


@pytest.fixture(scope="session")
def demo_image(engine: Engine) -> Iterator[str]:
    """Tag of the image with the shipped models."""
    with engine.temperance("demo") as tag:
        yield tag
