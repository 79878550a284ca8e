"""Whatever a child does to itself, its parent learns of it in time, and nothing is left of the child."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.runtime.limited_process import GIBIBYTE, OUT_OF_MEMORY, Ended, LimitedProcess, Limits, limited_process

MODULE = "tests.runtime.obedient_process"
ROOT = Path(__file__).parents[2]
PLENTY = Limits(seconds=20.0, memory=GIBIBYTE)
PARENT = f"""
from service.runtime.limited_process import Limits, limited_process
with limited_process("{MODULE}") as child:
    print(child.answer({{"act": "say limits"}}, Limits(20.0, 1 << 30))["pid"], flush=True)
    child.answer({{"act": "never end", "busy": True}}, Limits(600.0, 1 << 30))
"""


@pytest.fixture
def child() -> Iterator[LimitedProcess]:
    with limited_process(MODULE) as running:
        yield running


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20.0
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_each_request_has_one_answer(child: LimitedProcess) -> None:
    assert [child.answer({"act": "fill memory", "bytes": size}, PLENTY) for size in (1, 2)] == [
        {"filled": 1},
        {"filled": 2},
    ]


def test_what_a_library_prints_is_no_answer(child: LimitedProcess) -> None:
    assert "at" in child.answer({"act": "print", "text": '{"error": null}'}, PLENTY)


def test_an_error_of_the_service_is_answered_and_the_child_goes_on(child: LimitedProcess) -> None:
    assert child.answer({"act": "fail", "text": "why"}, PLENTY) == {"error": "why"}
    assert child.is_usable
    assert child.answer({"act": "fill memory", "bytes": 1}, PLENTY) == {"filled": 1}


def test_an_error_of_any_length_is_answered(child: LimitedProcess) -> None:
    error = child.answer({"act": "fail", "text": "\u2028" * 200_000}, PLENTY)["error"]
    assert 1000 < len(error) < 200_000
    assert child.is_usable


@pytest.mark.parametrize("busy", [True, False])
def test_a_request_without_end_is_stopped_when_its_time_is_over(child: LimitedProcess, *, busy: bool) -> None:
    began = time.monotonic()
    with pytest.raises(Ended) as ended:
        child.answer({"act": "never end", "busy": busy}, Limits(0.3, GIBIBYTE))
    assert (ended.value.late, child.is_usable) == (True, False)
    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        ({"act": "die", "signal": signal.SIGSEGV}, "signal SIGSEGV"),
        ({"act": "die", "signal": signal.SIGKILL}, "signal SIGKILL"),
        ({"act": "exit", "code": 3}, "exit code 3"),
        ({"act": "no such act"}, "exit code 1"),
    ],
)
def test_a_death_is_reported_with_its_cause(child: LimitedProcess, request_: dict[str, object], cause: str) -> None:
    with pytest.raises(Ended) as ended:
        child.answer(request_, PLENTY)
    assert (ended.value.late, ended.value.cause) == (False, cause)
    with pytest.raises(Ended):
        child.answer({"act": "say limits"}, PLENTY)


def test_processor_time_beyond_all_patience_counts_as_late(child: LimitedProcess) -> None:
    with pytest.raises(Ended) as ended:
        child.answer({"act": "die", "signal": signal.SIGXCPU}, PLENTY)
    assert ended.value.late


def test_memory_beyond_the_limit_is_refused_and_a_higher_limit_gives_it() -> None:
    request = {"act": "fill memory", "bytes": 200 << 20}
    with limited_process(MODULE) as child:
        assert child.answer(request, Limits(20.0, 100 << 20)) == {"error": OUT_OF_MEMORY}
        assert not child.is_usable
    with limited_process(MODULE) as child:
        assert child.answer({**request, "bytes": 1}, Limits(20.0, 1 << 20)) == {"filled": 1}
        assert child.answer(request, Limits(20.0, 300 << 20)) == {"filled": 200 << 20}


def test_it_leaves_no_core_and_its_processor_time_is_bounded(child: LimitedProcess) -> None:
    limits = child.answer({"act": "say limits"}, Limits(5.0, GIBIBYTE))
    assert limits["core"] == 0
    assert 5 < limits["cpu"] < 20


def test_the_end_of_the_context_is_the_end_of_the_child() -> None:
    with limited_process(MODULE) as child:
        pid = child.answer({"act": "say limits"}, PLENTY)["pid"]
        assert is_running(pid)
    assert not is_running(pid)


def test_nothing_survives_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until_gone(pid)


def test_the_child_may_be_ended_from_another_thread(child: LimitedProcess) -> None:
    from threading import Timer

    ending = Timer(0.2, child.kill)
    ending.start()
    with pytest.raises(Ended) as ended:
        child.answer({"act": "never end", "busy": False}, PLENTY)
    assert not ended.value.late
    ending.join()
