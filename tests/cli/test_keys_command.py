"""`temperance keys`: what is made, shown and refused."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from service.access.caller import SCOPES
from service.access.key_file import KeyFile
from service.access.key_use import KeyUse
from service.access.keys import KeyTable
from tests.cli.printed import Run, printed_json


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def keys(invoke: Callable[..., Result], data: Path) -> Callable[..., Result]:
    """Runs `temperance keys` on that data directory."""
    return lambda verb, *arguments: invoke("keys", verb, *arguments, "--data", data)


def stored(data: Path) -> KeyFile:
    return KeyFile(data / "keys.json")


def test_a_key_is_printed_once_alone_on_standard_output_and_can_be_used(
    keys: Callable[..., Result], data: Path
) -> None:
    made = keys("create", "--name", "ehr", "--scopes", "predict,outcomes", "--expires", "90d")
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert re.fullmatch("tmp_[a-z2-7]{12}_[a-z2-7]{59}", text)
    assert "keep it where the caller keeps its secrets" in made.stderr
    assert text not in made.stderr
    assert text.encode() not in (stored(data).revision() or b"")
    caller = KeyTable(stored(data).read()).caller(text.encode(), datetime.now(UTC).timestamp())
    assert caller.name == "key:ehr"
    assert caller.scopes == {"predict", "outcomes"}


def test_the_first_key_says_that_credentials_are_needed_from_now_on(keys: Callable[..., Result]) -> None:
    assert "the first key" in keys("create", "--name", "ehr").stderr
    assert "the first key" not in keys("create", "--name", "ehr").stderr


def test_a_key_goes_into_a_new_file_of_its_owner_and_is_not_printed(
    keys: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    made = keys("create", "--name", "ehr", "--out", tmp_path / "ehr.key")
    text = (tmp_path / "ehr.key").read_text().strip()
    assert text.startswith("tmp_")
    assert text not in made.output
    assert made.stderr == ""
    assert (tmp_path / "ehr.key").stat().st_mode & 0o777 == 0o600
    assert keys("create", "--name", "ehr", "--out", tmp_path / "ehr.key").exit_code != 0
    assert (tmp_path / "ehr.key").read_text().strip() == text
    assert len(stored(data).read()) == 1


def test_no_file_of_a_key_is_left_where_the_key_cannot_be_stored(invoke: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text("{")
    done = invoke("keys", "create", "--name", "a", "--keys", tmp_path / "damaged.json", "--out", tmp_path / "a.key")
    assert done.exit_code != 0
    assert not (tmp_path / "a.key").exists()


def test_json_holds_the_key_and_no_hash(keys: Callable[..., Result], tmp_path: Path) -> None:
    made: Any = printed_json(
        keys("create", "--name", "ehr", "--models", "mass,heart", "--rows-per-minute", 6, "--json")
    )
    assert made["key"].startswith(f"tmp_{made['id']}_")
    assert made["models"] == ["mass", "heart"]
    assert (made["requests_per_minute"], made["rows_per_minute"]) == (None, 6)
    assert "sha256" not in made
    written: Any = printed_json(keys("create", "--name", "ehr", "--out", tmp_path / "b.key", "--json"))
    assert "key" not in written
    assert written["out"] == str(tmp_path / "b.key")


@pytest.mark.parametrize(("value", "seconds"), [("90d", 90 * 86400), ("12h", 12 * 3600)])
def test_an_expiry_is_days_or_hours_from_now(value: str, seconds: int, keys: Callable[..., Result], data: Path) -> None:
    keys("create", "--name", "ehr", "--expires", value)
    (key,) = stored(data).read()
    assert key.expires is not None
    assert abs(key.expires - key.created - timedelta(seconds=seconds)) <= timedelta(seconds=2)


def test_an_expiry_is_a_date_to_its_end_or_never(keys: Callable[..., Result], data: Path) -> None:
    keys("create", "--name", "ehr", "--expires", "2199-12-31")
    keys("create", "--name", "ehr", "--expires", "never")
    dated, endless = stored(data).read()
    assert dated.expires == datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert endless.expires is None


@pytest.mark.parametrize("value", ["", "d", "90", "-1d", "0d", "1.5d", "90m", "2020-01-01", "soon", "9999999d"])
def test_any_other_expiry_is_wrong_usage(value: str, keys: Callable[..., Result], data: Path) -> None:
    assert keys("create", "--name", "ehr", "--expires", value).exit_code == 2
    assert not data.exists()


@pytest.mark.parametrize("value", ["predikt", "predict,", "", ",", "predict metrics", "PREDICT"])
def test_an_unknown_scope_is_refused_with_the_list(value: str, keys: Callable[..., Result]) -> None:
    refused = keys("create", "--name", "ehr", "--scopes", value)
    assert refused.exit_code == 2
    assert ", ".join(SCOPES) in " ".join(refused.stderr.split())


@pytest.mark.parametrize("name", ["", ".ehr", "a b", "a" * 65, "é", "a/b"])
def test_a_name_of_other_characters_is_refused_of_callers_and_of_models(name: str, keys: Callable[..., Result]) -> None:
    assert keys("create", "--name", name).exit_code == 2
    assert keys("create", "--name", "ehr", "--models", f"mass,{name}").exit_code == 2


def test_a_list_shows_state_and_last_use_and_never_a_hash(keys: Callable[..., Result], data: Path) -> None:
    for name in ("ehr", "lab"):
        keys("create", "--name", name, "--models", "mass")
    ehr, lab = stored(data).read()
    KeyUse(data).add({ehr.id: datetime(2026, 11, 26, 12, 30, tzinfo=UTC).timestamp()})
    assert keys("revoke", lab.id).exit_code == 0
    shown = keys("list").stdout
    first, second = (line for line in shown.splitlines() if "mass" in line)
    assert all(part in first for part in ("ehr", ehr.id, "active", "predict", "2026-11-26 12:30"))
    assert all(part in second for part in ("lab", lab.id, "revoked", " - "))
    listed: Any = printed_json(keys("list", "--json"))
    assert [key["state"] for key in listed["keys"]] == ["active", "revoked"]
    assert listed["keys"][0]["last_used"] == "2026-11-26T12:30:00Z"
    assert not any(key.sha256 in shown + json.dumps(listed) for key in (ehr, lab))


def test_a_list_without_a_file_is_empty_and_makes_none(keys: Callable[..., Result], data: Path) -> None:
    assert printed_json(keys("list", "--json")) == {"keys": []}
    assert not data.exists()


def test_a_name_revokes_all_of_its_keys_and_an_id_one(keys: Callable[..., Result], data: Path) -> None:
    for name in ("ehr", "ehr", "ehr", "lab"):
        keys("create", "--name", name)
    first = stored(data).read()[0]
    assert keys("revoke", first.id).stdout.count("Revoked key") == 1
    assert keys("revoke", "ehr").stdout.count("Revoked key") == 2
    assert [key.revoked is None for key in stored(data).read()] == [False, False, False, True]


def test_what_is_not_there_to_revoke_is_one_line_and_exit_code_1(run: Run) -> None:
    done = run("keys", "revoke", "ehr", code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("temperance: ")
    assert "no key of that id or name" in line


def test_variables_name_the_file_and_the_directory(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPERANCE_DATA", str(tmp_path / "data"))
    assert invoke("keys", "create", "--name", "one").exit_code == 0
    monkeypatch.setenv("TEMPERANCE_KEYS", str(tmp_path / "others.json"))
    assert invoke("keys", "create", "--name", "two").exit_code == 0
    assert [key.name for key in stored(tmp_path / "data").read()] == ["one"]
    assert [key.name for key in KeyFile(tmp_path / "others.json").read()] == ["two"]
