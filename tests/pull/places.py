"""Every kind of place that a repository can be pulled from, filled with one, on real servers."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_pair
from tests.pull.file_server import file_server
from tests.pull.registry_server import NO_REGISTRY, PROGRAM, files_of, registry


@dataclass
class Place:
    """A place: its address, how it is filled anew, and the environment of who pulls from it."""

    address: str
    fill: Callable[[Path], object]
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def web(folder: Path) -> Iterator[Place]:
    """A web server with TLS."""
    pair, root = make_pair(folder, "web"), folder / "web"
    with file_server(root, pair) as files:
        yield Place(files.address, lambda source: _copied(source, root), {"SSL_CERT_FILE": str(pair.certificate)})


@contextmanager
def artifact(folder: Path) -> Iterator[Place]:
    """A registry."""
    if PROGRAM is None:
        pytest.skip(NO_REGISTRY)
    with registry(folder) as server:
        yield Place(
            f"oci://{server.host}/team/models:1.0",
            lambda source: server.push("team/models", "1.0", files_of(source)),
        )


@contextmanager
def bucket(folder: Path) -> Iterator[Place]:
    """A server that speaks S3."""
    del folder
    pytest.importorskip("moto.server", reason="moto[s3] with flask is not installed")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "hidden-secret"}
    client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="models-of-tests")

    def fill(source: Path) -> None:
        for path, content in files_of(source).items():
            client.put_object(Bucket="models-of-tests", Key=f"clinic/models/{path}", Body=content)

    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
    }
    try:
        yield Place("s3://models-of-tests/clinic/models", fill, environment)
    finally:
        client.close()
        server.stop()


@contextmanager
def directory(folder: Path) -> Iterator[Place]:
    """A folder."""
    root = folder / "directory"
    yield Place(str(root), lambda source: _copied(source, root))


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "https": web,
    "oci": artifact,
    "s3": bucket,
    "folder": directory,
}


def _copied(source: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root)
