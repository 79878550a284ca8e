"""Artifacts of a real registry: logins, pinned digests, and manifests that a hostile one could hold."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from service.bundle.repository import Repository
from service.pull.pull_errors import PullFailed
from service.pull.pull_plan import Choice, PullRequest
from service.pull.pull_versions import PulledModel, pull
from service.pull.source_kinds import open_source
from tests.certificates import Pair, make_pair
from tests.pull.file_server import QuietHandler
from tests.pull.registry_server import (
    HTPASSWD,
    NO_REGISTRY,
    PASSWORD,
    PROGRAM,
    USER,
    Registry,
    basic,
    files_of,
    layer,
    registry,
)
from tests.shipped_model import NAME, SHIPPED

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=NO_REGISTRY)
REPOSITORY = "team/models"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path) as found:
        yield found


def pull_from(server: Registry, here: Repository, reference: str = ":1.0") -> list[PulledModel]:
    with open_source(f"oci://{server.host}/{REPOSITORY}{reference}") as source:
        return pull(source, here, PullRequest((Choice(NAME),)), pause=lambda _: None)


def refused(server: Registry, here: Repository, reference: str = ":1.0") -> str:
    with pytest.raises(PullFailed) as caught:
        pull_from(server, here, reference)
    assert here.versions(NAME) == []
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def log_in(tmp_path: Path, server: Registry, password: str = PASSWORD) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    auths = {"auths": {server.host: {"auth": basic(USER, password)}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(auths))


def test_an_artifact_is_pulled_by_the_digest_of_its_manifest(server: Registry, here: Repository):
    digest = server.push(REPOSITORY, "1.0", files_of(SHIPPED))
    assert pull_from(server, here, f"@{digest}")[0].versions[0].state == "pulled"
    assert pull_from(server, here, f":1.0@{digest}")[0].versions[0].state == "present"


def test_a_digest_that_the_registry_does_not_hold_is_missing(server: Registry, here: Repository):
    server.push(REPOSITORY, "1.0", files_of(SHIPPED))
    assert "HTTP 404" in refused(server, here, f"@sha256:{'0' * 64}")


def test_files_of_other_names_in_an_artifact_are_left_out(server: Registry, here: Repository):
    server.push(REPOSITORY, "1.0", {**files_of(SHIPPED), "../../escaped": b"x", "/etc/passwd": b"x", "LICENSE": b"x"})
    pull_from(server, here)
    assert here.bundle(NAME, 1)
    assert not (here.root.parent / "escaped").exists()
    assert {path.name for path in (here.root / NAME).iterdir()} == {"1", "aliases.toml", ".pulling-lock"}


def test_an_artifact_of_files_without_folders_is_one_version_that_the_command_names(server: Registry, here: Repository):
    server.push(REPOSITORY, "1.0", {path.name: path.read_bytes() for path in (SHIPPED / NAME / "1").iterdir()})
    with open_source(f"oci://{server.host}/{REPOSITORY}:1.0") as source:
        with pytest.raises(PullFailed, match="one version without a name; say which: NAME/VERSION"):
            pull(source, here, PullRequest())
        with pytest.raises(PullFailed, match="is missing or names no version"):
            pull(source, here, PullRequest((Choice(NAME),)))
        assert pull(source, here, PullRequest((Choice(NAME, 3),)))[0].aliases == {"stable": 3}
    assert here.versions(NAME) == [3]


def test_an_artifact_without_files_of_a_version_is_refused_with_what_to_push(server: Registry, here: Repository):
    server.push(REPOSITORY, "1.0", {"breast-cancer": b"an archive without a mark", "aliases.toml": b"stable = 1"})
    assert "holds no file SHA256SUMS of a version; push its files one by one" in refused(server, here)


Change = Callable[[Registry, list[dict[str, object]]], object]


def unpacks(server: Registry, layers: list[dict[str, object]]) -> None:
    bomb = server.put_blob(REPOSITORY, b"\x1f\x8b" + bytes(1000))
    layers.append(layer(NAME, bomb, 1002, **{"io.deis.oras.content.unpack": "true"}))


def twice(server: Registry, layers: list[dict[str, object]]) -> None:
    del server
    layers.append(layers[0])


def larger(server: Registry, layers: list[dict[str, object]]) -> None:
    del server
    next(entry for entry in layers if "manifest.toml" in str(entry["annotations"]))["size"] = 1 << 60


def smaller(server: Registry, layers: list[dict[str, object]]) -> None:
    del server
    for entry in layers:
        entry["size"] = 1


def swapped(server: Registry, layers: list[dict[str, object]]) -> None:
    del server
    first, second = (next(e for e in layers if name in str(e["annotations"])) for name in ("model.onnx", "state.npz"))
    first["digest"], second["digest"] = second["digest"], first["digest"]
    first["size"], second["size"] = second["size"], first["size"]


def negative(server: Registry, layers: list[dict[str, object]]) -> None:
    del server
    layers[0]["size"] = -1


@pytest.mark.parametrize(
    ("change", "reason"),
    [(unpacks, "is an archive of a folder; push its files one by one"), (twice, "twice"), (larger, "larger than"),
     (smaller, "not as large as the artifact's manifest states"), (swapped, "does not match its sum"),
     (negative, "wrongly|HTTP 4|is not there")],
)  # fmt: skip
def test_a_manifest_that_lies_is_refused(tmp_path: Path, here: Repository, change: Change, reason: str):
    with registry(tmp_path) as server:
        layers = [layer(path, server.put_blob(REPOSITORY, one), len(one)) for path, one in files_of(SHIPPED).items()]
        change(server, layers)
        with stored_manifest(server, layers) as address, pytest.raises(PullFailed, match=reason):
            pull_from(Registry(address), here)
    assert here.versions(NAME) == []


@contextmanager
def stored_manifest(server: Registry, layers: list[dict[str, object]]) -> Iterator[str]:
    """The address of a registry that answers such a manifest, which a real one may refuse to store, and redirects."""
    manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            is_manifest = "/manifests/" in self.path
            self.send_response(200 if is_manifest else 307)
            self.send_header("Location", f"http://{server.host}{self.path}")
            self.send_header("Content-Length", str(len(manifest) if is_manifest else 0))
            self.end_headers()
            self.wfile.write(manifest if is_manifest else b"")

    with answering(Handler) as address:
        yield address


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    own = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{own.server_port}"
    finally:
        own.shutdown()
        thread.join()
        own.server_close()


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b'{"manifests": []}', b'{"layers": [1]}', b'{"layers": []}', b"[" * 100_000, b"{" + b" " * (5 << 20)],
)
def test_what_is_no_manifest_is_refused(here: Repository, manifest: bytes):
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            self.send_response(200)
            self.send_header("Content-Length", str(len(manifest)))
            self.end_headers()
            self.wfile.write(manifest)

    with answering(Handler) as address:
        line = refused(Registry(address), here)
    assert any(words in line for words in ("manifest", "no artifact", "holds no file"))


def test_a_registry_that_needs_a_password_gets_that_of_dockers_file(tmp_path: Path, here: Repository):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: models, path: {tmp_path / 'htpasswd'}}}}}\n"
    with registry(tmp_path, auth) as server:
        server.headers = {"Authorization": f"Basic {basic()}"}
        server.push(REPOSITORY, "1.0", files_of(SHIPPED))
        assert "access refused" in refused(server, here)
        log_in(tmp_path, server, "wrong-password")
        assert "access refused (HTTP 401)" in (line := refused(server, here))
        assert basic(USER, "wrong-password") not in line
        log_in(tmp_path, server)
        assert pull_from(server, here)[0].versions[0].state == "pulled"


@pytest.mark.parametrize("text", ["{", '{"auths": {"HOST": {"auth": "no base64!"}}}'])
def test_a_file_of_credentials_that_cannot_be_read_is_named(tmp_path: Path, here: Repository, text: str):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: models, path: {tmp_path / 'htpasswd'}}}}}\n"
    with registry(tmp_path, auth) as server:
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "config.json").write_text(text.replace("HOST", server.host))
        assert "config.json" in refused(server, here)


def token(pair: Pair, scope: str, service: str) -> str:
    """What an authorization service of a registry gives out for a scope."""
    kind, name, actions = scope.split(":")
    certificate = load_pem_x509_certificate(pair.certificate.read_bytes()).public_bytes(Encoding.DER)
    claims = {
        "iss": "issuer-of-tests",
        "sub": USER,
        "aud": service,
        "exp": int(time.time()) + 600,
        "nbf": int(time.time()) - 10,
        "jti": "1",
        "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
    }
    headers = {"x5c": [base64.b64encode(certificate).decode()]}
    return jwt.encode(claims, pair.key.read_text(), algorithm="ES256", headers=headers)


@contextmanager
def issuer(pair: Pair) -> Iterator[tuple[str, list[str]]]:
    """The address of such a service, and the scopes that it was asked for."""
    scopes = list[str]()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            is_known = self.headers.get("Authorization") == f"Basic {basic()}"
            scopes.append(query["scope"])
            answer = json.dumps({"token": token(pair, query["scope"], query["service"])}).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(answer) if is_known else 0))
            self.end_headers()
            self.wfile.write(answer if is_known else b"")

    with answering(Handler) as address:
        yield address, scopes


def test_a_registry_with_tokens_gives_one_for_reading(tmp_path: Path, here: Repository):
    pair = make_pair(tmp_path, "issuer")
    with issuer(pair) as (address, scopes):
        auth = (
            f"auth: {{token: {{realm: 'http://{address}/token', service: registry, issuer: issuer-of-tests, "
            f"rootcertbundle: {pair.certificate}}}}}\n"
        )
        with registry(tmp_path, auth) as server:
            server.headers = {
                "Authorization": f"Bearer {token(pair, f'repository:{REPOSITORY}:pull,push', 'registry')}"
            }
            server.push(REPOSITORY, "1.0", files_of(SHIPPED))
            assert "access refused (HTTP 401)" in refused(server, here)
            log_in(tmp_path, server)
            assert pull_from(server, here)[0].versions[0].state == "pulled"
    assert set(scopes) == {f"repository:{REPOSITORY}:pull"}


@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        ('Bearer realm="http://tokens.example/x"', "tokens come over http"),
        ('Bearer realm="file:///etc/passwd"', "tokens come over file"),
        ("Bearer", "names no place of its tokens"),
        ("Digest x", "kind of login"),
        ("", "access refused"),
    ],
)
def test_a_challenge_that_would_lead_credentials_astray_is_refused(here: Repository, challenge: str, reason: str):
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            self.send_response(401)
            self.send_header("Content-Length", "0")
            if challenge:
                self.send_header("WWW-Authenticate", challenge)
            self.end_headers()

    with answering(Handler) as address:
        assert reason in refused(Registry(address), here)


def test_a_server_that_a_registry_redirects_to_gets_no_credential_of_it(tmp_path: Path, here: Repository):
    seen = list[str]()

    class Other(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}/token",service="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    with answering(Other) as other:

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802  # the base's name
                self.send_response(307)
                self.send_header("Location", f"http://{other}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with answering(Handler) as address:
            log_in(tmp_path, Registry(address))
            assert "access refused (HTTP 401)" in refused(Registry(address), here)
    assert seen == [""]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b" " * (2 << 20), "is larger than the 1024 KiB"), (b"[" * 100_000, "holds no token"),
     (b"\x1f\x8b" + bytes(99), "holds no token")],
)  # fmt: skip
def test_an_answer_that_holds_no_token_is_refused(here: Repository, answer: bytes, reason: str):
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base's name
            is_token = self.path.startswith("/token")
            self.send_response(200 if is_token else 401)
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}/token"')
            self.send_header("Content-Encoding", "gzip" if is_token else "identity")
            self.send_header("Content-Length", str(len(answer) if is_token else 0))
            self.end_headers()
            self.wfile.write(answer if is_token else b"")

    with answering(Handler) as address:
        assert reason in refused(Registry(address), here)
