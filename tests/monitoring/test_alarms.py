from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.bundle.scores import restore_reference
from service.core.numerics import log_softmax
from service.monitoring.alarm_rows import AnsweredRow, Picked
from service.monitoring.alarm_state import Progress
from service.monitoring.alarms import (
    Watched,
    acknowledge,
    alarms_of,
    look,
    record_alarms,
)
from service.store.engine import Store, open_store
from service.store.entries import Ascertainment, Event, Outcome, Write
from tests.shipped_model import SHIPPED
from tests.store.kept import FixedSigner, kept

CLASSES = ["benign", "malignant"]
BUNDLE = Repository(SHIPPED).bundle("breast-cancer", 1)
SCORES = ("nll", "mahalanobis")


class Constant:
    """Every row was answered the same, with scores in the middle of those of calibration."""

    def rows(self, store: Store, picked: Sequence[Picked]) -> list[AnsweredRow | None]:
        """The same for all."""
        del store
        scores = {name: float(np.median(restore_reference(name, BUNDLE.state).scores)) for name in SCORES}
        return [AnsweredRow(log_softmax(np.array([[2.0, 0.0]])), scores, None) for _ in picked]


WATCHED = replace(Watched.of(BUNDLE), reader=Constant())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/audit.db", signer=FixedSigner())
    yield opened
    opened.close()


def outcome(request_id: str, row: int, truth: str, *, ascertainment: Ascertainment = "routine") -> Outcome:
    return Outcome(request_id, row, f'"{truth}"', 1, 1, None, ascertainment, "key:ward-3")


def answered(store: Store, rows: int, *, subjects: bytes | None = None, shadow_of: str | None = None) -> str:
    request_id, write = kept(CLASSES, rows=rows)
    record = replace(write.predictions[0], subjects=subjects, shadow_of=shadow_of)
    store.write([replace(write, predictions=[record])])
    return request_id


def report(store: Store, *outcomes: Outcome) -> None:
    store.write([Write(outcomes=outcomes)])


def entered(store: Store) -> int:
    progress = look(store, WATCHED)
    assert progress is not None
    return progress.states["slope"].evidence.rows


def test_shares_of_all_tests_add_up_to_no_more_than_one() -> None:
    assert sum(test.share for test in WATCHED.tests) == pytest.approx(1.0)
    names = {"slope", "intercept:malignant", "score:nll", "score:mahalanobis"}
    assert {test.key for test in WATCHED.tests} == names | {f"{name}@screening" for name in names}


def test_outcomes_that_an_action_brought_about_do_not_enter(store: Store) -> None:
    name = answered(store, 3)
    report(store, outcome(name, 0, "benign"), outcome(name, 1, "benign", ascertainment="action"))
    report(store, outcome(name, 2, "malignant", ascertainment="audit"))
    assert entered(store) == 2


def test_corrections_and_repeats_change_nothing(store: Store) -> None:
    name = answered(store, 1)
    report(store, outcome(name, 0, "benign"))
    first = look(store, WATCHED)
    report(store, outcome(name, 0, "malignant"))
    second = look(store, WATCHED)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.states["slope"].memory, second.states["slope"].memory)


def test_a_subject_counts_once(store: Store) -> None:
    name = answered(store, 3, subjects=b"a" * 16 + b"b" * 16 + b"a" * 16)
    report(store, *(outcome(name, row, "benign") for row in range(3)))
    assert entered(store) == 2


def test_rows_without_a_subject_all_count(store: Store) -> None:
    name = answered(store, 3, subjects=bytes(48))
    report(store, *(outcome(name, row, "benign") for row in range(3)))
    assert entered(store) == 3


def test_shadows_and_what_was_not_delivered_are_left_out(store: Store) -> None:
    shadow, lost = answered(store, 1, shadow_of="another"), answered(store, 1)
    report(store, outcome(shadow, 0, "benign"), outcome(lost, 0, "benign"))
    store.write([Write(events=[Event(1_767_225_600_000_001, "undelivered", f'{{"request_id": "{lost}"}}')])])
    assert entered(store) == 0


def test_the_state_is_the_same_however_outcomes_are_cut_into_looks(tmp_path: Path) -> None:
    texts = []
    for most in (1, 7, 1000):
        store = open_store(f"sqlite:///{tmp_path}/{most}.db", signer=FixedSigner())
        name = answered(store, 20)
        report(store, *(outcome(name, row, CLASSES[row % 3 == 0]) for row in range(20)))
        for _ in range(20):
            look(store, WATCHED, most=most)
        texts.append(store.state(WATCHED.state_name))
        store.close()
    assert texts[0] == texts[1] == texts[2]


def test_of_two_looks_at_the_same_time_one_counts(store: Store, tmp_path: Path) -> None:
    name = answered(store, 2)
    report(store, *(outcome(name, row, "benign") for row in range(2)))

    class Meanwhile(Constant):
        def rows(self, store: Store, picked: Sequence[Picked]) -> list[AnsweredRow | None]:
            """Another process looks while this one reads."""
            look(other, WATCHED)
            return super().rows(store, picked)

    other = open_store(f"sqlite:///{tmp_path}/audit.db")
    assert look(store, replace(WATCHED, reader=Meanwhile())) is None
    assert entered(store) == 2
    other.close()


def raised(store: Store) -> Progress:
    name = answered(store, 400)
    report(store, *(outcome(name, row, "malignant") for row in range(400)))
    progress = look(store, WATCHED)
    assert progress is not None
    return progress


def test_an_alarm_is_raised_once(store: Store) -> None:
    progress = raised(store)
    new = record_alarms(store, WATCHED, progress, now=5)
    assert "intercept:malignant" in {alarm.test for alarm in new}
    assert record_alarms(store, WATCHED, progress, now=6) == []
    assert {alarm.raised for alarm in alarms_of(store, model="breast-cancer")} == {5}


def test_an_acknowledged_alarm_stays_acknowledged(store: Store) -> None:
    record_alarms(store, WATCHED, raised(store), now=5)
    assert acknowledge(store, "breast-cancer", 1, by="root", reason="new clinic", now=6)
    assert all(alarm.acknowledged for alarm in alarms_of(store))
    assert not acknowledge(store, "breast-cancer", 1, by="root", reason=None, now=7)


def test_the_state_of_another_version_is_not_taken_over(store: Store) -> None:
    name = answered(store, 1)
    report(store, outcome(name, 0, "benign"))
    assert entered(store) == 1
    text = store.state(WATCHED.state_name)
    assert Progress.read(text, "sha256:another", WATCHED.tests).arrival == 0
