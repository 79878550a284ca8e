"""The file of secrets: made once, its owner's alone, with old keys for reading."""

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from service.errors import SettingsInvalid
from service.store.secrets import Secrets, make, public_keys_of, rotate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "secrets.json"


def test_a_new_file_is_its_owners_alone_and_reads_back(path):
    made = Secrets.read_or_made(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Secrets.read(path).current.key_id == made.current.key_id
    assert not make(path)


def test_processes_that_start_at_once_have_one_secret(path):
    code = """if True:
        import sys, pathlib
        from service.store.secrets import Secrets
        print(Secrets.read_or_made(pathlib.Path(sys.argv[1])).current.key_id)
    """
    command = [sys.executable, "-c", code, str(path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


def test_a_rotation_writes_with_a_new_key_and_reads_with_the_old_one(path):
    before = Secrets.read_or_made(path)
    key_id = rotate(path)
    after = Secrets.read(path)
    assert after.current.key_id == key_id != before.current.key_id
    old = after.by_id[before.current.key_id]
    assert old.tokens.token("subject", "a") == before.current.tokens.token("subject", "a")
    assert after.public_keys().verifies(old.key_id, before.current.signer.sign(b"x"), b"x")


def test_keys_of_one_secret_differ_by_their_use(path):
    secret = Secrets.read_or_made(path).current
    assert secret.sealing_key != secret.public_key
    assert b64encode(secret.sealing_key).decode() not in path.read_text()


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_a_file_that_others_can_read_is_refused(path, mode):
    Secrets.read_or_made(path)
    path.chmod(mode)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        Secrets.read(path)


def test_a_file_that_is_missing_is_refused_with_the_command_that_makes_it(path):
    with pytest.raises(SettingsInvalid, match="temperance audit keys create"):
        Secrets.read(path)


def damaged(path: Path) -> dict[str, str]:
    content = json.loads(path.read_text())
    other = json.dumps(
        {
            **content,
            "keys": {key: {**one, "secret": b64encode(bytes(32)).decode()} for key, one in content["keys"].items()},
        }
    )
    return {
        "empty": "",
        "no object": "[]",
        "unknown current": json.dumps({**content, "current": "k9"}),
        "another secret under the id": other,
        "no base64": other.replace("AAAA", "!!!!"),
        "a key that is not known": json.dumps({**content, "more": 1}),
    }


def test_a_damaged_file_is_refused_and_never_repeated(path):
    Secrets.read_or_made(path)
    for content in damaged(path).values():
        path.write_text(content)
        with pytest.raises(SettingsInvalid, match="is not what") as caught:
            Secrets.read(path)
        assert "AAAA" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="cannot be written"):
        Secrets.read_or_made(tmp_path / "file" / "secrets.json")


def test_public_keys_verify_without_a_secret_and_wrong_ones_are_refused(path):
    secret = Secrets.read_or_made(path).current
    text = b64encode(secret.public_key).decode()
    keys = public_keys_of({secret.key_id: text})
    assert keys.verifies(secret.key_id, secret.signer.sign(b"x"), b"x")
    assert not keys.verifies(secret.key_id, secret.signer.sign(b"x"), b"y")
    assert not keys.verifies("other", secret.signer.sign(b"x"), b"x")
    for wrong in ({"k1": text}, {secret.key_id: "?"}, {secret.key_id: "AAAA"}):
        with pytest.raises(SettingsInvalid, match="public key"):
            public_keys_of(wrong)
