"""A real registry, Debian's package docker-registry; and what `oras push` does, by the calls of the specification."""

import base64
import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PROGRAM = shutil.which("docker-registry")
NO_REGISTRY = "docker-registry is not installed (apt-get install docker-registry)"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
USER, PASSWORD = "puller", "open-sesame"
HTPASSWD = "puller:$2y$05$.D0j0GkH4vD5PUEkYnGf1uVQyI2CfTnUMbLA7jOqCTmQtptPSPaQu\n"  # of that password, by bcrypt


@dataclass
class Registry:
    """A running registry."""

    host: str
    headers: dict[str, str] = field(default_factory=dict)

    def put_blob(self, repository: str, content: bytes) -> str:
        """Upload bytes; their digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = httpx.post(f"http://{self.host}/v2/{repository}/blobs/uploads/", headers=self.headers)
        assert begun.status_code == 202, begun.text
        url = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        assert httpx.put(url, content=content, headers=self.headers).status_code == 201
        return digest

    def put_manifest(self, repository: str, tag: str, layers: list[dict[str, Any]]) -> str:
        """Upload the manifest of an artifact; its digest."""
        config = {
            "mediaType": EMPTY,
            "digest": self.put_blob(repository, b"{}"),
            "size": 2,
        }
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        put = httpx.put(url, content=json.dumps(manifest), headers={**self.headers, "Content-Type": MANIFEST})
        assert put.status_code == 201, put.text
        digest: str = put.headers["docker-content-digest"]
        return digest

    def push(self, repository: str, tag: str, files: Mapping[str, bytes]) -> str:
        """Upload files under their paths, as `oras push` does; the artifact's digest."""
        layers = [layer(path, self.put_blob(repository, content), len(content)) for path, content in files.items()]
        return self.put_manifest(repository, tag, layers)


def layer(path: str, digest: str, size: int, **annotations: str) -> dict[str, Any]:
    """A layer of a manifest."""
    return {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": digest,
        "size": size,
        "annotations": {"org.opencontainers.image.title": path, **annotations},
    }


def files_of(root: Path) -> dict[str, bytes]:
    """Files of a repository by their paths."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """User and password as a header has them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def registry(folder: Path, auth: str = "") -> Iterator[Registry]:
    """A registry on a free port, whose data lie in a folder; `auth` is a part of its configuration, in YAML."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{host}'}}\n{auth}"
    )
    assert PROGRAM is not None
    command = [PROGRAM, "serve", str(config)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(host, process, folder / "log")
            yield Registry(host)
        finally:
            process.kill()


def _wait_for(host: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"http://{host}/v2/")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
