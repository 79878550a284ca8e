"""Where the record lies, and who may begin with a new secret."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

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


URLS = {
    "postgresql://user@db:5432/temperance": "postgresql://user@db:5432/temperance?password=a%2F%3A%40%20b",
    "postgresql:///temperance": "postgresql:///temperance?password=a%2F%3A%40%20b",
    "postgresql://a:1,b:2/t?user=u": "postgresql://a:1,b:2/t?user=u&password=a%2F%3A%40%20b",
    "postgres://db/t?": "postgres://db/t?password=a%2F%3A%40%20b",
}


@pytest.mark.parametrize("url", URLS)
def test_the_password_of_a_file_reaches_libpq_whole(tmp_path, url):
    (tmp_path / "password").write_text("a/:@ b\n")
    found = store_url(Settings(data=tmp_path, store=url, store_password_file=tmp_path / "password"))
    assert found == URLS[url]
    assert conninfo_to_dict(found)["password"] == "a/:@ b"  # noqa: S105  # made up


@pytest.mark.parametrize(
    ("url", "content", "message"),
    [
        (None, b"hidden", "needs TEMPERANCE_STORE=postgresql://"),
        ("sqlite:///audit.db", b"hidden", "needs TEMPERANCE_STORE=postgresql://"),
        ("postgresql://user:hidden@db/t", b"hidden", "has a password already"),
        ("postgresql://db/t?user=u&password=hidden", b"hidden", "has a password already"),
        ("postgresql://user@db/t", b" \n", "is empty"),
        ("postgresql://user@db/t", b"\xff", "is not UTF-8"),
        ("postgresql://user@db/t", None, "No such file"),
    ],
)
def test_a_file_of_a_password_that_cannot_be_used_is_refused_without_its_content(tmp_path, url, content, message):
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    settings = Settings(data=tmp_path, store=url, store_password_file=tmp_path / "password")
    with pytest.raises(SettingsInvalid, match=message) as caught:
        store_url(settings)
    assert "hidden" not in str(caught.value)
