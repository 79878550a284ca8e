"""Counts of several processes: nothing is counted twice or lost, and what ended is taken over."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.access.shared_counts import (
    BUCKETS,
    COUNT,
    LOOK_SECONDS,
    SECONDS,
    WAYS,
    WORD,
    WORDS_OF_A_REGION,
    SharedCounts,
)

ENDS = """
import os, sys
from pathlib import Path
from service.access.shared_counts import SharedCounts
counts = SharedCounts.joined(Path(sys.argv[1]), 2)
counts.add("key:a", "requests", 7.5, 5)
os._exit(9)
"""


@pytest.fixture
def several(tmp_path: Path) -> Iterator[list[SharedCounts]]:
    workers = [SharedCounts.joined(tmp_path, 3) for _ in range(3)]
    yield workers
    for worker in workers:
        worker.leave()


@settings(max_examples=40)
@given(charges=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.floats(0, 30), st.integers(1, 100))))
def test_what_is_sent_is_what_all_counted_in_the_last_minute(
    charges: list[tuple[int, str, float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("counts")
    workers = [SharedCounts.joined(folder, 3) for _ in range(3)]
    now, counted = 1000.0, list[tuple[str, float, int]]()
    for number, name, pause, amount in charges:
        now += pause + 2 * LOOK_SECONDS
        workers[number].add(name, "rows", now, amount)
        counted.append((name, now, amount))
        now += LOOK_SECONDS
        for one in "ab":
            expected = sum(many for other, at, many in counted if other == one and int(now) - int(at) < SECONDS)
            assert {worker.sent(one, "rows", now) for worker in workers} == {expected}
            assert sum(workers[0].by_age(one, "rows", now)) == expected
        assert workers[0].sent(name, "requests", now) == 0
    for worker in workers:
        worker.leave()


def test_what_is_older_than_a_minute_counts_no_longer(several: list[SharedCounts]) -> None:
    several[0].add("key:a", "requests", 1000.5, 4)
    several[0].add("key:a", "requests", 1030.5, 3)
    times = (1000.6, 1060.5, 1061.0, 1090.5, 1091.0, 5000.0)
    assert [several[1].sent("key:a", "requests", now) for now in times] == [7, 7, 3, 3, 0, 0]
    assert [several[0].sent("key:a", "requests", now) for now in times[1:]] == [7, 3, 3, 0, 0]


def test_every_worker_has_a_region_of_its_own(several: list[SharedCounts]) -> None:
    assert len({worker._own for worker in several}) == 3


def test_the_region_of_a_process_that_was_killed_is_taken_over_with_its_counts(tmp_path: Path) -> None:
    for _ in range(12):  # more than there are regions
        done = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path)], check=False)
        assert done.returncode == 9
    counts = SharedCounts.joined(tmp_path, 2)
    assert counts.sent("key:a", "requests", 8.0) == 60
    counts.leave()


def test_a_process_without_a_free_region_counts_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = [SharedCounts.joined(tmp_path, 1) for _ in range(3)]
    held[0].add("key:a", "requests", 1.0, 5)
    assert "counts for itself" not in caplog.text
    extra = SharedCounts.joined(tmp_path, 1)
    assert "counts for itself" in caplog.text
    assert extra.sent("key:a", "requests", 1.0) == 0
    for counts in held:
        counts.leave()


def test_more_callers_than_there_is_room_for_push_out_those_who_sent_least() -> None:
    counts = SharedCounts.alone()
    counts.add("key:busy", "requests", 1.0, 1_000)
    for i in range(BUCKETS * WAYS * 3 // 2):
        counts.add(f"jwt:a|{i}", "requests", 1.0, 1)
    assert counts.sent("key:busy", "requests", 1.0) == 1_000
    assert len(counts._windows["requests"]) <= BUCKETS * WAYS
    assert len(counts._names) <= BUCKETS * WAYS
    assert WORDS_OF_A_REGION * WORD < len(counts._memory) < 4 << 20


def test_a_caller_that_was_pushed_out_is_counted_anew_and_apart_from_others() -> None:
    counts = SharedCounts.alone()
    names = [f"jwt:a|{i}" for i in range(BUCKETS * WAYS * 3 // 2)]
    for _ in range(2):
        for name in names:
            before = counts.sent(name, "rows", 1.0)
            counts.add(name, "rows", 1.0, 7)
            assert counts.sent(name, "rows", 1.0) == before + 7
            assert before in {0, 7}


def test_callers_of_past_minutes_make_room() -> None:
    counts = SharedCounts.alone()
    for i in range(BUCKETS * WAYS * 3 // 2):
        counts.add(f"jwt:a|{i}", "requests", 1.0, 1_000)
    names = [f"jwt:b|{i}" for i in range(BUCKETS)]
    for name in names:
        counts.add(name, "requests", 100.0, 1)
    assert {counts.sent(name, "requests", 100.0) for name in names} == {1}


def test_a_count_never_runs_into_its_second() -> None:
    counts = SharedCounts.alone()
    for _ in range(3):
        counts.add("key:a", "rows", 5.0, COUNT)
    assert counts.sent("key:a", "rows", 5.0) == COUNT
    assert counts.sent("key:a", "rows", 5.0 + SECONDS) == 0
