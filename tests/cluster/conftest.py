"""One cluster for all tests of the folder; they are skipped, with the reason, where there can be none."""

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.machines import why_no_machines
from tests.cluster.ray_cluster import Cluster, ray_cluster
from tests.store.conftest import running_postgresql


def why_no_cluster() -> str | None:
    """Why no cluster can be started here; None where one can."""
    if find_spec("ray") is None:
        return "Ray is not installed: pip install -e '.[ray]'"
    return why_no_machines()


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """URL of a PostgreSQL at a socket, which processes of every machine reach."""
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder, running_postgresql(Path(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        os.chmod(folder, 0o755)
        with ray_cluster(Path(folder)) as running:
            yield running
