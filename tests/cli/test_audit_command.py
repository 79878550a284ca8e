"""`temperance audit`: what it prints, and how it fails."""

import json
from base64 import b64encode

import pytest
from click.testing import CliRunner, Result

from service.cli.audit_command import audit
from service.errors import ServiceError, SettingsInvalid
from service.record_errors import StoreDamaged
from service.store.secrets import Secrets
from tests.record.mutations import changeable, sound
from tests.record.sample import Sample


@pytest.fixture
def sample(tmp_path) -> Sample:
    return sound(tmp_path / "data")


def ran(sample: Sample, *arguments: str) -> Result:
    folder = str(sample.secrets_path.parent)
    return CliRunner().invoke(audit, [*arguments, "--data", folder], catch_exceptions=False)


def error_of(sample: Sample, *arguments: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        ran(sample, *arguments)
    return caught.value


def test_a_sound_record_is_counted(sample):
    assert "Sound: 60 entries in 3 streams, 9 anchors" in ran(sample, "verify").output
    found = json.loads(ran(sample, "verify", "--json").output)
    assert (found["ok"], found["entries"], found["finding"]) == (True, 60, None)


def test_a_changed_record_is_named_in_one_line(sample):
    base = changeable(sample.url.removeprefix("sqlite://"))
    base.execute("UPDATE predictions SET caller = 'key:other' WHERE place = ?", ((2 << 40) + 1,))
    base.close()
    error = error_of(sample, "verify")
    assert isinstance(error, StoreDamaged)
    assert "stream 2, entry 1, request 0192f0c1-0002" in error.detail


def test_public_keys_are_enough_to_verify(sample):
    secret = Secrets.read(sample.secrets_path).current
    sample.secrets_path.unlink()
    key = f"{secret.key_id}={b64encode(secret.public_key).decode()}"
    assert "0 encrypted texts" in ran(sample, "verify", "--public-key", key).output
    assert "audit keys create" in error_of(sample, "verify").detail


def test_without_anchors_it_says_what_is_not_noticed(sample):
    sample.anchors_path.unlink()
    assert "cut end" in ran(sample, "verify").output


def test_a_record_that_is_missing_is_an_error_and_not_made(sample, tmp_path):
    error = error_of(sample, "verify", "--store", f"sqlite://{tmp_path}/none.db")
    assert isinstance(error, SettingsInvalid)
    assert not (tmp_path / "none.db").exists()


def test_a_subject_is_erased_once_and_its_name_is_not_repeated(sample):
    assert "Erased" in ran(sample, "erase", "--subject", "patient-1").output
    error = error_of(sample, "erase", "--subject", "patient-1")
    assert "patient-1" not in error.detail
    assert "Sound" in ran(sample, "verify").output


def test_old_records_are_deleted(sample):
    assert "Deleted 60 entries" in ran(sample, "prune", "--before", "2023-12-31").output
    assert "nothing was deleted" in ran(sample, "prune", "--before", "2023-12-31").output
    assert "Sound: 1 entries" in ran(sample, "verify").output
    assert ran(sample, "prune", "--before", "2999-01-01").exit_code == 2
    assert ran(sample, "prune", "--before", "soon").exit_code == 2


def test_keys_are_made_rotated_and_listed(sample, tmp_path):
    path = str(tmp_path / "new" / "secrets.json")
    assert "Made" in ran(sample, "keys", "create", "--secrets", path).output
    assert "rotate" in error_of(sample, "keys", "create", "--secrets", path).detail
    assert "next start" in ran(sample, "keys", "rotate", "--secrets", path).output
    listed = json.loads(ran(sample, "keys", "list", "--secrets", path, "--json").output)["keys"]
    assert [one["is_current"] for one in listed] == [False, True]
    assert listed[0]["id"] in ran(sample, "keys", "list", "--secrets", path).output
