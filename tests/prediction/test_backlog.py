"""Requests are admitted by the time that they would wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Overloaded
from service.prediction.backlog import LONGEST_ADVICE, Backlog
from service.runtime.timing import RunTime
from tests.manual_clock import Clock

SECONDS = 0.25
ROW = RunTime(0.0, 0.01)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(ROW, seconds=SECONDS, clock=clock)


def admits(backlog: Backlog, caller: str = "a", rows: int = 1, *, deadline: float | None = None) -> bool:
    try:
        backlog.check(caller=caller, rows=rows, deadline=deadline)
    except Overloaded:
        return False
    return True


@given(st.integers(1, 10**6), st.floats(1e-6, 1e3), st.floats(0.0, 10.0))
def test_a_request_that_is_alone_is_admitted_whatever_its_size(rows: int, per_row: float, fixed: float) -> None:
    assert admits(Backlog(RunTime(fixed, per_row), seconds=1e-3), rows=rows)


def test_as_much_is_admitted_as_is_worked_off_in_the_longest_wait(backlog) -> None:
    count = 0
    while admits(backlog):
        backlog.add("a", 1)
        count += 1
    assert count == pytest.approx(SECONDS / ROW.per_row, abs=1.0)


def test_a_run_under_way_is_waited_for_as_long_as_it_is_expected_to_take(backlog, clock) -> None:
    backlog.start(100)
    assert backlog.wait("a", 1) == pytest.approx(1.0)
    assert not admits(backlog)
    clock.now += 0.8
    assert backlog.wait("a", 1) == pytest.approx(0.2)
    assert admits(backlog)


def test_a_run_that_is_late_is_expected_to_take_as_long_again(backlog, clock) -> None:
    backlog.start(1)
    clock.now += 20.0
    assert backlog.wait("a", 1) == pytest.approx(20.0, abs=0.1)
    assert not admits(backlog)
    backlog.stop()
    assert admits(backlog)


def test_a_request_may_wait_twice_as_long_as_it_runs_itself(backlog) -> None:
    backlog.start(100)
    assert not admits(backlog, rows=45)
    assert admits(backlog, rows=55)


def test_requests_of_a_caller_wait_for_their_fair_part_of_those_of_others(backlog) -> None:
    backlog.start(1)
    backlog.add("noisy", 25)
    assert not admits(backlog, "noisy")
    assert backlog.wait("quiet", 2) == pytest.approx(0.01 + 0.02)
    assert admits(backlog, "quiet", 2)


def test_many_callers_wait_for_each_other(backlog) -> None:
    for caller in range(100):
        backlog.add(str(caller), 1)
    assert backlog.wait("new", 1) == pytest.approx(1.0)
    assert not admits(backlog, "new")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), max_size=30))
def test_no_request_waits_for_more_than_all_that_waits(others: list[tuple[str, int]]) -> None:
    backlog = Backlog(ROW, seconds=SECONDS)
    for caller, rows in others:
        backlog.add(caller, rows)
    for caller in "abcd":
        own = sum(rows for name, rows in others if name == caller)
        wait = backlog.wait(caller, 1)
        assert ROW.per_row * own <= wait + 1e-9
        assert wait <= ROW.per_row * sum(rows for _, rows in others) + 1e-9


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000), st.booleans()), max_size=40))
def test_after_any_requests_nothing_is_left(requests: list[tuple[str, int, bool]]) -> None:
    backlog = Backlog(ROW, seconds=SECONDS)
    waiting: list[tuple[str, int]] = []
    for caller, rows, leaves in requests:
        backlog.add(caller, rows)
        waiting.append((caller, rows))
        if leaves:
            backlog.remove(*waiting.pop(rows % len(waiting)))
    for request in waiting:
        backlog.remove(*request)
    assert backlog.is_short
    assert backlog.wait("a", 1) == 0.0


def test_rows_that_are_expected_count_until_they_are_there_or_failed(backlog) -> None:
    def broken() -> None:
        with backlog.expecting("a", 50):
            assert backlog.wait("a", 1) == pytest.approx(0.5)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert backlog.wait("a", 1) == 0.0


def test_a_request_that_would_not_be_answered_in_time_is_refused_at_once(backlog, clock) -> None:
    backlog.start(20)
    assert admits(backlog, deadline=clock.now + 0.3)
    assert not admits(backlog, deadline=clock.now + 0.2)


def test_a_request_alone_is_refused_only_if_no_run_was_ever_as_quick(backlog, clock) -> None:
    for _ in range(50):
        backlog.learn(1, 1.0)  # a slow time, which must not refuse all that come after it
    backlog.check_time(caller="a", rows=10, deadline=clock.now + 0.06)
    with pytest.raises(Overloaded):
        backlog.check_time(caller="a", rows=10, deadline=clock.now + 0.04)


def test_what_runs_take_is_learned_and_one_pause_is_no_measurement(backlog) -> None:
    backlog.learn(10, 100.0)
    assert backlog.cost(10) <= 0.2
    for _ in range(100):
        backlog.learn(10, 0.4)
    assert backlog.cost(10) == pytest.approx(0.4, rel=0.01)
    for _ in range(100):
        backlog.learn(10, 0.02)
    assert backlog.cost(10) == pytest.approx(0.02, rel=0.01)


def test_a_late_event_loop_makes_no_run_longer_and_joins_more_rows(backlog, clock) -> None:
    for _ in range(100):
        backlog.learn(10, 0.1, lag=1.0)
    assert backlog.cost(10) == pytest.approx(0.1)
    assert backlog.most_rows(1024) == pytest.approx(100, abs=1)
    backlog.start(10)
    clock.now += 1.0
    assert admits(backlog)


def test_a_run_joins_no_more_rows_than_later_requests_may_wait_for(backlog) -> None:
    assert backlog.most_rows(1024) == 6
    assert backlog.most_rows(4) == 4
    slow = Backlog(RunTime(1.0, 0.01), seconds=SECONDS)
    assert slow.most_rows(1024) == 100, "further rows take as long as the first at most"
    assert Backlog(seconds=SECONDS).most_rows(1024) == 1024
    assert Backlog(RunTime(0.0, 10.0), seconds=SECONDS).most_rows(1024) == 1


def test_refusals_spread_those_who_come_again(backlog) -> None:
    backlog.start(100)
    found = []
    for _ in range(200):
        with pytest.raises(Overloaded) as refused:
            backlog.check(caller="a", rows=1, deadline=None)
        found.append(refused.value.seconds)
    assert 1.0 <= min(found) < max(found) <= LONGEST_ADVICE
    assert len({round(seconds, 1) for seconds in found}) > 10
