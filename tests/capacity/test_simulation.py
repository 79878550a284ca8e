"""The simulation beside closed forms of queueing theory, each of which is a limit of what it can describe."""

import math
from dataclasses import replace

import numpy as np
import pytest

from service.capacity.offered_load import unit_moments
from service.capacity.request_costs import Costs
from service.capacity.simulation import Process, Simulated, simulate

LONG = 1e9
"""Seconds that a request may wait: none is refused."""
MANY = 200_000


def simulated(costs: Costs, rate: float, *, burst: float = 1.0, requests: int = MANY) -> Simulated:
    return simulate(costs, rate, requests=requests, burst=burst, queue_seconds=LONG, seed=3)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seconds", [5e-4, 5e-3])
def test_without_coalescing_the_wait_is_that_of_an_m_d_1_queue(load: float, seconds: float) -> None:
    # Pollaczek-Khinchine; the short run happens on the event loop, the long one on the thread.
    seen = simulated(Costs(run_seconds=seconds, batch_rows=1), load / seconds)
    wait = load * seconds / (2.0 * (1.0 - load))
    assert seen.latencies.mean() - seconds == pytest.approx(wait, rel=0.05)
    assert seen.busy == pytest.approx(load, rel=0.02)
    assert seen.requests_per_run == 1.0


@pytest.mark.parametrize("burst", [2.0, 8.0])
def test_bursts_wait_as_in_a_queue_with_batch_arrivals(burst: float) -> None:
    seconds, load = 5e-4, 0.5
    seen = simulated(Costs(run_seconds=seconds, batch_rows=1), load / seconds, burst=burst)
    # Of a geometric number X with mean b, E[X^2] / E[X] = 2 b - 1.
    wait = (load * seconds + (2.0 * burst - 2.0) * seconds) / (2.0 * (1.0 - load))
    assert seen.latencies.mean() - seconds == pytest.approx(wait, rel=0.05)


@pytest.mark.parametrize("arrivals", [0.1, 1.0, 5.0])
def test_with_coalescing_a_run_serves_all_that_came_during_the_last_one(arrivals: float) -> None:
    # Bulk service without a limit: after a run with n arrivals the next serves n, or one that comes later where n = 0.
    # Long runs happen on the thread. A short one, after a time without load, is for the first alone.
    seconds = 5e-3
    seen = simulated(Costs(run_seconds=seconds), arrivals / seconds)
    batch = arrivals + math.exp(-arrivals)
    busy = arrivals / batch
    assert seen.requests_per_run == pytest.approx(batch, rel=0.02)
    assert seen.busy == pytest.approx(busy, rel=0.02)
    assert seen.latencies.mean() == pytest.approx(seconds * (1.0 + 0.5 * busy), rel=0.02)


@pytest.mark.parametrize("arrivals", [0.1, 1.0, 5.0])
def test_records_that_wait_together_are_one_group(arrivals: float) -> None:
    seen = simulated(Costs(commit_seconds=1e-3), arrivals / 1e-3)
    assert seen.records_per_commit == pytest.approx(arrivals + math.exp(-arrivals), rel=0.03)
    assert seen.quantile(0.0) == pytest.approx(1e-3)


def test_a_commit_takes_longer_while_the_event_loop_works() -> None:
    calm = Costs(request_seconds=1e-4, turn_seconds=1e-4, joint_turn_seconds=1e-4, commit_seconds=5e-4)
    contended = replace(calm, commit_contention_seconds=2e-3)
    seldom, often = 10.0, 5000.0
    assert simulated(contended, seldom, requests=2000).quantile(0.5) == pytest.approx(calm.alone_seconds)
    one, other = (simulated(costs, often, requests=20_000) for costs in (calm, contended))
    assert other.latencies.mean() > 1.2 * one.latencies.mean()
    assert other.records_per_commit > 1.2 * one.records_per_commit


def test_a_request_that_meets_no_other_takes_what_its_costs_add_up_to() -> None:
    costs = Costs(
        rows=4,
        request_seconds=1e-4,
        row_seconds=1e-6,
        turn_seconds=2e-4,
        run_seconds=5e-5,
        run_row_seconds=1e-6,
        commit_seconds=3e-4,
        commit_record_seconds=2e-5,
        commit_processor_seconds=1e-4,
        transport_seconds=1e-3,
    )
    seen = Process(costs, [1.0, 2.0, 3.0]).run()
    assert seen.latencies.tolist() == pytest.approx([costs.alone_seconds] * 3)


def test_more_requests_than_there_is_capacity_for_are_refused_and_those_answered_wait_no_longer_than_allowed() -> None:
    costs = Costs(request_seconds=1e-5, run_seconds=2e-3, run_row_seconds=1e-3)
    seen = simulate(costs, 3000.0, requests=20_000, queue_seconds=0.2)
    assert 0.5 < seen.refused < 0.8
    assert seen.quantile(0.99) < 2.0 * 0.2


def test_every_request_is_answered_or_refused() -> None:
    for rate in (10.0, 1000.0, 100_000.0):
        process = Process(Costs(run_seconds=2e-3, run_row_seconds=1e-4), (unit_moments(1000, seed=0) / rate).tolist())
        seen = process.run()
        assert len(seen.latencies) + round(1000 * seen.refused) >= 950  # without those of the warm-up
        assert (seen.latencies > 0.0).all()


def test_arrivals_that_a_proxy_spreads_at_random_make_every_process_a_process_of_its_own() -> None:
    costs = Costs(request_seconds=5e-5, turn_seconds=1e-4, joint_turn_seconds=2e-4, run_seconds=5e-5)
    moments = unit_moments(MANY, seed=5) / 12_000.0
    mine = moments[np.random.default_rng(6).random(MANY) < 0.25]
    one, alone = Process(costs, mine.tolist()).run(), simulate(costs, 3000.0, requests=50_000)
    assert one.latencies.mean() == pytest.approx(alone.latencies.mean(), rel=0.03)
    assert one.requests_per_run == pytest.approx(alone.requests_per_run, rel=0.03)


def test_the_same_seed_gives_the_same_answer() -> None:
    costs = Costs(request_seconds=1e-4, run_seconds=1e-4)
    one, same, other = (simulate(costs, 2000.0, requests=1000, seed=seed).latencies for seed in (1, 1, 2))
    assert (one == same).all()
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("burst", [1.0, 5.0])
def test_arrivals_have_the_rate_that_is_given_and_bursts_of_the_mean_size(burst: float) -> None:
    moments = unit_moments(MANY, burst=burst, seed=0)
    assert moments[-1] == pytest.approx(MANY, rel=0.03)
    assert len(set(moments.tolist())) == pytest.approx(MANY / burst, rel=0.03)
