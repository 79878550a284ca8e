"""Configurations that the service must not start with: each is refused before it listens, by the variable's name."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.api.proxies import Proxies
from service.credentials import check_access
from service.errors import ServiceError
from service.main import _sockets, read_settings, tls_of
from service.settings import PREFIX, Settings

CANARY = "zq7canary"
SECONDS = 5.0
FEWEST = 60
TEMPERANCE = Path(sys.executable).with_name("temperance")
ISSUER = '"issuer": "https://id.example", "audience": "a", "jwks_url": "https://id.example/keys"'

BAD: tuple[tuple[str, dict[str, str]], ...] = (
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
    ("LOAD_SECONDS", {"LOAD_SECONDS": "0"}),
    ("LOAD_MEMORY", {"LOAD_MEMORY": "1000"}),
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
    ("SSL_CERTFILE", {"SSL_CERTFILE": "/nowhere/certificate.pem"}),
    ("SSL_KEYFILE", {"SSL_KEYFILE": "/nowhere/key.pem"}),
    ("SSL_KEYFILE_PASSWORD_FILE", {"SSL_KEYFILE_PASSWORD_FILE": "/nowhere/password"}),
    ("SSL_CA_CERTS", {"SSL_CA_CERTS": "/nowhere/authorities.pem"}),
)
"""Which variable is named, and the variables that are set."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def checked() -> None:
    """Everything that a start checks before it loads models."""
    settings: Settings = read_settings()
    check_access(settings)
    Proxies.named(settings.proxies)
    tls_of(settings)
    with _sockets(settings) as sockets:
        for made in sockets:
            made.close()


def test_there_are_many_bad_configurations() -> None:
    assert len(BAD) >= FEWEST
    assert {name for name, _ in BAD} >= {name.upper() for name in Settings.model_fields} - {"MODELS", "DATA"}


@pytest.mark.parametrize(("name", "variables"), BAD, ids=str)
def test_a_bad_configuration_is_refused_by_the_variables_name(
    name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{variable}", value)
    with pytest.raises(ServiceError) as caught:
        checked()
    message = str(caught.value)
    assert f"{PREFIX}{name}" in message or variables[name] in message
    assert CANARY not in message
    assert "\n" not in message


@pytest.mark.long
@pytest.mark.parametrize(("name", "variables"), BAD, ids=str)
def test_a_process_with_a_bad_configuration_ends_at_once(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    own = {f"{PREFIX}{variable}": value for variable, value in variables.items()}
    began = time.monotonic()
    environment = {**os.environ, **own}
    command = [str(TEMPERANCE), "serve"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert time.monotonic() - began < SECONDS
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"{PREFIX}{name}" in ended.stderr or variables[name] in ended.stderr
