from dataclasses import replace

import numpy as np
import pytest

from service.capacity.cost_fit import Observed, commit_contention, commit_costs, processor_costs
from service.capacity.request_costs import CapacityError, Costs
from service.runtime.timing import RunTime

RUN_TIME = RunTime(5e-5, 1e-6)
REQUEST, ROW, TURN, JOINT = 6e-5, 4e-6, 2e-4, 3e-4
LOADS = ((1000, 1000, 1000), (4000, 4000, 500), (9000, 9000, 150), (800, 12_800, 800), (2000, 32_000, 250))


def observed(run_time: RunTime = RUN_TIME, *, noise: float = 0.0) -> list[Observed]:
    """What a process with known costs does under several loads; its runs happen on the event loop."""
    factors = np.random.default_rng(0).uniform(1.0 - noise, 1.0 + noise, len(LOADS))
    found = []
    for (requests, rows, runs), factor in zip(LOADS, factors, strict=True):
        turns = runs * (JOINT if requests > runs else TURN)
        seconds = requests * REQUEST + rows * ROW + turns + runs * run_time.fixed + rows * run_time.per_row
        found.append(Observed(requests, rows, runs, factor * seconds))
    return found


def test_known_costs_are_found_again() -> None:
    assert processor_costs(observed(), RUN_TIME) == pytest.approx((REQUEST, ROW, TURN, JOINT))


def test_some_noise_moves_what_a_request_takes_by_little() -> None:
    request, row, turn, _ = processor_costs(observed(noise=0.05), RUN_TIME)
    assert request + row == pytest.approx(REQUEST + ROW, rel=0.2)
    assert turn == pytest.approx(TURN, rel=0.3)


def test_no_cost_is_below_zero() -> None:
    cheap = [replace(one, loop_seconds=1e-6 * one.runs) for one in observed()]
    assert min(processor_costs(cheap, RunTime())) >= 0.0


def test_runs_on_a_thread_are_no_time_of_the_event_loop() -> None:
    slow = RunTime(5e-3, 1e-4)
    quick = [replace(one, loop_seconds=one.loop_seconds) for one in observed(RunTime())]
    assert processor_costs(quick, slow) == pytest.approx((REQUEST, ROW, TURN, JOINT))


def test_too_few_requests_are_an_error() -> None:
    with pytest.raises(CapacityError, match="give it more seconds"):
        processor_costs([Observed(3, 3, 3, 1e-3)], RUN_TIME)


def test_commits_are_a_fixed_part_and_one_of_every_record() -> None:
    groups = [(100, 100), (50, 400), (10, 500)]
    written = [
        Observed(1, 1, 1, 1.0, 1e-4 * n + 3e-5 * r, commits=n, records=r, commit_seconds=1e-3 * n + 2e-5 * r)
        for n, r in groups
    ]
    assert commit_costs(written, RunTime()) == pytest.approx((1e-3, 2e-5, 1e-4, 3e-5))
    assert commit_costs(observed(), RUN_TIME) == (0.0, 0.0, 0.0, 0.0)


def test_contention_is_what_commits_take_more_over_the_share_in_which_the_loop_works() -> None:
    costs = Costs(commit_seconds=1e-3, commit_record_seconds=1e-4)
    spread = Observed(100, 100, 100, 0.5, commits=10, records=20, commit_seconds=10 * 2e-3 + 20 * 1e-4, seconds=1.0)
    assert commit_contention(spread, costs) == pytest.approx(2e-3)
    assert commit_contention(replace(spread, commits=0), costs) == 0.0
    assert commit_contention(replace(spread, commit_seconds=0.0), costs) == 0.0
