"""Configurations that the service must not start with: settings, and what settings point at.

Used by tests/test_bad_configurations.py.
"""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CANARY: Final = "zq7canary"
FLAGS: Final = {
    "--host=": ("TEMPERANCE_HOST", "from --host"),
    "--host=192.0.2.1 --insecure": ("TEMPERANCE_HOST", "from --host"),
    "--host=::": ("TEMPERANCE_HOST", "from --host"),
    "--models=": ("TEMPERANCE_MODELS", "from --models"),
    "--models=/nowhere": ("TEMPERANCE_MODELS", "from --models"),
    "--uds=/": ("TEMPERANCE_UDS", "from --uds"),
    "--uds=/nowhere/socket": ("TEMPERANCE_UDS", "from --uds"),
    "--uds=socket --port=8000": ("TEMPERANCE_UDS", "TEMPERANCE_PORT from --port"),
    "--workers=257": ("TEMPERANCE_WORKERS", "from --workers"),
    "--ssl-certfile=/nowhere": ("TEMPERANCE_SSL_CERTFILE", "from --ssl-certfile"),
    "--ssl-keyfile=/nowhere": ("TEMPERANCE_SSL_KEYFILE", "from --ssl-keyfile"),
    "--ssl-ca-certs=/nowhere": ("TEMPERANCE_SSL_CA_CERTS", "from --ssl-ca-certs"),
    "--ssl-keyfile-password-file=": ("TEMPERANCE_SSL_KEYFILE_PASSWORD_FILE", "from --ssl-keyfile-password-file"),
}
"""Options, and what the line names; the environment may say something else."""
USAGE: Final = {
    "--port=many": "--port",
    "--port=65536": "--port",
    "--port=-1": "--port",
    "--workers=0": "--workers",
    "--workers=two": "--workers",
    "--no-such-option": "--no-such-option",
}
"""Options that the command itself refuses, with exit code 2."""
ISSUER = '"issuer": "https://id.example", "audience": "a", "jwks_url": "https://id.example/keys"'

SETTINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("FOO", {"FOO": "1"}),
    ("MODEL", {"MODEL": "models"}),
    ("WORKER", {"WORKER": "2"}),
    ("HOSTS", {"HOSTS": "127.0.0.1"}),
    ("PORT", {"PORT": CANARY}),
    ("PORT", {"PORT": ""}),
    ("PORT", {"PORT": "-1"}),
    ("PORT", {"PORT": "65536"}),
    ("PORT", {"PORT": "80.5"}),
    ("PORT", {"PORT": "1e3"}),
    ("WORKERS", {"WORKERS": "0"}),
    ("WORKERS", {"WORKERS": "257"}),
    ("WORKERS", {"WORKERS": "two"}),
    ("WORKERS", {"WORKERS": ""}),
    ("AUDIT", {"AUDIT": "on"}),
    ("AUDIT", {"AUDIT": ""}),
    ("STORE", {"STORE": ""}),
    ("SECRETS", {"SECRETS": ""}),
    ("ANCHORS", {"ANCHORS": ""}),
    ("ANCHOR_RECORDS", {"ANCHOR_RECORDS": "0"}),
    ("ANCHOR_RECORDS", {"ANCHOR_RECORDS": "1.5"}),
    ("RETENTION_DAYS", {"RETENTION_DAYS": "-1"}),
    ("MONITOR_SECONDS", {"MONITOR_SECONDS": "nan"}),
    ("MONITOR_SECONDS", {"MONITOR_SECONDS": "-1"}),
    ("THREADS", {"THREADS": "-1"}),
    ("THREADS", {"THREADS": "257"}),
    ("THREADS", {"THREADS": "1.5"}),
    ("KEEP_ALIVE", {"KEEP_ALIVE": "0"}),
    ("KEEP_ALIVE", {"KEEP_ALIVE": "-5"}),
    ("KEEP_ALIVE", {"KEEP_ALIVE": "75s"}),
    ("KEEP_ALIVE", {"KEEP_ALIVE": "nan"}),
    ("HEADER_SECONDS", {"HEADER_SECONDS": "0"}),
    ("HEADER_SECONDS", {"HEADER_SECONDS": "inf"}),
    ("HEADER_SECONDS", {"HEADER_SECONDS": CANARY}),
    ("BODY_SECONDS", {"BODY_SECONDS": "0"}),
    ("BODY_SECONDS", {"BODY_SECONDS": "-1"}),
    ("BODY_SECONDS", {"BODY_SECONDS": "nan"}),
    ("BODY_SECONDS", {"BODY_SECONDS": "60", "DEADLINE": "30"}),
    ("DEADLINE", {"DEADLINE": "0"}),
    ("DEADLINE", {"DEADLINE": "100000"}),
    ("DEADLINE", {"DEADLINE": "soon"}),
    ("QUEUE_SECONDS", {"QUEUE_SECONDS": "0"}),
    ("QUEUE_SECONDS", {"QUEUE_SECONDS": "-0.25"}),
    ("QUEUE_SECONDS", {"QUEUE_SECONDS": "5", "DEADLINE": "5"}),
    ("MAX_HEADER", {"MAX_HEADER": "100"}),
    ("MAX_HEADER", {"MAX_HEADER": "10000000"}),
    ("MAX_BODY", {"MAX_BODY": "12"}),
    ("MAX_BODY", {"MAX_BODY": "16MiB"}),
    ("MAX_ROWS", {"MAX_ROWS": "0"}),
    ("MAX_ROWS", {"MAX_ROWS": "1.5"}),
    ("RELOAD_SECONDS", {"RELOAD_SECONDS": "-1"}),
    ("RELOAD_SECONDS", {"RELOAD_SECONDS": "often"}),
    ("STRICT_START", {"STRICT_START": "mostly"}),
    ("EXPECTED_MODELS", {"EXPECTED_MODELS": "a,../b"}),
    ("LOAD_SECONDS", {"LOAD_SECONDS": "0"}),
    ("LOAD_MEMORY", {"LOAD_MEMORY": "1000"}),
    ("LOAD_MEMORY", {"LOAD_MEMORY": "9" * 30}),
    ("DRAIN_SECONDS", {"DRAIN_SECONDS": "-1"}),
    ("QUOTA_REQUESTS", {"QUOTA_REQUESTS": "-1"}),
    ("QUOTA_REQUESTS", {"QUOTA_REQUESTS": "many"}),
    ("QUOTA_ROWS", {"QUOTA_ROWS": "-1"}),
    ("QUOTA_ROWS", {"QUOTA_ROWS": "0.5"}),
    ("DOCS", {"DOCS": "perhaps"}),
    ("DOCS_OPEN", {"DOCS_OPEN": "2"}),
    ("DOCS_OPEN", {"DOCS_OPEN": "true", "DOCS": "false"}),
    ("METRICS_OPEN", {"METRICS_OPEN": ""}),
    ("INSECURE", {"INSECURE": "maybe"}),
    ("REPOSITORY_API", {"REPOSITORY_API": "some"}),
    ("LOG_LEVEL", {"LOG_LEVEL": "loud"}),
    ("LOG_LEVEL", {"LOG_LEVEL": "INFO "}),
    ("LOG_FORMAT", {"LOG_FORMAT": "xml"}),
    ("LOG_FORMAT", {"LOG_FORMAT": "JSON"}),
    ("OTLP_ENDPOINT", {"OTLP_ENDPOINT": "collector:4318"}),
    ("OTLP_ENDPOINT", {"OTLP_ENDPOINT": ""}),
    ("OTLP_ENDPOINT", {"OTLP_ENDPOINT": f"https://user:{CANARY}@collector.example"}),
    ("ROOT_PATH", {"ROOT_PATH": "temperance"}),
    ("ROOT_PATH", {"ROOT_PATH": "/temperance/"}),
    ("ROOT_PATH", {"ROOT_PATH": "/a b"}),
    ("PROXIES", {"PROXIES": CANARY}),
    ("PROXIES", {"PROXIES": "10.0.0.0/40"}),
    ("PROXIES", {"PROXIES": "10.0.0.1,10.0.0.256"}),
    ("CORS_ORIGINS", {"CORS_ORIGINS": "*"}),
    ("CORS_ORIGINS", {"CORS_ORIGINS": "https://a.example/path"}),
    ("CORS_ORIGINS", {"CORS_ORIGINS": CANARY}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": CANARY}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": "{}"}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": "[{}]"}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f'[{{{ISSUER}, "algorithms": ["HS256"]}}]'}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f'[{{{ISSUER}, "algorithms": ["none"]}}]'}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f"[{{{ISSUER}}}, {{{ISSUER}}}]"}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f'[{{{ISSUER}, "secret": "{CANARY}"}}]'}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f"[{{{ISSUER.replace('https', 'http')}}}]"}),
    ("CLIENT_CERTIFICATE_HEADER", {"CLIENT_CERTIFICATE_HEADER": "X Subject"}),
    ("CLIENT_CERTIFICATE_HEADER", {"CLIENT_CERTIFICATE_HEADER": "X-Subject"}),
    ("CLIENT_CERTIFICATE_SCOPES", {"CLIENT_CERTIFICATE_SCOPES": f"predict,{CANARY}"}),
    ("KEYS", {"KEYS": "/nowhere/keys.json"}),
    ("HOST", {"HOST": "192.0.2.1"}),
    ("UDS", {"UDS": "/nowhere/temperance.sock"}),
    ("UDS", {"UDS": "socket", "PORT": "8000"}),
    ("HOST", {"HOST": ""}),
    ("HOST", {"HOST": " "}),
    ("HOST", {"HOST": "no such host"}),
    ("MODELS", {"MODELS": ""}),
    ("DATA", {"DATA": ""}),
    ("DATA", {"DATA": "/dev/null"}),
    ("DATA", {"DATA": "/dev/null/data"}),
    ("DATA", {"DATA": "/proc/data"}),
    ("KEYS", {"KEYS": ""}),
    ("KEYS", {"KEYS": "/"}),
    ("UDS", {"UDS": ""}),
    ("UDS", {"UDS": "/"}),
    ("UDS", {"UDS": "/dev/null"}),
    ("UDS", {"UDS": "/tmp/" + 120 * "s"}),  # noqa: S108  # never made
    ("UDS", {"UDS": "socket", "HOST": "localhost"}),
    ("SSL_CERTFILE", {"SSL_CERTFILE": ""}),
    ("SSL_CERTFILE", {"SSL_CERTFILE": "/"}),
    ("PORT", {"PORT": "tcp://"}),
    ("PORT", {"PORT": "http://10.0.0.1:8000"}),
    ("SERVICE", {"SERVICE": "10.0.0.1"}),
    ("SERVICE_PORT", {"SERVICE_PORT": "many"}),
    ("PORT_8000_TCP_NAME", {"PORT_8000_TCP_NAME": "http"}),
    ("OTLP_ENDPOINT", {"OTLP_ENDPOINT": "http://collector:99999"}),
    ("CORS_ORIGINS", {"CORS_ORIGINS": "https://a.example:99999"}),
    ("JWT_ISSUERS", {"JWT_ISSUERS": f"[{{{ISSUER.replace('.example/keys', '.example:x/keys')}}}]"}),
    ("DRAIN_SECONDS", {"DRAIN_SECONDS": "inf"}),
    ("LOAD_SECONDS", {"LOAD_SECONDS": "soon"}),
    ("SSL_CERTFILE", {"SSL_CERTFILE": "/nowhere/certificate.pem"}),
    ("SSL_KEYFILE", {"SSL_KEYFILE": "/nowhere/key.pem"}),
    ("SSL_KEYFILE_PASSWORD_FILE", {"SSL_KEYFILE_PASSWORD_FILE": "/nowhere/password"}),
    ("SSL_CA_CERTS", {"SSL_CA_CERTS": "/nowhere/authorities.pem"}),
    ("STORE_PASSWORD_FILE", {"STORE": "postgresql://me@db/t", "STORE_PASSWORD_FILE": "/nowhere/password"}),
    ("STORE_PASSWORD_FILE", {"STORE_PASSWORD_FILE": "/nowhere/password"}),
    ("STORE_PASSWORD_FILE", {"STORE_PASSWORD_FILE": ""}),
    ("PROVIDER", {"PROVIDER": "gpu"}),
    ("PROVIDER", {"PROVIDER": "tensorrt"}),  # whose package is not installed
    ("DEPLOYMENT", {"DEPLOYMENT": ""}),
    ("DEPLOYMENT", {"DEPLOYMENT": "/nowhere/deployment.toml"}),
)
"""Which variable is named, and the variables that are set, without their prefix."""


def _damaged(file: str, content: bytes | None = None) -> Callable[[Path], object]:
    """Writes other bytes into a file of the version, or flips one bit of it."""

    def damage(model: Path) -> None:
        path = model / "1" / file
        kept = bytearray(path.read_bytes())
        kept[len(kept) // 2] ^= 1
        path.write_bytes(bytes(kept) if content is None else content)

    return damage


def _without(file: str) -> Callable[[Path], object]:
    """Takes a file of the version, or of the model, away."""
    return lambda model: (model / file).unlink()


def _with_a_folder(file: str) -> Callable[[Path], object]:
    """Puts a folder where a file was, which no user can read, be it root."""

    def replace(model: Path) -> None:
        (model / file).unlink(missing_ok=True)
        (model / file).mkdir()

    return replace


def _written(file: str, text: str) -> Callable[[Path], object]:
    return lambda model: (model / file).write_text(text)


def _with_a_damaged_neighbour(model: Path) -> None:
    shutil.copytree(model, model.with_name("second"))
    _damaged("model.onnx")(model.with_name("second"))


BUNDLES: Final[dict[str, Callable[[Path], object]]] = {
    "a flipped bit in the graph": _damaged("model.onnx"),
    "a flipped bit in the calibration": _damaged("calibration.json"),
    "a flipped bit in the state": _damaged("state.npz"),
    "a flipped bit in the manifest": _damaged("manifest.toml"),
    "an empty graph": _damaged("model.onnx", b""),
    "a pointer of Git LFS for a graph": _damaged("model.onnx", b"version https://git-lfs.github.com/spec/v1"),
    "no text for sums": _damaged("SHA256SUMS", b"\xff\xfe"),
    "empty sums": _damaged("SHA256SUMS", b""),
    "no graph": _without("1/model.onnx"),
    "no manifest": _without("1/manifest.toml"),
    "no state": _without("1/state.npz"),
    "no sums": _without("1/SHA256SUMS"),
    "another file in the version": _written("1/notes.txt", "see the wiki"),
    "a folder for a graph": _with_a_folder("1/model.onnx"),
    "no aliases": _without("aliases.toml"),
    "no alias left": _written("aliases.toml", "# every alias was removed: no version is served\n"),
    "an alias of no version": _written("aliases.toml", "stable = 7\n"),
    "an alias that is no number": _written("aliases.toml", 'stable = "1"\n'),
    "aliases that are no TOML": _written("aliases.toml", "stable: 1\n"),
    "retired versions that are no list": _written("retired.toml", "retired = 1\n"),
    "only a retired version": _written("retired.toml", "retired = [1]\n"),
    "a version of another name": lambda model: model.joinpath("1").rename(model / "one"),
    "no models at all": shutil.rmtree,
    "a second model that is damaged": _with_a_damaged_neighbour,
}
"""What is done to a model, which then stops the start."""

NO_KEY: Final = '{"schema": 1, "keys": []}'
KEYS: Final = {
    "no JSON": "keys: none",
    "nothing": "",
    "a key without its hash": '{"schema": 1, "keys": [{"id": "a"}]}',
    "an unknown member": f'{{"schema": 1, "keys": [], "owner": "{CANARY}"}}',
    "a later schema": '{"schema": 9, "keys": []}',
    "a member twice": '{"schema": 1, "schema": 1, "keys": []}',
}
"""Contents of a file of keys that cannot be used."""


@contextmanager
def listening() -> Iterator[int]:
    """A port on which another process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]
