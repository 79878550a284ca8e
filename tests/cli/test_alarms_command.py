"""`temperance alarms`: what it prints, and how it fails."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.alarms_command import alarms
from service.errors import SettingsInvalid
from service.monitoring.alarms import look, record_alarms
from service.record_places import secrets_of, store_url
from service.settings import Settings
from service.store.engine import open_store
from tests.monitoring.test_alarm_watch import drift
from tests.monitoring.test_alarms import WATCHED


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with an alarm."""
    settings = Settings(data=tmp_path)
    store = open_store(store_url(settings), signer=secrets_of(settings).current.signer)
    drift(store)
    progress = look(store, WATCHED)
    assert progress is not None
    record_alarms(store, WATCHED, progress, now=1_767_225_600_000_000)
    store.close()
    return tmp_path


def ran(data: Path, *arguments: str) -> str:
    return CliRunner().invoke(alarms, [*arguments, "--data", str(data)], catch_exceptions=False).output


def test_alarms_are_listed(data: Path) -> None:
    assert "intercept:malignant" in ran(data, "list")
    found = json.loads(ran(data, "list", "breast-cancer", "--json"))["alarms"]
    assert {alarm["raised"] for alarm in found} == {"2026-01-01T00:00:00+00:00"}
    assert "No alarms" in ran(data, "list", "another")


def test_an_acknowledged_alarm_is_listed_as_such(data: Path) -> None:
    assert "version 1" in ran(data, "acknowledge", "breast-cancer", "--reason", "a new clinic")
    assert all(alarm["acknowledged"] for alarm in json.loads(ran(data, "list", "--json"))["alarms"])


def test_what_is_not_there_cannot_be_acknowledged(data: Path) -> None:
    with pytest.raises(SettingsInvalid, match="no alarm to acknowledge"):
        ran(data, "acknowledge", "breast-cancer", "--version", "2")
