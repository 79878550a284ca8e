import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from service.monitoring.alarm_rows import AnsweredRow, Picked
from service.monitoring.alarm_watch import LEASE_SECONDS, MICROSECONDS, AlarmWatch, leased
from service.monitoring.alarms import look
from service.record_errors import StoreDamaged
from service.store.engine import Store, open_store
from tests.monitoring.test_alarms import WATCHED, Constant, answered, outcome, report
from tests.store.kept import FixedSigner


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/audit.db", signer=FixedSigner())
    yield opened
    opened.close()


def watch(owner: str, *, now: int = 1) -> AlarmWatch:
    return AlarmWatch(owner, lambda: [WATCHED], Event(), lambda: now)


def drift(store: Store) -> None:
    name = answered(store, 400)
    report(store, *(outcome(name, row, "malignant") for row in range(400)))


def test_one_process_looks_at_a_time_and_a_lease_runs_out(store: Store) -> None:
    assert leased(store, "one", now=0)
    assert leased(store, "one", now=1)
    assert not leased(store, "two", now=2)
    assert leased(store, "two", now=1 + LEASE_SECONDS * MICROSECONDS)
    assert not leased(store, "one", now=2 + LEASE_SECONDS * MICROSECONDS)


def test_a_look_without_the_lease_shows_alarms_and_raises_none(store: Store) -> None:
    drift(store)
    leased(store, "another", now=0)
    assert watch("one").look(store) == []
    assert store.state(WATCHED.state_name) is None


def test_an_alarm_is_logged_once_by_whichever_process_looks(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    drift(store)
    with caplog.at_level(logging.WARNING, logger="temperance"):
        first = watch("one").look(store)
        second = watch("two").look(store)
    assert first == second != []
    assert len(caplog.records) == len(first)


def test_an_alarm_that_was_kept_but_not_written_is_written_by_the_next_look(store: Store) -> None:
    drift(store)
    look(store, WATCHED)  # the process ends here
    assert watch("two").look(store) != []


def test_evidence_begins_at_nothing_and_is_the_same_from_every_process(store: Store) -> None:
    first, second = watch("one"), watch("two")
    assert {(test.outcomes, abs(round(test.share, 9))) for test in first.evidence(store)} == {(0, 0.0)}
    drift(store)
    alarms = {alarm.test for alarm in first.look(store)}
    assert second.evidence(store) == first.evidence(store)
    assert alarms <= {test.test for test in second.evidence(store) if test.outcomes}


class Damaged(Constant):
    """A record that cannot be read."""

    def rows(self, store: Store, picked: Sequence[Picked]) -> list[AnsweredRow | None]:
        """Never."""
        del store, picked
        raise StoreDamaged("a record lacks its schema")


def test_a_damaged_record_of_one_version_stops_no_other_version(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    drift(store)
    damaged = replace(WATCHED, reader=Damaged(), version=1, digest="sha256:other")
    both = AlarmWatch("one", lambda: [damaged, WATCHED], Event(), lambda: 1)
    with caplog.at_level(logging.WARNING, logger="temperance"):
        assert both.look(store) != []
    assert "no alarms of breast-cancer version 1: a record lacks its schema" in caplog.messages
    assert leased(store, "two", now=2)
