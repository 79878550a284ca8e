"""Aliases by command: versions, labels in their place, shadows, and the record of who moved what and why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from service.bundle.aliases import Alias
from service.bundle.repository import Repository
from service.record_places import secrets_of
from service.settings import Settings
from service.store.engine import open_store
from tests.cli.printed import SHIPPED

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of its own, without a record."""
    monkeypatch.setenv("TEMPERANCE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def record(place: Path) -> Callable[[], list[dict[str, Any]]]:
    """Begins a record, and reads the moves of aliases in it."""
    settings = Settings(data=place)
    place.mkdir(mode=0o700)
    secrets_of(settings)
    open_store(f"sqlite://{place}/audit.db", signer=secrets_of(settings).current.signer).close()

    def events() -> list[dict[str, Any]]:
        store = open_store(f"sqlite://{place}/audit.db")
        try:
            return [json.loads(event.detail) for event in store.events(kind="alias")]
        finally:
            store.close()

    return events


def test_a_label_is_taken_where_a_version_stands(
    invoke: Invoke, repository: Repository, publish_again: Callable[[], int]
) -> None:
    publish_again()
    models = ("--models", repository.root)
    assert invoke("alias", SHIPPED, "candidate", "2", *models).exit_code == 0
    done = invoke("alias", SHIPPED, "stable", "candidate", *models)
    assert done.stdout == f"{SHIPPED}: stable = 2\n"
    assert repository.aliases(SHIPPED) == {"candidate": 2, "stable": 2}


def test_a_label_that_does_not_exist_is_refused_with_those_that_do(
    fails: Callable[..., str], repository: Repository
) -> None:
    line = fails("alias", SHIPPED, "stable", "canary", "--models", repository.root)
    assert "(aliases: stable)" in line
    assert "canary" not in line


def test_a_shadow_sees_a_share_and_is_shown_as_one(
    invoke: Invoke, repository: Repository, publish_again: Callable[[], int]
) -> None:
    publish_again()
    models = ("--models", repository.root)
    done = invoke("alias", SHIPPED, "candidate", "2", "--shadow", "--share", "0.25", *models)
    assert done.stdout == f"{SHIPPED}: candidate = 2 (a shadow, of 25% of the requests)\n"
    assert repository.shadows(SHIPPED) == {"candidate": Alias(2, 0.25)}
    assert invoke("alias", SHIPPED, "candidate", "2", "--shadow", *models).exit_code == 0
    assert repository.shadows(SHIPPED) == {"candidate": Alias(2, 1.0)}
    assert invoke("alias", SHIPPED, "candidate", "2", *models).exit_code == 0
    assert repository.shadows(SHIPPED) == {}


def test_stable_answers_and_is_no_shadow(fails: Callable[..., str], repository: Repository) -> None:
    assert "cannot be a shadow" in fails("alias", SHIPPED, "stable", "1", "--shadow", "--models", repository.root)


def test_a_share_without_a_shadow_is_bad_usage(invoke: Invoke, repository: Repository) -> None:
    assert invoke("alias", SHIPPED, "a", "1", "--share", "0.5", "--models", repository.root).exit_code == 2
    assert invoke("alias", SHIPPED, "a", "1", "--shadow", "--share", "0", "--models", repository.root).exit_code == 2


def test_who_moved_what_and_why_is_recorded(
    invoke: Invoke,
    repository: Repository,
    publish_again: Callable[[], int],
    record: Callable[[], list[dict[str, Any]]],
) -> None:
    publish_again()
    models = ("--models", repository.root)
    words = ("--reason", "calibration in force is off", "--by", "dr. li")
    assert invoke("alias", SHIPPED, "stable", "2", *words, *models).exit_code == 0
    assert invoke("alias", SHIPPED, "canary", "1", "--shadow", *models).exit_code == 0
    assert invoke("alias", SHIPPED, "canary", "--remove", *models).exit_code == 0
    moved, shadow, removed = record()
    digest = repository.bundle(SHIPPED, 2).digest
    assert moved == {
        "model": SHIPPED,
        "label": "stable",
        "before": 1,
        "after": 2,
        "digest": digest,
        "share": None,
        "by": "dr. li",
        "reason": "calibration in force is off",
    }
    assert (shadow["share"], shadow["before"], shadow["after"]) == (1.0, None, 1)
    assert (removed["before"], removed["after"], removed["digest"]) == (1, None, None)
    assert shadow["by"]


@pytest.mark.usefixtures("record")
def test_what_cannot_be_recorded_is_not_done(
    invoke: Invoke, fails: Callable[..., str], repository: Repository, publish_again: Callable[[], int], place: Path
) -> None:
    publish_again()
    models = ("--models", repository.root)
    (place / "audit.db").write_bytes(b"no database" * 1000)
    line = fails("alias", SHIPPED, "stable", "2", *models)
    assert "the alias was not moved (--unrecorded moves it all the same)" in line
    assert repository.aliases(SHIPPED) == {"stable": 1}
    done = invoke("alias", SHIPPED, "stable", "2", "--unrecorded", *models)
    assert done.exit_code == 0
    assert "warning: not recorded" in done.stderr
    assert repository.aliases(SHIPPED) == {"stable": 2}


def test_without_a_record_a_note_states_that_the_reason_is_not_kept(
    invoke: Invoke, repository: Repository, place: Path
) -> None:
    models = ("--models", repository.root)
    done = invoke("alias", SHIPPED, "stable", "1", "--reason", "why", *models)
    assert "who and why are not kept" in done.stderr
    assert invoke("alias", SHIPPED, "stable", "1", *models).stderr == ""
    assert not place.exists()
