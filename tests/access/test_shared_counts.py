"""Counts of several processes: nothing is counted twice or lost, and what ended is taken over."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.shared_counts import BUCKETS, COUNT, WAYS, WORD, WORDS_OF_A_REGION, SharedCounts

ENDS = """
import os, sys
from pathlib import Path
from service.access.shared_counts import SharedCounts
counts = SharedCounts.joined(Path(sys.argv[1]), 2)
counts.add("key:a", "requests", 7, 5)
os._exit(9)
"""


@pytest.fixture
def several(tmp_path: Path) -> Iterator[list[SharedCounts]]:
    workers = [SharedCounts.joined(tmp_path, 3) for _ in range(3)]
    yield workers
    for worker in workers:
        worker.leave()


@given(charges=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 100))))
def test_totals_are_what_all_counted_in_this_minute_and_the_one_before(
    charges: list[tuple[int, str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("counts")
    workers = [SharedCounts.joined(folder, 3) for _ in range(3)]
    in_order = sorted(charges, key=lambda charge: charge[2])  # time goes on
    for number, name, minute, amount in in_order:
        workers[number].add(name, "rows", minute, amount)
    last = in_order[-1][2] if in_order else 0
    for name in "ab":
        expected = tuple(sum(one[3] for one in in_order if one[1:3] == (name, last - age)) for age in (0, 1))
        assert {worker.totals(name, "rows", last) for worker in workers} == {expected}
        assert workers[0].totals(name, "requests", last) == (0, 0)
    for worker in workers:
        worker.leave()


def test_past_minutes_count_no_longer(several: list[SharedCounts]) -> None:
    several[0].add("key:a", "requests", 10, 4)
    assert [several[1].totals("key:a", "requests", minute) for minute in range(9, 14)] == [
        (0, 0),
        (4, 0),
        (0, 4),
        (0, 0),
        (0, 0),
    ]


def test_every_worker_has_a_region_of_its_own(several: list[SharedCounts]) -> None:
    assert len({worker._own for worker in several}) == 3


def test_the_region_of_a_process_that_was_killed_is_taken_over_with_its_counts(tmp_path: Path) -> None:
    for _ in range(12):  # more than there are regions
        done = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path)], check=False)
        assert done.returncode == 9
    counts = SharedCounts.joined(tmp_path, 2)
    assert counts.totals("key:a", "requests", 7) == (60, 0)
    counts.leave()


def test_a_process_without_a_free_region_counts_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = [SharedCounts.joined(tmp_path, 1) for _ in range(3)]
    held[0].add("key:a", "requests", 1, 5)
    assert "counts for itself" not in caplog.text
    extra = SharedCounts.joined(tmp_path, 1)
    assert "counts for itself" in caplog.text
    assert extra.totals("key:a", "requests", 1) == (0, 0)
    for counts in held:
        counts.leave()


def test_more_callers_than_there_is_room_for_push_out_those_who_sent_least() -> None:
    counts = SharedCounts.alone()
    counts.add("key:busy", "requests", 1, 1_000)
    for i in range(3 * BUCKETS * WAYS):
        counts.add(f"jwt:a|{i}", "requests", 1, 1)
    assert counts.totals("key:busy", "requests", 1) == (1_000, 0)
    assert WORDS_OF_A_REGION * WORD < len(counts._memory) < 1 << 20
    assert len(counts._ways) <= BUCKETS * WAYS


def test_callers_of_past_minutes_make_room() -> None:
    counts = SharedCounts.alone()
    for i in range(3 * BUCKETS * WAYS):
        counts.add(f"jwt:a|{i}", "requests", 1, 1_000)
    names = [f"jwt:b|{i}" for i in range(BUCKETS)]
    for name in names:
        counts.add(name, "requests", 3, 1)
    assert {counts.totals(name, "requests", 3) for name in names} == {(1, 0)}


def test_a_count_never_runs_into_its_minute() -> None:
    counts = SharedCounts.alone()
    for _ in range(3):
        counts.add("key:a", "rows", 5, COUNT)
    assert counts.totals("key:a", "rows", 5) == (COUNT, 0)
