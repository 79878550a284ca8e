"""Last uses of keys: merged, and never a reason to fail."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access.key_use import USE_FILE, KeyUse

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_nothing_is_made_before_a_key_is_used(tmp_path: Path) -> None:
    use = KeyUse(tmp_path / "data")
    use.add({})
    assert use.read() == {}
    assert not (tmp_path / "data").exists()


def test_the_latest_use_stays_whichever_worker_writes_it_last(tmp_path: Path) -> None:
    first, second = KeyUse(tmp_path), KeyUse(tmp_path)
    first.add({"a": NOON.timestamp() + 60, "b": NOON.timestamp()})
    second.add({"a": NOON.timestamp(), "c": NOON.timestamp() + 0.9})
    assert first.read() == {"a": NOON.replace(minute=1), "b": NOON, "c": NOON}


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / USE_FILE).write_text("{")
    use = KeyUse(tmp_path)
    assert use.read() == {}
    use.add({"a": NOON.timestamp()})
    assert use.read() == {"a": NOON}


def test_what_cannot_be_written_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    use = KeyUse(tmp_path / "file")
    for _ in range(3):
        use.add({"a": NOON.timestamp()})
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be written" in record.getMessage()
