"""Where the record lies, and who may begin with a new secret."""

from pathlib import Path

import pytest

from service.errors import SettingsInvalid
from service.record_places import anchors_of, secrets_of, store_url
from service.settings import Settings


def test_all_lies_in_the_data_directory_by_default(tmp_path):
    settings = Settings(data=tmp_path / "a b")
    assert store_url(settings) == f"sqlite://{tmp_path}/a%20b/audit.db"
    secrets = secrets_of(settings)
    assert (tmp_path / "a b" / "secrets.json").exists()
    assert anchors_of(settings, secrets) is not None


def test_several_machines_need_a_file_that_they_share(tmp_path):
    settings = Settings(data=tmp_path, store="postgresql://user:hidden@db/temperance")
    with pytest.raises(SettingsInvalid, match="TEMPERANCE_SECRETS") as caught:
        secrets_of(settings)
    assert "hidden" not in str(caught.value)
    assert "temperance audit keys create" in str(caught.value)


def test_a_lost_file_of_secrets_is_not_replaced_in_silence(tmp_path):
    settings = Settings(data=tmp_path)
    secrets_of(settings)
    (tmp_path / "audit.db").write_bytes(b"content")
    Path(tmp_path / "secrets.json").unlink()
    with pytest.raises(SettingsInvalid, match="restore it"):
        secrets_of(settings)
