"""Settings: every one documented, read from the environment, refused when it cannot be."""

import json
import re

import pytest

from service.bundle.repository import NAME
from service.environment import read_settings
from service.errors import SettingsInvalid
from service.settings import MODEL_NAME, PLATFORM, PREFIX, Settings

ISSUER: dict[str, object] = {
    "issuer": "https://id.example",
    "audience": "temperance",
    "jwks_url": "https://id.example/keys",
}
NO_ISSUERS: tuple[dict[str, object], ...] = (
    {"issuer": "zq7canary|zq7canary"},
    {"issuer": ""},
    {"issuer": "zq7\ncanary"},
    {"audience": ""},
    {"jwks_url": "http://id.example/zq7canary"},
    {"jwks_url": "file:///zq7canary"},
    {"jwks_url": "https://zq7canary@id.example/keys"},
    {"jwks_url": "https:///keys"},
    {"algorithms": ["HS256"]},
    {"algorithms": ["none"]},
    {"algorithms": []},
    {"scopes_claim": ""},
    {"unknown": True},
)


def issuers(*entries: dict[str, object]) -> str:
    return json.dumps(entries)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*PLATFORM.values(), *(f"{PREFIX}{field.upper()}" for field in Settings.model_fields)]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_every_setting_has_a_default() -> None:
    assert Settings() == read_settings()
    assert Settings().host == "127.0.0.1"  # nobody is served from outside unless someone says so


@pytest.mark.parametrize("name", ["TEMPERANCE_PORT", "temperance_port"])
def test_a_setting_is_read_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8123")
    assert read_settings().port == 8123


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({"PORT": "8124"}, 8124),
        ({"PORT": "8124", "TEMPERANCE_PORT": "8123"}, 8123),
        ({"PORT": "8124", "TEMPERANCE_PORT": "tcp://10.0.0.1:8000"}, 8124),
        ({"port": "8124"}, 8000),
    ],
    ids=["alone", "beside our own", "beside a link of Kubernetes", "spelt otherwise"],
)
def test_the_port_of_a_platform_counts_where_ours_is_not_set(
    variables: dict[str, str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_settings().port == port


@pytest.mark.parametrize("value", ["", "zq7canary", "70000", "tcp://10.0.0.1:8000"])
def test_a_platforms_port_that_cannot_be_is_refused_by_its_variable(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", value)
    with pytest.raises(SettingsInvalid, match=r"^TEMPERANCE_PORT: .* \(from PORT\)$") as caught:
        read_settings()
    assert "zq7canary" not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "zq7canary"),
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("PORT", ""),
        ("WORKERS", "0"),
        ("THREADS", "-1"),
        ("MAX_BODY", "12"),
        ("MAX_ROWS", "0"),
        ("MAX_ROWS", "1.5"),
        ("DOCS", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "https://page.example/"),
        ("CORS_ORIGINS", "https://page.example,page.example"),
        ("JWT_ISSUERS", "zq7canary"),
        ("JWT_ISSUERS", '{"issuer": "zq7canary"}'),
        ("JWT_ISSUERS", issuers({"issuer": "a"})),
        ("JWT_ISSUERS", issuers(ISSUER, ISSUER)),
        *(("JWT_ISSUERS", issuers({**ISSUER, **change})) for change in NO_ISSUERS),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_variables_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsInvalid, match=f"^{PREFIX}{name}: ") as caught:
        read_settings()
    assert "zq7canary" not in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("name", ["TEMPERANCE_FOO", "temperance_foo", "TEMPERANCE_MODEL"])
def test_an_unknown_variable_is_refused_and_the_known_ones_listed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsInvalid, match=re.escape(name)) as caught:
        read_settings()
    assert all(f"{PREFIX}{known.upper()}" in caught.value.detail for known in Settings.model_fields)


def test_other_programs_variables_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "elsewhere")
    monkeypatch.setenv("XTEMPERANCE_FOO", "1")
    assert read_settings() == Settings()


@pytest.mark.parametrize(
    "address", ["https://id.example:8443/keys?a=1", "http://127.0.0.1:9/keys", "http://localhost/k"]
)
def test_keys_of_an_issuer_come_over_tls_or_from_this_machine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPERANCE_JWT_ISSUERS", issuers({**ISSUER, "jwks_url": address}))
    (issuer,) = read_settings().jwt_issuers
    assert (issuer.jwks_url, issuer.algorithms, issuer.scopes_claim) == (address, ("RS256", "ES256"), "scope")


def test_origins_are_read_from_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPERANCE_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert read_settings().cors_origins == ("https://a.example", "http://localhost:3000")


def test_an_expected_model_may_have_any_name_that_a_model_may_have() -> None:
    assert MODEL_NAME.pattern == NAME.pattern
    assert Settings(expected_models=("breast-cancer", "b.2_c")).expected_models == ("breast-cancer", "b.2_c")
