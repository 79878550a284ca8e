"""Quotas: exact in one process, nearly so in several, and a refusal says when to come back."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.caller import ANONYMOUS, Caller
from service.access.quotas import MINUTE, Quotas
from service.access.shared_counts import SharedCounts
from service.errors import QuotaExceeded
from tests.manual_clock import START, Clock

EHR = Caller("key:ehr", frozenset(), requests=10, rows=100)
SENDS = """
import sys, time
from pathlib import Path
from service.access.caller import Caller
from service.access.quotas import Quotas
from service.access.shared_counts import SharedCounts
from service.errors import QuotaExceeded
number, folder = int(sys.argv[1]), Path(sys.argv[2])
quotas = Quotas(SharedCounts.joined(folder, 4), clock=lambda: 6030.5)
caller = Caller("key:ehr", frozenset(), requests=2000)
print("ready", flush=True)
sys.stdin.readline()
accepted = 0
for i in range(800 * number):
    try:
        quotas.charge_request(caller)
    except QuotaExceeded:
        continue
    accepted += 1
print(accepted)
"""


def accepted(quotas: Quotas, caller: Caller, attempts: int) -> int:
    """How many of so many requests are within the quota."""
    count = 0
    for _ in range(attempts):
        try:
            quotas.charge_request(caller)
        except QuotaExceeded:
            continue
        count += 1
    return count


def refused_for(quotas: Quotas, caller: Caller, rows: int) -> float | None:
    """Seconds after which a refused request fits; None where it fits now."""
    try:
        quotas.charge_rows(caller, rows)
    except QuotaExceeded as error:
        return error.seconds
    return None


def test_one_process_is_exact() -> None:
    assert accepted(Quotas(SharedCounts.alone(), clock=Clock()), EHR, 1_000) == 10


def test_the_minute_slides() -> None:
    clock = Clock()
    quotas = Quotas(SharedCounts.alone(), clock=clock)
    for pause, expected in ((0, 4), (30, 6), (30, 0), (1, 4), (30, 6), (200, 10)):  # 4, then all that is left
        clock.now += pause
        assert accepted(quotas, EHR, 4 if pause == 0 else 50) == expected


@given(st.lists(st.floats(0, 30), max_size=200), st.integers(1, 20))
def test_no_sixty_seconds_have_more_than_the_quota(pauses: list[float], limit: int) -> None:
    clock, caller = Clock(), Caller("key:a", frozenset(), requests=limit)
    quotas, times = Quotas(SharedCounts.alone(), clock=clock), list[float]()
    for pause in pauses:
        clock.now += pause
        times += [clock.now] * accepted(quotas, caller, 1)
    assert all(sum(start <= time < start + MINUTE for time in times) <= limit for start in times)


@pytest.mark.parametrize("start", [0.0, 15.5, 30.0, 59.9])
def test_a_caller_that_sends_all_the_time_gets_its_quota(start: float) -> None:
    clock = Clock(START + start)
    quotas, caller = Quotas(SharedCounts.alone(), clock=clock), Caller("key:a", frozenset(), requests=600)
    count = 0
    for i in range(9_000):  # five minutes at three times the quota
        clock.now = START + start + i / 30
        count += accepted(quotas, caller, 1)
    assert 0.95 * 5 * 600 <= count <= 5 * 600


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 40)), max_size=30))
def test_what_is_refused_fits_after_the_seconds_that_the_refusal_names(sent: list[tuple[float, int]]) -> None:
    clock, caller = Clock(), Caller("key:a", frozenset(), rows=40)
    quotas = Quotas(SharedCounts.alone(), clock=clock)
    for pause, rows in sent:
        clock.now += pause
        seconds = refused_for(quotas, caller, rows)
        if seconds is not None:
            assert 1 <= seconds <= MINUTE + 1
            clock.now += math.ceil(seconds)
            quotas.charge_rows(caller, rows)


def test_a_refused_request_costs_nothing() -> None:
    quotas = Quotas(SharedCounts.alone(), clock=Clock())
    quotas.charge_rows(EHR, 60)
    for _ in range(100):
        with pytest.raises(QuotaExceeded):
            quotas.charge_rows(EHR, 41)
    quotas.charge_rows(EHR, 40)


def test_requests_and_rows_are_counted_apart() -> None:
    quotas = Quotas(SharedCounts.alone(), clock=Clock())
    quotas.charge_rows(EHR, 100)
    assert accepted(quotas, EHR, 20) == 10


def test_callers_are_counted_apart() -> None:
    quotas = Quotas(SharedCounts.alone(), requests=3, clock=Clock())
    names = [Caller(f"key:{i}", frozenset()) for i in range(200)]
    assert [accepted(quotas, caller, 5) for caller in names] == [3] * 200


@pytest.mark.parametrize(("own", "setting", "expected"), [(0, 0, 50), (0, 7, 7), (20, 7, 20), (5, 0, 5)])
def test_a_callers_own_number_comes_before_the_setting(own: int, setting: int, expected: int) -> None:
    quotas = Quotas(SharedCounts.alone(), requests=setting, clock=Clock())
    assert accepted(quotas, Caller("key:a", frozenset(), requests=own), 50) == expected


def test_everyone_without_a_credential_shares_the_setting() -> None:
    quotas = Quotas(SharedCounts.alone(), requests=4, clock=Clock())
    assert accepted(quotas, ANONYMOUS, 10) == 4
    assert accepted(Quotas(SharedCounts.alone(), clock=Clock()), ANONYMOUS, 1_000) == 1_000


def test_more_rows_than_a_minutes_are_refused_with_advice() -> None:
    quotas = Quotas(SharedCounts.alone(), clock=Clock())
    with pytest.raises(QuotaExceeded, match="may send 100 rows in a minute; send fewer at a time") as raised:
        quotas.charge_rows(EHR, 101)
    assert (raised.value.unit, raised.value.limit, raised.value.seconds) == ("rows", 100, 60)


def test_unevenly_spread_connections_have_one_quota(tmp_path: Path) -> None:
    rng, clock = np.random.default_rng(0), Clock()
    workers = [Quotas(SharedCounts.joined(tmp_path, 4), clock=clock) for _ in range(4)]
    caller = Caller("key:ehr", frozenset(), requests=600)
    counts = dict.fromkeys(range(3), 0)
    for i in range(5_490):  # three times 61 seconds at three times the quota
        clock.now = START + i / 30
        worker = workers[rng.choice(4, p=[0.85, 0.1, 0.05, 0.0])]
        counts[i // 1830] += accepted(worker, caller, 1)
    assert all(0.95 * 600 <= count <= 1.05 * 600 for count in counts.values())


def test_processes_that_count_at_the_same_time_are_within_five_percent(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SENDS, str(number), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2, 5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert 2000 <= sum(outputs) <= 2000 * 1.05
