"""Settings: every one documented, read from the environment, refused when it cannot be."""

import re

import pytest

from service.errors import SettingsInvalid
from service.main import read_settings
from service.settings import PREFIX, Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


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
